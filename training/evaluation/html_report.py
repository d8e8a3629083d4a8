"""``report.html``: one file with everything a reader of a run asks for; no network, no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.types import RESEARCH_USE

from .results import TABLE_HEADER, Results, Row, table_cells, write_atomically

NOT_REPORTED = "not reported by the run"
_PNG_START = b"\x89PNG\r\n\x1a\n"

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem;color:#222}
.banner{background:#fff3cd;border:1px solid #b58900;padding:.6rem 1rem;font-weight:600}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px}
th,td{border:1px solid #bbb;padding:.2rem .5rem;text-align:left;vertical-align:top}
th{background:#eee}figure{margin:1rem 0}img{max-width:100%}figcaption,.missing{color:#666}
"""


@dataclass(frozen=True)
class ChecklistItem:
    """One item of a reporting guideline, in our own words."""

    id: str
    checklist: str
    section: str
    item: str
    text: str


@dataclass(frozen=True)
class ReportFigure:
    """A figure as PNG bytes (``figures.png``); the caption says what is seen, with n."""

    caption: str
    png: bytes

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG_START) or not self.caption.strip():
            raise InputError(
                f"The figure {self.caption!r} is no PNG with a caption.",
                "Give the bytes of figures.png and a caption.",
            )


@dataclass(frozen=True)
class FlowStep:
    """A step of the data flow: what was done, and how many patients were left."""

    text: str
    n: int


@dataclass(frozen=True)
class ReportContent:
    """What the run knows. Texts may hold anything: all are escaped.

    Parameters
    ----------
    title : of the run.
    results : the rows of the main table; a run of simulated images carries the banner.
    configuration : name -> value, shown in order.
    flow : steps from all patients to those analysed.
    figures : in order.
    calibration, explanation : rows of their own sections.
    calibration_figures : reliability diagrams.
    answers : checklist item id -> what the run says to it.
    """

    title: str
    results: Results
    configuration: Mapping[str, str] = field(default_factory=dict)
    flow: Sequence[FlowStep] = ()
    figures: Sequence[ReportFigure] = ()
    calibration: Sequence[Row] = ()
    calibration_figures: Sequence[ReportFigure] = ()
    explanation: Sequence[Row] = ()
    answers: Mapping[str, str] = field(default_factory=dict)


def checklist_items() -> tuple[ChecklistItem, ...]:
    """All items of CLAIM (2024) and TRIPOD+AI, in order; from ``checklists.json``."""
    text = Path(__file__).with_name("checklists.json").read_text(encoding="utf-8")
    return tuple(ChecklistItem(**item) for item in json.loads(text)["items"])


def html_report(content: ReportContent) -> str:
    """The report as a self-contained HTML document.

    Raises
    ------
    OptionError : an answer to an item that no checklist has, or an empty one.
    """
    items = checklist_items()
    wrong = sorted(set(content.answers) - {item.id for item in items})
    wrong += sorted(key for key, answer in content.answers.items() if not answer.strip())
    if wrong:
        raise OptionError(
            f"The checklist answers {wrong} are unknown or empty.",
            f"Answer items from {items[0].id} to {items[-1].id}; leave out what is not known.",
        )
    banner = f'<p class="banner">{escape(RESEARCH_USE)}</p>'
    if content.results.simulated:
        banner += '<p class="banner">Simulated data: no figure here was measured on patients.</p>'
    configuration = content.configuration.items()
    parts = [
        ("Configuration", _table(("setting", "value"), configuration)),
        ("Data flow", _table(("step", "n"), ((s.text, str(s.n)) for s in content.flow))),
        ("Results", _rows(content.results.rows)),
        ("Figures", _figures(content.figures)),
        ("Calibration", _rows(content.calibration) + _figures(content.calibration_figures)),
        ("Explanation scores", _rows(content.explanation)),
        *_checklists(items, content.answers),
    ]
    body = "\n".join(f"<h2>{escape(name)}</h2>\n{text or _missing()}" for name, text in parts)
    title = escape(content.title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{title}</h1>\n{banner}\n{body}\n</body></html>\n"
    )


def write_report(path: Path | str, content: ReportContent) -> None:
    """Write :func:`html_report` to a file, whole or not at all; raises OutputError as well."""
    write_atomically(Path(path), html_report(content).encode("utf-8"))


def _missing() -> str:
    return f'<p class="missing">{NOT_REPORTED}</p>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table, or nothing without rows."""
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>" + "".join(f"\n<tr>{x}</tr>" for x in lines) + "</table>"


def _rows(rows: Iterable[Row]) -> str:
    return _table(TABLE_HEADER, map(table_cells, rows))


def _figures(figures: Iterable[ReportFigure]) -> str:
    return "".join(
        f'<figure><img alt="{escape(f.caption)}" src="data:image/png;base64,'
        f'{base64.b64encode(f.png).decode("ascii")}">'
        f"<figcaption>{escape(f.caption)}</figcaption></figure>\n"
        for f in figures
    )


def _checklists(
    items: Sequence[ChecklistItem], answers: Mapping[str, str]
) -> list[tuple[str, str]]:
    """One section per checklist, with the number of items that the run answers."""
    sections = []
    for name in dict.fromkeys(item.checklist for item in items):
        own = [item for item in items if item.checklist == name]
        answered = sum(item.id in answers for item in own)
        rows = [(i.item, i.section, i.text, answers.get(i.id, NOT_REPORTED)) for i in own]
        sections.append(
            (
                f"{name}: {answered} of {len(own)} items reported by the run",
                _table(("item", "section", "asks for (in our words)", "this run"), rows),
            )
        )
    return sections
