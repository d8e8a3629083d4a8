"""Two ways to draw a case report: for browsers, and for Qt's QTextDocument.

QTextDocument knows tables, cell colours and a few styles, so its boxes, bars and picture grids are
tables. Texts that come in are HTML already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

#: (address, alternative text, caption)
Picture = tuple[str, str, str]


class Skin(Protocol):
    """What both ways can draw."""

    style: str
    table: str

    def width(self, percent: int) -> str:
        """Attribute of a cell that is so wide, with the space before it."""

    def box(self, kind: str, body: str) -> str:
        """Text in a frame; ``kind`` is ``use``, ``simulated``, ``warning`` or ``info``."""

    def bar(self, fraction: float, chosen: bool) -> str:
        """A bar that fills ``fraction`` (0..1) of its cell."""

    def swatch(self, color: str) -> str:
        """A small square of a region's colour."""

    def gallery(self, pictures: Sequence[Picture]) -> str:
        """Pictures with their captions, two beside each other."""

    def page(self, body: str, footer: str) -> str:
        """The whole body of the document."""


_CHOSEN, _OTHER = "#1f5fa8", "#6f7a88"


class BrowserSkin:
    """HTML and CSS for every browser, on a screen of any width and on A4 and Letter paper."""

    # Bars and frames are borders: browsers print these, but no backgrounds.
    style = """
*{box-sizing:border-box}
body{font:16px/1.45 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#1b1f24;
background:#fff;max-width:54rem;margin:0 auto;padding:1rem}
h1{font-size:1.3rem;line-height:1.25;margin:.8rem 0 .1rem}
h2{font-size:1.1rem;margin:1.2rem 0 .4rem;border-bottom:1px solid #8a929c;break-after:avoid}
p{margin:.3rem 0}
.box{border:1px solid #8a929c;border-left-width:.5rem;padding:.45rem .8rem;margin:.5rem 0}
.use{border:3px solid #1b1f24;font-size:1.4rem;font-weight:700;text-align:center}
.simulated{border:4px solid #a3320b;color:#7a2204;background:#fff4ec;font-size:1.1rem}
.warning{border-color:#a3320b}
.info{border-color:#4a5563}
.headline{font-size:1.25rem;font-weight:700}
.note,figcaption,footer,.made{font-size:.85rem;color:#3d4650}
table{border-collapse:collapse;width:100%}
caption{text-align:left;font-size:.85rem;color:#3d4650;padding-bottom:.25rem}
th,td{padding:.2rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid #c9ced4}
thead th{border-bottom:2px solid #4a5563;vertical-align:bottom}
tbody th{font-weight:400}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
thead .number{white-space:normal}
.wide{overflow-x:auto}
.bars td:last-child{vertical-align:middle}
.bar{display:block;border-top:.8rem solid;min-width:2px}
.swatch{display:inline-block;width:.7rem;height:.7rem;border:1px solid #1b1f24;margin-right:.4rem;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.gallery{display:grid;grid-template-columns:1fr 1fr;gap:.7rem}
figure{margin:0;break-inside:avoid}
figure img{display:block;width:100%}
.made table{font-size:inherit}
.made th{font-weight:600}
.made td{overflow-wrap:anywhere}
.sha{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.7rem;display:inline-block}
footer{border-top:1px solid #8a929c;margin-top:1.3rem;padding-top:.3rem}
tr,.box{break-inside:avoid}
@media(max-width:36rem){.gallery{grid-template-columns:1fr}.regions{min-width:38rem;
font-size:.85rem}}
@page{margin:12mm 14mm;@bottom-right{content:counter(page) " / " counter(pages);
font:8pt system-ui,sans-serif}}
@media print{html{font-size:13px}body{font-size:1rem;line-height:1.35;max-width:none;padding:0}
.page{display:table;width:100%}main{display:table-row-group}
footer{display:table-footer-group;break-inside:avoid;text-align:center}
.gallery{grid-template-columns:repeat(2,min(50% - .35rem,68mm));justify-content:center}
th,td{padding:.12rem .4rem}.wide{overflow:visible}}
"""

    #: Attributes of every table.
    table = ""

    def width(self, percent: int) -> str:
        """See :class:`Skin`."""
        return f' style="width:{percent}%"'

    def box(self, kind: str, body: str) -> str:
        """See :class:`Skin`."""
        return f'<p class="box {kind}">{body}</p>\n'

    def bar(self, fraction: float, chosen: bool) -> str:
        """See :class:`Skin`."""
        color = _CHOSEN if chosen else _OTHER
        style = f"width:{100 * fraction:.1f}%;border-color:{color}"
        return f'<span class="bar" aria-hidden="true" style="{style}"></span>'

    def swatch(self, color: str) -> str:
        """See :class:`Skin`."""
        return f'<span class="swatch" aria-hidden="true" style="background:{color}"></span>'

    def gallery(self, pictures: Sequence[Picture]) -> str:
        """See :class:`Skin`."""
        figures = (
            f'<figure><img src="{address}" alt="{alternative}">'
            f"<figcaption>{caption}</figcaption></figure>\n"
            for address, alternative, caption in pictures
        )
        return f'<div class="gallery">\n{"".join(figures)}</div>\n'

    def page(self, body: str, footer: str) -> str:
        """See :class:`Skin`."""
        return (
            f'<div class="page">\n<main>\n{body}</main>\n<footer>\n<p>{footer}</p></footer>\n</div>'
        )


