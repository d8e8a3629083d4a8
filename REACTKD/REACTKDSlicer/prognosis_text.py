"""A prognosis in words and rows, as panel and nodes show it. Plain text, nothing escaped."""

from __future__ import annotations

from dataclasses import dataclass

from REACTKDLib.prognosis import report_words as words
from REACTKDLib.prognosis.types import CLINICAL, CT, RADIOMICS, PrognosisResult
from REACTKDLib.types import RESEARCH_USE, Notice

from .translation import tr as _

#: Missing variables that a line names.
_MANY = 8


@dataclass(frozen=True)
class ContributionRow:
    """One row of the table. ``kind`` of input is for people, ``whole`` where the row is all of it;
    ``error`` as in ``Contribution``."""

    title: str
    kind: str
    value: str
    logit: float
    error: float | None
    whole: bool = False


def modality_title(name: str) -> str:
    """A modality for people."""
    titles = {CT: _("CT"), CLINICAL: _("Clinical data"), RADIOMICS: _("Radiomics")}
    return titles.get(name, name)


def headline(result: PrognosisResult) -> str:
    """The probability in words, those of the library; a simulated model is called so."""
    text = words.headline(result)
    return _("{text} (simulated model)").format(text=text) if result.simulated_model else text


def inputs_line(result: PrognosisResult) -> str:
    """Whose answer it is, what it rests on, and which values were missing; of a missing kind of
    input, a notice tells."""
    used = ", ".join(modality_title(name) for name in result.modalities)
    lines = [
        _("{case}: {task}, from {inputs}").format(
            case=result.case_id, task=result.task_title, inputs=used
        )
    ]
    if result.horizon:
        lines.append(_("Horizon: {horizon}").format(horizon=result.horizon))
    if result.missing:
        titles = list(result.missing.values())
        named = ", ".join(titles[:_MANY])
        if len(titles) > _MANY:
            named = _("{names} and {count} more").format(names=named, count=len(titles) - _MANY)
        lines.append(_("Missing values ({count}): {names}").format(count=len(titles), names=named))
    return "\n".join(lines)


def notice_lines(result: PrognosisResult) -> tuple[str, ...]:
    """The notices, warnings first."""
    ranked: list[Notice] = sorted(result.notices, key=lambda n: n.severity != "warning")
    marks = {"warning": "\N{WARNING SIGN}\N{VARIATION SELECTOR-15} ", "info": ""}
    return tuple(f"{marks[n.severity]}{n.text}" for n in ranked)


def warnings(result: PrognosisResult) -> tuple[str, ...]:
    """The texts of the warnings among the notices."""
    return tuple(n.text for n in result.notices if n.severity == "warning")


def contribution_line(result: PrognosisResult) -> str:
    """What the contributions in the table mean."""
    return _(
        "Positive contributions speak for “{outcome}” (log odds). Those of a kind of input sum to"
        " its row; all of them with {base:+.2f}, the answer to nothing, to {total:+.2f}."
    ).format(outcome=words.outcome(result), base=result.base_logit, total=result.logit)


def contribution_rows(result: PrognosisResult) -> tuple[ContributionRow, ...]:
    """The kinds of input in their order, then variables and families, the largest first."""
    rows = [
        ContributionRow(c.title, _("all"), "", c.logit, c.error, whole=True)
        for c in result.modality_contributions
    ]
    whole = {(c.modality, c.name) for c in result.modality_contributions}
    rows += [
        ContributionRow(c.title, modality_title(c.modality), c.value, c.logit, c.error)
        for c in result.ranked
        if (c.modality, c.name) not in whole
    ]
    return tuple(rows)


def summary(result: PrognosisResult) -> str:
    """What a reader must know, as the text node has it."""
    lines = [f"REACTKD: {result.task_title}", headline(result), "", inputs_line(result), ""]
    lines += [_("Contributions (log odds)")]
    lines += [
        f"  {row.title}{f' {row.value}' if row.value else ''}: {_amount(row)}"
        for row in contribution_rows(result)
    ]
    return "\n".join([*lines, "", *notice_lines(result), RESEARCH_USE])


def _amount(row: ContributionRow) -> str:
    """A contribution, with its standard error where that shows in the digits."""
    if row.error is None:
        return _("{logit:+.2f} (error unknown)").format(logit=row.logit)
    rounded = f"{row.error:.2f}"
    return f"{row.logit:+.2f}" + (f" ± {rounded}" if float(rounded) > 0 else "")
