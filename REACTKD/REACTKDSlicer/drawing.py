"""Text on pixel arrays and PNG files, with VTK's own fonts and writer. Needs no OpenGL.

Images are uint8 RGB, shape (height, width, 3), top row first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from REACTKDLib.errors import OutputError

Color = tuple[int, int, int]

WHITE: Color = (235, 238, 242)
_MARGIN = 12
_LINE_HEIGHT = 1.4  # of the size of the text


@dataclass(frozen=True)
class Label:
    """One line of text on an image.

    ``x`` and ``y`` place it, margin kept: 0 is left or top, 0.5 the middle, 1 right or bottom.
    ``down`` moves it from there, pixels. ``size`` is the font size in pixels.
    """

    text: str
    x: float
    y: float
    down: int = 0
    size: int = 18
    color: Color = WHITE
    bold: bool = False


def with_labels(image: np.ndarray, labels: Iterable[Label]) -> np.ndarray:
    """A copy of ``image`` with ``labels``, each over a shadow so that it reads on any ground."""
    result = image.copy()
    height, width, _ = image.shape
    for label in labels:
        opacity = _text_opacity(label)
        rows, columns = opacity.shape
        top = max(0, _MARGIN + round((height - 2 * _MARGIN - rows) * label.y) + label.down)
        left = max(0, _MARGIN + round((width - 2 * _MARGIN - columns) * label.x))
        for shift, color in ((1, (0, 0, 0)), (0, label.color)):
            area = result[top + shift : top + shift + rows, left + shift : left + shift + columns]
            visible = opacity[: area.shape[0], : area.shape[1], None]  # the rest is cut off
            area[...] = area + (np.asarray(color) - area) * visible
    return result


def wrapped(text: str, width: int, size: int, bold: bool = False) -> list[str]:
    """``text`` in lines that fit into a picture of ``width`` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        columns = _text_opacity(Label(longer, 0, 0, size=size, bold=bold)).shape[1]
        if lines and columns <= width - 2 * _MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def with_header(image: np.ndarray, lines: Iterable[Label], color: Color) -> np.ndarray:
    """``image`` under a band of ``color`` that holds ``lines``, one below the other.

    Where the labels would stand is not asked for: a line begins at the left, below the one before.
    """
    placed, down = [], 0
    for line in lines:
        placed.append(dataclasses.replace(line, x=0.0, y=0.0, down=down))
        down += round(line.size * _LINE_HEIGHT)
    _, width, _ = image.shape
    band = np.full((2 * _MARGIN + down, width, 3), color, np.uint8)
    return np.concatenate([with_labels(band, placed), image])


def _text_opacity(label: Label) -> np.ndarray:
    """The label's opacity 0..1, shape (rows, columns)."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    style = vtk.vtkTextProperty()
    style.SetFontSize(label.size)
    style.SetBold(label.bold)
    style.SetFontFamilyToArial()
    picture = vtk.vtkImageData()
    extent = [0, 0]
    # The FreeType backend takes every character as it is; the other one reads $...$ as a formula.
    vtk.vtkTextRenderer.GetInstance().RenderString(
        style, label.text, picture, extent, 72, vtk.vtkTextRenderer.FreeType
    )
    width, height, _ = picture.GetDimensions()
    pixels = vtk_to_numpy(picture.GetPointData().GetScalars()).reshape(height, width, 4)
    return pixels[: extent[1], : extent[0], 3][::-1] / 255.0


def write_png(image: np.ndarray, path: Path) -> None:
    """Write ``image`` as PNG.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    height, width, _ = image.shape
    picture = vtk.vtkImageData()
    picture.SetDimensions(width, height, 1)
    pixels = np.ascontiguousarray(image[::-1]).reshape(-1, 3)
    picture.GetPointData().SetScalars(numpy_to_vtk(pixels, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(picture)
    writer.Write()
    if writer.GetErrorCode() != 0:
        raise OutputError(f"Cannot write {path}.", "Check the folder's rights and free space.")