class DocumentSkin:
    """HTML for a QTextDocument about 690 pixels wide, font of 13 pixels; whoever prints it
    adds the footer to every page."""

    style = """
h1{font-size:large;margin-top:8px;margin-bottom:0}
h2{font-size:medium;margin-top:12px;margin-bottom:4px}
.pictures{page-break-before:always}
p{margin-top:3px;margin-bottom:3px}
.headline{font-size:16px;font-weight:bold}
.note,caption,.made{font-size:11px;color:#3d4650}
table{border-collapse:collapse;margin-bottom:6px}
th{text-align:left;border-bottom:1px solid #4a5563}
td,.name{border-bottom:1px solid #c9ced4;vertical-align:middle}
.plain{border-bottom:none}
.name{font-weight:normal}
.number{text-align:right}
.sha{font-family:monospace;font-size:10px}
"""
    table = ' width="100%" cellspacing="0" cellpadding="2"'

    def width(self, percent: int) -> str:
        """See :class:`Skin`."""
        return f' width="{percent}%"'

    #: Kind -> colour of the frame, its width, size of the text.
    _BOXES: ClassVar = {
        "use": ("#1b1f24", 3, 20),
        "simulated": ("#a3320b", 4, 15),
        "warning": ("#a3320b", 1, 13),
        "info": ("#4a5563", 1, 13),
    }

    def box(self, kind: str, body: str) -> str:
        """See :class:`Skin`."""
        color, width, size = self._BOXES[kind]
        align = "center" if kind == "use" else "left"
        frame = f"border:{width}px solid {color}; font-size:{size}px"
        return (
            '<table width="100%" cellspacing="0" cellpadding="5"><tr>'
            f'<td align="{align}" style="{frame}">{body}</td></tr></table>\n'
        )

    def bar(self, fraction: float, chosen: bool) -> str:
        """See :class:`Skin`."""
        color, filled = _CHOSEN if chosen else _OTHER, max(1, round(100 * fraction))
        rest = f'<td width="{100 - filled}%" class="plain"></td>' if filled < 100 else ""
        return (
            '<table width="100%" cellspacing="0" cellpadding="0"><tr>'
            f'<td width="{filled}%" class="plain" bgcolor="{color}" style="font-size:9px"></td>'
            f"{rest}</tr></table>"
        )

    def swatch(self, color: str) -> str:
        """See :class:`Skin`."""
        return f'<span style="color:{color}">\N{BLACK SQUARE}</span>&nbsp;'

    def gallery(self, pictures: Sequence[Picture]) -> str:
        """See :class:`Skin`."""
        cells = [
            '<td align="center" class="plain">'
            f'<img src="{address}" alt="{alternative}" width="310"><br>'
            f'<span class="note">{caption}</span></td>'
            for address, alternative, caption in pictures
        ]
        rows = ("".join(cells[n : n + 2]) for n in range(0, len(cells), 2))
        lines = "".join(f"<tr>{row}</tr>\n" for row in rows)
        return f'<table width="100%" cellpadding="3">\n{lines}</table>\n'

    def page(self, body: str, footer: str) -> str:
        """See :class:`Skin`."""
        return body
