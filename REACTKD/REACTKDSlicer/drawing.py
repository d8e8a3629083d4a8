"""Text on pixel arrays and PNG files, with VTK's own fonts and writer. Needs no OpenGL.

Images are uint8 RGB, shape (height, width, 3), top row first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from REACTKDLib.errors import OutputError

Color = tuple[int, int, int]

WHITE: Color = (235, 238, 242)
_MARGIN = 12


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
