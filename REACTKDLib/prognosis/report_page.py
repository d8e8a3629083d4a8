"""The report of a prognosis: one HTML page in the style of :mod:`REACTKDLib.case_report`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import __version__
from .. import case_report_words as case_words
from ..atomic_file import atomic_file
from ..case_report import SEVERITIES, html_text, page_of, pictures_part, region_table, row, table
from ..case_report_skins import BrowserSkin, DocumentSkin, Skin
from ..types import RESEARCH_USE
from . import report_words as words
from .titles import TITLES
from .types import CLINICAL, Contribution, PrognosisResult

__all__ = ["footer_text", "prognosis_part", "prognosis_report_html", "write_prognosis_report"]


def prognosis_report_html(
    result: PrognosisResult, pictures: Mapping[str, bytes], *, simple: bool = False
) -> str:
    """The report as an HTML document.

    Parameters
    ----------
    pictures : caption -> PNG file. simple : only what Qt's QTextDocument can draw.

    Raises
    ------
    InputError : a picture is no PNG.
    """
    skin: Skin = DocumentSkin() if simple else BrowserSkin()
    title = f"{result.case_id}: {result.task_title}"
    return page_of(skin, title, prognosis_part(result, pictures, skin), footer_text(result))


def prognosis_part(result: PrognosisResult, pictures: Mapping[str, bytes], skin: Skin) -> str:
    """The body of the report as HTML, which may also follow the report of a case.

    Raises
    ------
    InputError : a picture is no PNG.
    """
    parts = (
        skin.box("use", f"<strong>{html_text(RESEARCH_USE)}</strong>"),
        _simulated(result, skin),
        _heading(result),
        _answer(result, skin),
        _modalities(result, skin),
        _parts(result, skin),
        _missing(result),
        _regions(result, skin),
        pictures_part(pictures, skin),
        _provenance(result, skin),
    )
    return "".join(parts)


def write_prognosis_report(
    path: Path | str,
    result: PrognosisResult,
    pictures: Mapping[str, bytes],
    *,
    overwrite: bool = False,
) -> None:
    """Write :func:`prognosis_report_html` to a file, whole or not at all.

    Raises
    ------
    OutputError : the file exists (without ``overwrite``) or cannot be written.
    InputError : a picture is no PNG.
    """
    text = prognosis_report_html(result, pictures)
    with atomic_file(path, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def footer_text(result: PrognosisResult) -> str:
    """What stands at the foot of every printed page."""
    simulated = " Model trained on simulated patients." if result.simulated_model else ""
    return f"{RESEARCH_USE}{simulated} REACTKD {__version__}, case {result.case_id}"


def _simulated(result: PrognosisResult, skin: Skin) -> str:
    warning = words.simulated_warning(result)
    if not warning:
        return ""
    heading = "\N{WARNING SIGN}\N{VARIATION SELECTOR-15} Warning: model of simulated patients."
    return skin.box("simulated", f"<strong>{heading}</strong> {html_text(warning)}")


def _heading(result: PrognosisResult) -> str:
    used = ", ".join(TITLES.get(name, name) for name in result.modalities)
    return (
        f"<h1>{html_text(result.task_title)}</h1>\n"
        f"<p>Case <strong>{html_text(result.case_id)}</strong>, from {html_text(used)}</p>\n"
    )


def _answer(result: PrognosisResult, skin: Skin) -> str:
    share = result.probability
    cells = [(html_text(case_words.percent(share)), "number"), (skin.bar(share, True), "")]
    columns = (("Outcome", "", 40), ("Probability", "number", 15), ("", "", 45))
    bar = table(
        skin,
        columns,
        [row(html_text(words.outcome(result)), cells)],
        "bars",
        "Calibrated probability",
    )
    notices = (
        skin.box(n.severity, f"<strong>{SEVERITIES[n.severity]}:</strong> {html_text(n.text)}")
        for n in words.other_notices(result)
    )
    return (
        f'<h2>Answer</h2>\n<p class="headline">{html_text(words.headline(result))}</p>\n'
        f"{bar}{''.join(notices)}"
    )


def _bars(
    found: Iterable[Contribution],
    largest: float,
    skin: Skin,
    columns: tuple[str, ...],
    caption: str,
) -> str:
    """Contributions as rows with a bar: towards the outcome in the colour of the answer."""
    rows = []
    for one in found:
        bar = skin.bar(abs(one.logit) / largest if largest > 0 else 0.0, one.logit > 0)
        cells = [(html_text(text), "") for text in words.cells(one, columns)]
        cells += [(html_text(words.amount(one)), "number"), (bar, "")]
        rows.append(row(html_text(one.title), cells))
    widths = (30, *(18 for _ in columns), 18, 52 - 18 * len(columns))
    heads = (words.PART, *columns, words.ADDS, words.DIRECTION)
    kinds = ("", *("" for _ in columns), "number", "")
    return table(skin, zip(heads, kinds, widths, strict=True), rows, "bars", caption)


def _modalities(result: PrognosisResult, skin: Skin) -> str:
    found = sorted(result.modality_contributions, key=lambda one: -abs(one.logit))
    largest = max((abs(one.logit) for one in found), default=0.0)
    bars = _bars(found, largest, skin, (), "Contribution of each modality (Shapley value)")
    return (
        f"<h2>What the answer rests on</h2>\n<p>{html_text(words.meaning(result))}</p>\n{bars}"
        f'<p class="note">{html_text(words.sum_sentence(result))}</p>\n'
    )


def _parts(result: PrognosisResult, skin: Skin) -> str:
    shown = result.ranked[: words.LARGEST]
    if not shown:
        return ""
    largest = abs(shown[0].logit)
    columns = (words.MODALITY, words.VALUE)
    caption = "Clinical variables and families of radiomics (Owen values), the largest first"
    return (
        f"<h2>Variables and families</h2>\n{_bars(shown, largest, skin, columns, caption)}"
        f'<p class="note">{html_text(words.rest_sentence(result))}</p>\n'
    )


def _missing(result: PrognosisResult) -> str:
    if not result.missing or CLINICAL not in result.modalities:
        return ""
    names = ", ".join(result.missing.values())
    return (
        f"<h2>Missing variables</h2>\n<p>{html_text(words.missing_sentence(result))}</p>\n"
        f'<p class="note">{html_text(names)}.</p>\n'
    )


def _regions(result: PrognosisResult, skin: Skin) -> str:
    case = result.ct_case
    if case is None:
        return ""
    return (
        f"<h2>What the CT's branch saw</h2>\n<p>{html_text(words.regions_meaning(result))}</p>\n"
        f"{region_table(case, skin)}"
    )


def _provenance(result: PrognosisResult, skin: Skin) -> str:
    rows = (
        row(html_text(heading), [(html_text(text) + words.checksum(sha256), "")], skin.width(22))
        for heading, text, sha256 in words.provenance_lines(result)
    )
    return (
        f'<h2>How it was made</h2>\n<div class="made"><table{skin.table}><tbody>\n'
        f"{''.join(rows)}</tbody></table></div>\n"
    )
