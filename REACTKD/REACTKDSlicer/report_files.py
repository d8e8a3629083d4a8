"""The report of what is shown as a file, made in the application: HTML, PDF, or tables as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import qt

from REACTKDLib.atomic_file import atomic_file
from REACTKDLib.case_report import case_report_html, footer_text
from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.prognosis.report_page import footer_text as prognosis_footer
from REACTKDLib.prognosis.report_page import prognosis_part, prognosis_report_html
from REACTKDLib.prognosis.result import write_contributions
from REACTKDLib.prognosis.types import PrognosisResult
from REACTKDLib.region_csv import write_region_csv
from REACTKDLib.types import CaseResult

from .view_pictures import view_pictures

SUFFIXES = (".html", ".pdf", ".csv")

#: A4 in pixels of 1/96 inch, the unit of lengths in HTML; margins of 14 mm.
_DPI, _PAPER, _MARGIN = 96, (794, 1123), 53
_FOOTER_HEIGHT, _FOOTER_SIZE, _TEXT_SIZE = 26, 11, 13


@dataclass(frozen=True)
class Pictures:
    """Where the pictures come from: each gives caption -> PNG file of the views."""

    of_case: Callable[[], Mapping[str, bytes]]
    of_prognosis: Callable[[], Mapping[str, bytes]]


def save_report(
    case: CaseResult | None,
    titles: Mapping[str, str],
    path: Path,
    prognosis: PrognosisResult | None = None,
    pictures: Pictures | None = None,
) -> tuple[Path, ...]:
    """Write what the suffix of ``path`` asks for, over a file that is there; the files written.

    HTML and PDF hold pictures of the views; without a main window they hold none. A prognosis
    beside a case stands on pages of its own, and as CSV in a second file.

    Parameters
    ----------
    case, prognosis : one of them at least.
    titles : name of a modality -> what people call it.
    pictures : where they come from; None for the views as they are now, for both.

    Raises
    ------
    OptionError : the suffix is none of :data:`SUFFIXES`.
    OutputError : the file cannot be written; a file that was there is as it was.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(
            f"A report cannot be written as {path.name!r}.",
            f"Give a name that ends in {', '.join(SUFFIXES)}.",
        )
    if suffix == ".csv":
        return _save_tables(case, prognosis, path)
    taken = pictures or Pictures(view_pictures, view_pictures)
    simple = suffix == ".pdf"
    if case is None:
        assert prognosis is not None, "there is something to report"
        html = prognosis_report_html(prognosis, taken.of_prognosis(), simple=simple)
        footer = prognosis_footer(prognosis)
    else:
        appendix = None
        if prognosis is not None:
            appendix = partial(prognosis_part, prognosis, taken.of_prognosis())
        html = case_report_html(case, taken.of_case(), titles, simple=simple, appendix=appendix)
        footer = footer_text(case)
    if simple:
        write_pdf(html, footer, path)
    else:
        with atomic_file(path, overwrite=True) as file:
            file.write_text(html, encoding="utf-8")
    return (path,)


def _save_tables(
    case: CaseResult | None, prognosis: PrognosisResult | None, path: Path
) -> tuple[Path, ...]:
    """Regions of the case, contributions of the prognosis; a file each."""
    written = []
    if case is not None:
        with atomic_file(path, overwrite=True) as file:
            write_region_csv(file, case)
        written.append(path)
    if prognosis is not None:
        second = path if case is None else path.with_name(f"{path.stem}_prognosis{path.suffix}")
        with atomic_file(second, overwrite=True) as file:
            write_contributions(file, prognosis)
        written.append(second)
    return tuple(written)


def write_pdf(html: str, footer: str, path: Path) -> None:
    """Print HTML that Qt's QTextDocument understands, A4, with ``footer`` under every page.

    Raises
    ------
    OutputError : the file cannot be written; a file that was there is as it was.
    """
    with atomic_file(path, overwrite=True) as file:
        _print(html, footer, file)
        # Qt does not say whether all of it reached the disk.
        if not file.is_file() or b"%%EOF" not in file.read_bytes()[-64:]:
            raise OutputError(
                f"{path} cannot be written.", "Free space on the disk, or give another folder."
            )


def _print(html: str, footer: str, path: Path) -> None:
    width = _PAPER[0] - 2 * _MARGIN
    height = _PAPER[1] - 2 * _MARGIN - _FOOTER_HEIGHT
    font = qt.QFont()
    font.setPixelSize(_TEXT_SIZE)
    document = qt.QTextDocument()
    document.defaultFont = font
    document.documentMargin = 0
    document.useDesignMetrics = True  # glyphs stand where paper, not the screen, has them
    document.pageSize = qt.QSizeF(width, height)
    document.setHtml(html)
    printer = qt.QPrinter(qt.QPrinter.HighResolution)
    printer.setOutputFormat(qt.QPrinter.PdfFormat)
    printer.setOutputFileName(str(path))
    printer.setPageSize(qt.QPageSize(qt.QPageSize.A4))
    printer.setFullPage(True)  # the margins are ours
    painter = qt.QPainter()
    if not painter.begin(printer):
        return
    painter.scale(printer.resolution() / _DPI, printer.resolution() / _DPI)
    font.setPixelSize(_FOOTER_SIZE)
    painter.setFont(font)
    pages = document.pageCount()
    for page in range(pages):
        if page > 0:
            printer.newPage()
        painter.save()
        painter.translate(_MARGIN, _MARGIN - page * height)
        document.drawContents(painter, qt.QRectF(0, page * height, width, height))
        painter.restore()
        place = qt.QRectF(_MARGIN, _MARGIN + height, width, _FOOTER_HEIGHT)
        painter.drawText(place, qt.Qt.AlignLeft | qt.Qt.AlignBottom, footer)
        number = f"{page + 1} / {pages}"
        painter.drawText(place, qt.Qt.AlignRight | qt.Qt.AlignBottom, number)
    painter.end()
