"""The report of one case for a radiologist: one HTML page, to read, print or pass on.

It holds everything in itself, runs no script and asks no other computer. Names of input files are
shown, their folders are not.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from . import __version__
from . import case_report_words as words
from .atomic_file import atomic_file
from .case_report_skins import BrowserSkin, DocumentSkin, Skin
from .errors import InputError
from .palette import region_colors
from .types import RESEARCH_USE, CaseResult

_PNG_START = b"\x89PNG\r\n\x1a\n"

#: Pictures that ``reactkd scene`` makes -> what they show.
_SCENE_PICTURES = {
    "axial": "Axial slice through the point of greatest attention",
    "coronal": "Coronal slice through the same point",
    "sagittal": "Sagittal slice through the same point",
    "3d": "Regions and their graph, from the front",
}


#: Makes HTML for a skin: a part of the report that is about something else than the case.
Appendix = Callable[[Skin], str]


def case_report_html(
    case: CaseResult,
    pictures: Mapping[str, bytes],
    titles: Mapping[str, str],
    *,
    simple: bool = False,
    appendix: Appendix | None = None,
) -> str:
    """The report as an HTML document.

    Parameters
    ----------
    pictures : caption -> PNG file, in the order of the report.
    titles : name of a modality -> what people call it; unknown ones keep their name.
    simple : only what Qt's QTextDocument can draw, without the footer of the page.
    appendix : what follows on pages of its own.

    Raises
    ------
    InputError : a picture is no PNG.
    """
    skin: Skin = DocumentSkin() if simple else BrowserSkin()
    parts = (
        skin.box("use", f"<strong>{html_text(RESEARCH_USE)}</strong>"),
        _simulated(case, skin),
        _heading(case, titles),
        _answer(case, skin),
        _regions(case, skin),
        pictures_part(pictures, skin),
        _provenance(case, titles, skin),
        new_page(appendix(skin)) if appendix is not None else "",
    )
    title = f"{case.case_id}: {case.task_title}"
    return page_of(skin, title, "".join(parts), footer_text(case))


def new_page(body: str) -> str:
    """HTML that begins a page where it is printed."""
    return f'<div style="page-break-before:always">{body}</div>'


def page_of(skin: Skin, title: str, body: str, footer: str) -> str:
    """The HTML document of a report: ``title`` and ``footer`` are text, ``body`` is HTML."""
    page = skin.page(body, html_text(footer))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title>\n"
        f"<style>{skin.style}</style></head>\n<body>\n{page}\n</body>\n</html>\n"
    )


def write_case_report(
    path: Path | str,
    case: CaseResult,
    pictures: Mapping[str, bytes],
    titles: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """Write :func:`case_report_html` to a file, whole or not at all.

    Raises
    ------
    OutputError : the file exists (without ``overwrite``) or cannot be written.
    InputError : a picture is no PNG.
    """
    text = case_report_html(case, pictures, titles)
    with atomic_file(path, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def pictures_of_scene(folder: Path) -> dict[str, bytes]:
    """The pictures that ``reactkd scene`` left in ``folder``, with captions; none without it."""
    files = ((caption, folder / f"{name}.png") for name, caption in _SCENE_PICTURES.items())
    return {caption: file.read_bytes() for caption, file in files if file.is_file()}


def footer_text(case: CaseResult) -> str:
    """What stands at the foot of every printed page."""
    simulated = " Model trained on simulated images." if case.simulated_model else ""
    return f"{RESEARCH_USE}{simulated} REACTKD {__version__}, case {case.case_id}"


def html_text(text: str) -> str:
    """Any text as HTML; signs that no file may hold become a replacement sign."""
    allowed = (c if unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)
    return escape("".join(allowed))


#: Title, class of the cell, width in percent.
Column = tuple[str, str, int]


def table(
    skin: Skin, columns: Iterable[Column], rows: Iterable[str], kind: str, caption: str
) -> str:
    """A table of ready rows under its columns."""
    head = "".join(
        f'<th scope="col"{_class(name)}{skin.width(percent)}>{html_text(title)}</th>'
        for title, name, percent in columns
    )
    return (
        f'<table class="{kind}"{skin.table}>\n<caption>{html_text(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table>\n"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def row(name: str, cells: Iterable[tuple[str, str]], width: str = "") -> str:
    """A row: its name as HTML, then cells (HTML, class)."""
    rest = "".join(f"<td{_class(kind)}>{cell}</td>" for cell, kind in cells)
    return f'<tr><th scope="row" class="name"{width}>{name}</th>{rest}</tr>\n'


def _simulated(case: CaseResult, skin: Skin) -> str:
    warning = words.simulated_warning(case)
    if not warning:
        return ""
    heading = "\N{WARNING SIGN}\N{VARIATION SELECTOR-15} Warning: model of simulated images."
    return skin.box("simulated", f"<strong>{heading}</strong> {html_text(warning)}")


def _heading(case: CaseResult, titles: Mapping[str, str]) -> str:
    used = ", ".join(titles.get(name, name) for name in case.modalities)
    return (
        f"<h1>{html_text(case.task_title)}</h1>\n"
        f"<p>Case <strong>{html_text(case.case_id)}</strong>, from {html_text(used)}</p>\n"
    )


def _answer(case: CaseResult, skin: Skin) -> str:
    """Probabilities, the prediction set, notices."""
    rows = []
    for info in words.likely_first(case):
        share = case.probabilities[info.name]
        chosen = info is case.predicted and not case.abstains
        cells = [(html_text(words.percent(share)), "number"), (skin.bar(share, chosen), "")]
        rows.append(row(html_text(info.title), cells))
    columns = (("Class", "", 30), ("Probability", "number", 15), ("", "", 55))
    bars = table(skin, columns, rows, "bars", "Calibrated probability of each class")
    notices = (
        skin.box(n.severity, f"<strong>{SEVERITIES[n.severity]}:</strong> {html_text(n.text)}")
        for n in words.other_notices(case)
    )
    return (
        f'<h2>Answer</h2>\n<p class="headline">{html_text(words.headline(case))}</p>\n'
        f"<p>{html_text(words.set_sentence(case))}</p>\n{bars}{''.join(notices)}"
    )


SEVERITIES = {"warning": "Warning", "info": "Note"}


def pictures_part(pictures: Mapping[str, bytes], skin: Skin) -> str:
    """Pictures under their heading; nothing without any."""
    if not pictures:
        return ""
    drawn = []
    for caption, png in pictures.items():
        if not png.startswith(_PNG_START):
            raise InputError(f"The picture {caption!r} is no PNG.", "Give PNG files.")
        data = base64.b64encode(png).decode("ascii")
        alternative = html_text(f"Picture: {caption}")
        drawn.append((f"data:image/png;base64,{data}", alternative, html_text(caption)))
    return f'<h2 class="pictures">Pictures</h2>\n{skin.gallery(drawn)}'


def _regions(case: CaseResult, skin: Skin) -> str:
    title = html_text(case.class_title(case.target))
    return (
        f"<h2>What speaks for “{title}”</h2>\n<p>{html_text(words.share_meaning(case))}</p>\n"
        f"{region_table(case, skin)}"
    )


def region_table(case: CaseResult, skin: Skin) -> str:
    """The regions with their shares, and whether these add up."""
    colors = region_colors(case.regions)
    swatches = [skin.swatch(_hex(colors[region.id])) for region, _ in case.ranked] + [""]
    kinds = ("", "", *("number",) * (len(words.COLUMNS) - 2))
    widths = (38, 13, 9, 8, 11, 9, 12)
    rows = (
        row(swatch + html_text(cells[0]), zip(map(html_text, cells[1:]), kinds[1:], strict=True))
        for swatch, cells in zip(swatches, words.region_cells(case), strict=True)
    )
    regions = table(
        skin,
        zip(words.COLUMNS, kinds, widths, strict=True),
        rows,
        "regions",
        "Regions, the largest share first; colours as in the segmentation of regions",
    )
    return (
        '<div class="wide" role="region" aria-label="Table of regions" tabindex="0">\n'
        f'{regions}</div>\n<p class="note">{html_text(words.sum_sentence(case))}</p>\n'
    )


def _hex(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


def _provenance(case: CaseResult, titles: Mapping[str, str], skin: Skin) -> str:
    """How the answer was made."""
    rows = (
        row(html_text(heading), [(html_text(text) + _checksum(sha256), "")], skin.width(22))
        for heading, text, sha256 in words.provenance_lines(case, titles)
    )
    return (
        f'<h2>How it was made</h2>\n<div class="made"><table{skin.table}><tbody>\n'
        f"{''.join(rows)}</tbody></table></div>\n"
    )


def _checksum(sha256: str) -> str:
    return f' <span class="sha">SHA-256 {html_text(sha256)}</span>' if sha256 else ""
