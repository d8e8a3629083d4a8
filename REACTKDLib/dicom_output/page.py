"""The page of the Secondary Capture: the answer in words beside the slices that show it.

Drawn with Pillow and the font inside it, so that it looks the same everywhere. That font has Latin
letters without accents: others are written without them, or as "?". Nothing on the page says who
the patient is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from .. import case_report_words as words
from ..palette import RGB, region_colors
from ..types import RESEARCH_USE, CaseResult
from .planes import Plane

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

WIDTH, HEIGHT = 1600, 1200
#: Pictures: left, top, width, height.
PICTURES = {
    "axial": (20, 110, 490, 500),
    "regions": (530, 110, 490, 500),
    "coronal": (20, 660, 490, 420),
    "sagittal": (530, 660, 490, 420),
}
#: Title; letters at the left, right, top and bottom; the axis that the plane cuts.
_CAPTIONS = {
    "axial": ("Axial, attention", "RLAP", "S"),
    "regions": ("Axial, regions", "RLAP", "S"),
    "coronal": ("Coronal, attention", "RLSI", "A"),
    "sagittal": ("Sagittal, attention", "APSI", "R"),
}
_TEXT_LEFT, _TEXT_TOP = 1050, 110

_BACKGROUND, _TEXT, _DIM = (12, 14, 18), (235, 235, 235), (165, 170, 178)
_WARNING, _BANNER = (255, 196, 61), (120, 20, 28)
#: CT window of soft tissue, HU.
_WINDOW = (-110.0, 190.0)
#: Below this part of the greatest attention nothing is drawn over the CT.
_FLOOR = 0.12
#: Speaks for the class: dark red to pale yellow; against it: dark to pale blue.
_FOR = ((0.45, 0.05, 0.10), (0.95, 0.35, 0.05), (1.00, 0.95, 0.55))
_AGAINST = ((0.05, 0.10, 0.45), (0.10, 0.45, 0.95), (0.65, 0.92, 1.00))


def plain(text: str) -> str:
    """Text that the page's font can draw."""
    for sign, instead in (("\N{MINUS SIGN}", "-"), ("“", '"'), ("”", '"'), ("–", "-"), ("ß", "ss")):
        text = text.replace(sign, instead)
    letters = unicodedata.normalize("NFKD", text)
    kept = "".join(c for c in letters if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in kept)


def draw_page(case: CaseResult, planes: Sequence[Plane]) -> np.ndarray:
    """The page, uint8 (rows, columns, 3).

    ``planes`` : one of each name in :data:`PICTURES`, of the size there.
    """
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    _banner(draw, case)
    peak = float(np.abs(case.attention.array).max()) or 1.0
    by_id = region_colors(case.regions)
    by_label = {region.label: by_id[region.id] for region in case.regions}
    for plane in planes:
        left, top, _, _ = PICTURES[plane.name]
        shown = outlines(plane, by_label) if plane.name == "regions" else overlay(plane, peak)
        _picture(page, draw, (left, top), shown, plane)
    _legend(page, draw, case, peak)
    _words(draw, case)
    return np.asarray(page)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int = 20,
    color: tuple[int, int, int] = _TEXT,
    anchor: str = "la",
    rim: int = 0,
) -> None:
    # The dark rim keeps letters readable on bright bone.
    draw.text(
        place,
        plain(text),
        fill=color,
        font=_font(size),
        anchor=anchor,
        stroke_width=rim,
        stroke_fill=(0, 0, 0),
    )


def _banner(draw: ImageDraw.ImageDraw, case: CaseResult) -> None:
    draw.rectangle((0, 0, WIDTH, 48), fill=_BANNER)
    _write(draw, (20, 24), f"REACTKD    {RESEARCH_USE}", 26, (255, 255, 255), "lm")
    if case.simulated_model:
        draw.rectangle((0, 48, WIDTH, 86), fill=_WARNING)
        _write(draw, (20, 67), words.simulated_warning(case), 20, (0, 0, 0), "lm")


