"""Colour tables. Slicer's own table files are absent on slicer-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from REACTKDLib.palette import RGB

from .context import SceneContext
from .run_nodes import add_node

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
