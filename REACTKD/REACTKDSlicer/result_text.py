"""A result in words and rows, as the panel shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slicer.i18n import tr as _

from REACTKDLib.case_report_words import likely_first, percent
from REACTKDLib.types import CaseResult, Notice


@dataclass(frozen=True)
class RegionRow:
    """One row of the table. ``region_id`` is None for what lies outside all regions."""

    region_id: str | None
    name: str
    volume_ml: float | None
    mean_hu: float | None
    share: float


@dataclass(frozen=True)
class ChangeRow:
    """Share of one region before and after a what-if; None where the region does not exist."""

    region_id: str
    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """The difference, where there are both."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


def headline(result: CaseResult) -> str:
    """The most probable class with its probability, or that there is no answer."""
    if result.abstains:
        return _("The model abstains: it gives no answer for this case.")
    predicted = result.predicted
    return _("Most probable: {title} ({percent})").format(
        title=predicted.title, percent=percent(result.probabilities[predicted.name])
    )


def other_classes(result: CaseResult) -> str:
    """The classes that the headline does not name, the most probable first."""
    named = () if result.abstains else (result.predicted,)
    return ", ".join(
        f"{c.title} {percent(result.probabilities[c.name])}"
        for c in likely_first(result)
        if c not in named
    )


def set_line(result: CaseResult) -> str:
    """The prediction set in words."""
    possible = result.prediction_set
    if possible is None:
        return _("This model was not calibrated to name the classes that it cannot exclude.")
    coverage = percent(possible.coverage)
    if not possible.classes:
        return _("At {coverage} coverage no class fits: unlike the calibration's cases.").format(
            coverage=coverage
        )
    if result.abstains:
        return _("At {coverage} coverage no class can be excluded.").format(coverage=coverage)
    titles = ", ".join(result.class_title(name) for name in possible.classes)
    return _("Cannot be excluded (at {coverage} coverage): {titles}").format(
        coverage=coverage, titles=titles
    )


def change_rows(before: CaseResult, after: CaseResult | None) -> tuple[ChangeRow, ...]:
    """Regions of the original, the largest share first, then those that only the what-if has."""
    new = {} if after is None else {r.id: (r, s.share) for r, s in after.ranked}
    rows = [
        ChangeRow(r.id, r.name, s.share, new[r.id][1] if r.id in new else None)
        for r, s in before.ranked
    ]
    known = {row.region_id for row in rows}
    rows += [ChangeRow(r.id, r.name, None, share) for r, share in new.values() if r.id not in known]
    return tuple(rows)


def what_if_line(before: CaseResult, after: CaseResult) -> str:
    """Every probability before and after."""
    return "; ".join(
        f"{info.title}: {percent(before.probabilities[info.name])} → "
        f"{percent(after.probabilities[info.name])}"
        for info in before.classes
    )


def what_if_text(before: CaseResult, after: CaseResult) -> str:
    """A what-if's answer: probabilities, what cannot be excluded, and what it warns of anew."""
    known = {(n.code, n.text) for n in before.notices}
    new = [n for n in after.notices if (n.code, n.text) not in known]
    lines = [what_if_line(before, after)]
    if after.abstains:
        lines.append(headline(after))
    if after.prediction_set is not None:
        lines.append(set_line(after))
    return "\n".join([*lines, *_marked(new)])


def inputs_line(result: CaseResult, titles: dict[str, str]) -> str:
    """Whose answer it is and what it rests on; ``titles`` names the modalities for people."""
    used = ", ".join(titles.get(name, name) for name in result.modalities)
    return _("{case}: {task}, from {inputs}").format(
        case=result.case_id, task=result.task_title, inputs=used
    )


def shares_line(result: CaseResult) -> str:
    """What the shares in the table mean."""
    return _("Regions that speak for “{title}” have a positive share (logit units).").format(
        title=result.class_title(result.target)
    )


def notice_lines(result: CaseResult) -> tuple[str, ...]:
    """The notices, warnings first."""
    return _marked(result.notices)


def _marked(notices: Iterable[Notice]) -> tuple[str, ...]:
    ranked = sorted(notices, key=lambda n: n.severity != "warning")
    marks = {"warning": "\N{WARNING SIGN}\N{VARIATION SELECTOR-15} ", "info": ""}
    return tuple(f"{marks[n.severity]}{n.text}" for n in ranked)


def region_rows(result: CaseResult) -> tuple[RegionRow, ...]:
    """Regions, the largest share first, then what lies outside all of them."""
    rows = [
        RegionRow(region.id, region.name, region.volume_ml, region.mean_hu, share.share)
        for region, share in result.ranked
    ]
    rows.append(RegionRow(None, _("Outside all regions"), None, None, result.outside_share))
    return tuple(rows)