def _grey(hu: np.ndarray) -> np.ndarray:
    """HU as RGB floats 0..1, (rows, columns, 3)."""
    low, high = _WINDOW
    return np.repeat(np.clip((hu - low) / (high - low), 0, 1)[..., None], 3, axis=2)


def _ramp(points: Sequence[RGB], at: np.ndarray) -> np.ndarray:
    """Colours at ``at`` (0..1), shape (..., 3)."""
    where = np.linspace(0, 1, len(points))
    return np.stack([np.interp(at, where, [p[c] for p in points]) for c in range(3)], axis=-1)


def overlay(plane: Plane, peak: float) -> np.ndarray:
    """The CT with the attention over it, uint8 RGB; the colours end at +-``peak``."""
    part = np.clip(np.abs(plane.attention) / peak, 0, 1)
    colors = np.where((plane.attention > 0)[..., None], _ramp(_FOR, part), _ramp(_AGAINST, part))
    alpha = np.where(part < _FLOOR, 0.0, 0.30 + 0.40 * part)[..., None]
    return np.uint8(255 * ((1 - alpha) * _grey(plane.hu) + alpha * colors))


def outlines(plane: Plane, colors: dict[int, RGB]) -> np.ndarray:
    """The CT with the borders of the regions, uint8 RGB, by label."""
    image = _grey(plane.hu)
    labels = np.pad(plane.labels, 2, mode="edge")
    middle = labels[2:-2, 2:-2]
    edge = np.zeros(middle.shape, bool)
    for down, right in ((-2, 0), (2, 0), (0, -2), (0, 2), (-1, 0), (1, 0), (0, -1), (0, 1)):
        rows = slice(2 + down, labels.shape[0] - 2 + down)
        edge |= labels[rows, 2 + right : labels.shape[1] - 2 + right] != middle
    for label, color in colors.items():
        image[edge & (middle == label)] = color
    return np.uint8(255 * image)


def _picture(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    pixels: np.ndarray,
    plane: Plane,
) -> None:
    """One picture with title, letters of its sides and a scale bar."""
    from PIL import Image

    left, top = corner
    height, width = pixels.shape[:2]
    page.paste(Image.fromarray(np.ascontiguousarray(pixels)), corner)
    title, letters, axis = _CAPTIONS[plane.name]
    middle, centre = top + height // 2, left + width // 2
    places = (
        (left + 8, middle, "lm"),
        (left + width - 8, middle, "rm"),
        (centre, top + 6, "ma"),
        (centre, top + height - 6, "md"),
    )
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        _write(draw, (x, y), letter, 20, _TEXT, anchor, rim=2)
    # The longest one that stays clear of the letter in the middle.
    long = next((mm for mm in (50, 20, 10) if mm / plane.mm_per_pixel < width / 3), 5)
    bar, y = long / plane.mm_per_pixel, top + height - 14
    draw.line((left + width - 20 - bar, y, left + width - 20, y), fill=_TEXT, width=3)
    _write(draw, (left + width - 20, y - 6), f"{long} mm", 16, _TEXT, "rd", rim=2)
    where = f"{title}   ({axis} {plane.position_mm:+.0f} mm)"
    _write(draw, (left, top + height + 6), where, 18, _DIM)


def _legend(page: Image.Image, draw: ImageDraw.ImageDraw, case: CaseResult, peak: float) -> None:
    """The colours of the attention, what they mean and where they end."""
    from PIL import Image

    left, top, width = 20, 1118, 490
    at = np.linspace(-1, 1, width)
    part = np.abs(at)
    row = np.where((at > 0)[:, None], _ramp(_FOR, part), _ramp(_AGAINST, part))
    row[part < _FLOOR] = np.array(_BACKGROUND) / 255
    strip = np.uint8(255 * np.repeat(row[None], 14, axis=0))
    page.paste(Image.fromarray(strip), (left, top))
    draw.rectangle((left, top, left + width, top + 14), outline=_DIM)
    _write(draw, (left, top + 20), f"-{peak:.3g}  against", 16, _DIM)
    _write(draw, (left + width, top + 20), f"for  +{peak:.3g}", 16, _DIM, "ra")
    about = f"Attention for '{case.class_title(case.target)}', logit units per litre"
    _write(draw, (left, top + 42), about, 16, _DIM)


