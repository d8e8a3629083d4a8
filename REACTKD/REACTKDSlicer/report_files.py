"""The report of a case as a file, made in the application: HTML, PDF, or its regions as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import qt

from REACTKDLib.atomic_file import atomic_file
from REACTKDLib.case_report import case_report_html, footer_text, write_case_report
from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.region_csv import write_region_csv
from REACTKDLib.types import CaseResult

from .view_pictures import view_pictures

SUFFIXES = (".html", ".pdf", ".csv")

#: A4 in pixels of 1/96 inch, the unit of lengths in HTML; margins of 14 mm.
_DPI, _PAPER, _MARGIN = 96, (794, 1123), 53
_FOOTER_HEIGHT, _FOOTER_SIZE, _TEXT_SIZE = 26, 11, 13


def save_report(case: CaseResult, titles: Mapping[str, str], path: Path) -> None:
    """Write what the suffix of ``path`` asks for, over a file that is there.

    HTML and PDF hold pictures of the views as they are now; without a main window they hold none.

    Parameters
    ----------
    titles : name of a modality -> what people call it.

    Raises
    ------
    OptionError : the suffix is none of :data:`SUFFIXES`.
    OutputError : the file cannot be written; a file that was there is as it was.
    """
    suffix = path.suffix.lower()
    if suffix == ".html":
        write_case_report(path, case, view_pictures(), titles, overwrite=True)
    elif suffix == ".pdf":
        html = case_report_html(case, view_pictures(), titles, simple=True)
        write_pdf(html, footer_text(case), path)
    elif suffix == ".csv":
        with atomic_file(path, overwrite=True) as partial:
            write_region_csv(partial, case)
    else:
        raise OptionError(
            f"A report cannot be written as {path.name!r}.",
            f"Give a name that ends in {', '.join(SUFFIXES)}.",
        )


def write_pdf(html: str, footer: str, path: Path) -> None:
    """Print HTML that Qt's QTextDocument understands, A4, with ``footer`` under every page.

    Raises
    ------
    OutputError : the file cannot be written; a file that was there is as it was.
    """
    with atomic_file(path, overwrite=True) as partial:
        _print(html, footer, partial)
        # Qt does not say whether all of it reached the disk.
        if not partial.is_file() or b"%%EOF" not in partial.read_bytes()[-64:]:
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
