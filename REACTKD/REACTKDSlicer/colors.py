"""Colour tables and region colours. Slicer's own table files are absent on slicer-core."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

from REACTKDLib.types import Region

from .context import SceneContext
from .run_nodes import add_node

RGB = tuple[float, float, float]

#: Control points, evenly spaced from low to high.
ATTENTION_RAMP: tuple[RGB, ...] = (  # black, violet, red, orange, pale yellow
    (0.0, 0.0, 0.02),
    (0.34, 0.06, 0.43),
    (0.74, 0.22, 0.33),
    (0.98, 0.56, 0.04),
    (0.99, 1.0, 0.64),
)
SHARE_RAMP: tuple[RGB, ...] = (  # diverging: blue speaks against the class, orange for it
    (0.05, 0.25, 0.90),
    (0.25, 0.55, 1.00),
    (0.82, 0.82, 0.82),
    (1.00, 0.60, 0.15),
    (0.95, 0.20, 0.02),
)
SIMILARITY_RAMP: tuple[RGB, ...] = (  # slate to lime
    (0.25, 0.30, 0.36),
    (0.16, 0.48, 0.40),
    (0.32, 0.72, 0.34),
    (0.80, 0.98, 0.45),
)

_TABLE_SIZE = 256

#: Hue, saturation, value of the first region of a kind. Later ones differ in value and hue.
#: Lesions and rims are cyan and blue, which stand out against the attention's violet to yellow.
_KIND_HSV = {
    "lesion": (0.50, 0.80, 1.00),
    "rim": (0.58, 0.45, 1.00),
    "parenchyma": (0.05, 0.30, 0.95),
    "organ": (0.33, 0.30, 0.80),
}


def ramp_colors(ramp: Sequence[RGB], count: int = _TABLE_SIZE) -> np.ndarray:
    """``count`` colours along the control points, linear in RGB, shape (count, 3)."""
    points = np.asarray(ramp, dtype=float)
    at = np.linspace(0.0, len(points) - 1.0, count)
    return np.stack(
        [np.interp(at, np.arange(len(points)), points[:, channel]) for channel in range(3)], axis=1
    )


def add_color_table(context: SceneContext, run: str, what: str, ramp: Sequence[RGB]) -> Any:
    """A vtkMRMLColorTableNode of 256 colours along ``ramp``, named after what it colours."""
    node = add_node(context, "vtkMRMLColorTableNode", run, f"{what} colors")
    node.SetName(f"REACTKD {what}")
    node.SetTypeToUser()
    node.SetNumberOfColors(_TABLE_SIZE)
    for index, (red, green, blue) in enumerate(ramp_colors(ramp)):
        node.SetColor(index, f"{index}", red, green, blue, 1.0)
    node.GetLookupTable().SetRange(0, _TABLE_SIZE - 1)
    return node


def region_colors(regions: Sequence[Region]) -> dict[str, RGB]:
    """Colour by region id: hue by kind, shade by position among the regions of that kind."""
    seen: dict[str, int] = {}
    colors = {}
    for region in regions:
        number = seen.get(region.kind, 0)
        seen[region.kind] = number + 1
        hue, saturation, value = _KIND_HSV[region.kind]
        # Neighbouring parts of one kind alternate between light and dark shades.
        shade = 1.0 - 0.14 * (number % 3)
        colors[region.id] = colorsys.hsv_to_rgb(
            (hue + 0.015 * (number % 5)) % 1.0, saturation, value * shade
        )
    return colors