class _Column:
    """Lines of text, one below the other, wrapped to the width of the column."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: int, top: int, width: int) -> None:
        self._draw, self.left, self.top, self._width = draw, left, top, width

    def write(
        self, text: str, size: int = 19, color: tuple[int, int, int] = _TEXT, most: int = 9
    ) -> None:
        lines, line = [], ""
        for word in text.split(" "):  # not at no-break spaces, which ``plain`` makes spaces
            longer = f"{line} {plain(word)}".strip()
            if self._draw.textlength(longer, font=_font(size)) > self._width and line:
                lines.append(line)
                line = plain(word)
            else:
                line = longer
        lines.append(line)
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
        for text in lines:
            _write(self._draw, (self.left, self.top), text, size, color)
            self.top += round(size * 1.3)

    def skip(self, pixels: int) -> None:
        self.top += pixels


def _words(draw: ImageDraw.ImageDraw, case: CaseResult) -> None:
    width = WIDTH - _TEXT_LEFT - 25
    column = _Column(draw, _TEXT_LEFT, _TEXT_TOP, width)
    column.write(case.task_title, 20, _DIM)
    column.skip(6)
    column.write(words.headline(case), 28)
    column.skip(10)
    for info in words.likely_first(case)[:6]:
        probability = case.probabilities[info.name]
        column.write(f"{words.percent(probability)}   {info.title}", 20, most=1)
        bar = (column.left, column.top, column.left + width, column.top + 8)
        draw.rectangle(bar, fill=(45, 50, 58))
        draw.rectangle((*bar[:2], column.left + width * probability, bar[3]), fill=(96, 170, 255))
        column.skip(18)
    column.write(words.set_sentence(case), 18)
    column.skip(12)
    column.write(f"Regions that matter most for '{case.class_title(case.target)}'", 20)
    column.write("share in logit units; volume", 16, _DIM)
    colors = region_colors(case.regions)
    strongest = sorted(case.ranked, key=lambda pair: -abs(pair[1].share))[:7]
    for region, share in strongest:
        y = column.top + 3
        color = tuple(round(255 * part) for part in colors[region.id])
        draw.rectangle((column.left, y, column.left + 14, y + 14), fill=color)
        _write(draw, (column.left + 24, column.top), _short(region.name), 18)
        right = column.left + width
        ml = f"{region.volume_ml:.{0 if region.volume_ml >= 10 else 1}f} ml"
        _write(draw, (right - 95, column.top), words.signed(share.share), 18, anchor="ra")
        _write(draw, (right, column.top), ml, 18, _DIM, "ra")
        column.skip(25)
    column.skip(12)
    for notice in words.other_notices(case)[:5]:
        color = _WARNING if notice.severity == "warning" else _DIM
        column.write(notice.text, 17, color, most=4)
        column.skip(5)
    _footer(draw, case)


def _short(name: str, limit: int = 36) -> str:
    return name if len(name) <= limit else f"{name[: limit - 3]}..."


def _footer(draw: ImageDraw.ImageDraw, case: CaseResult) -> None:
    model = case.provenance.get("model", {})
    sha = model.get("weights_sha256", "")
    lines = (
        f"{model.get('name', '')} {model.get('version', '')}, SHA-256 {sha[:16]}",
        f"REACTKD {__version__}. Regions are rules on the segmentation that was given.",
        "Shares explain this model, not the disease.",
    )
    for number, line in enumerate(lines):
        _write(draw, (_TEXT_LEFT, HEIGHT - 82 + 24 * number), line, 16, _DIM)
