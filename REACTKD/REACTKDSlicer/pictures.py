"""Pictures of a shown case: three slices through the most attended point, and the graph in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from REACTKDLib.geometry import Vector
from REACTKDLib.types import RESEARCH_USE, CaseResult

from .context import SceneContext
from .drawing import Label, with_labels
from .graph_nodes import VIEW_FROM, view_axes
from .offscreen import SLICE_ORIENTATIONS, OffscreenViews, View
from .scene_nodes import CaseNodes, jump_to_attention

#: The regions fill this part of a picture.
_FILL = 0.72
_FILL_3D = 0.95
_RULER_HEIGHT = 26  # pixels at the bottom edge that Slicer's ruler takes
_GAP = 6
_BACKGROUND = (0.07, 0.08, 0.11)
_AMBER = (255, 196, 92)
_GREY = (170, 176, 186)


def draw_pictures(
    context: SceneContext, views: OffscreenViews, case: CaseResult, nodes: CaseNodes
) -> Mapping[str, np.ndarray]:
    """Pictures by name: ``axial``, ``coronal``, ``sagittal``, ``3d`` and ``overview`` of the four.

    The views must have been made before the case was shown. Images are uint8 RGB.
    """
    point = jump_to_attention(context, case, nodes)
    bounds = _world_bounds(nodes)
    tiles = {}
    for name, view in views.slices.items():
        _frame_slice(view, bounds, point)
        tiles[SLICE_ORIENTATIONS[name].lower()] = with_labels(view.image(), _slice_labels(view))
    _frame_threed(views.threed, bounds)
    tiles["3d"] = with_labels(
        views.threed.image(), [_title("Region graph"), *_edge_letters(*view_axes())]
    )
    pictures = {name: with_labels(tile, [_use_label(case)]) for name, tile in tiles.items()}
    return {**pictures, "overview": _overview(case, list(tiles.values()))}


def _world_bounds(nodes: CaseNodes) -> np.ndarray:
    """Corners (low, high) of the box around all regions, world RAS mm, shape (2, 3)."""
    bounds = [0.0] * 6
    nodes.regions.GetRASBounds(bounds)
    return np.asarray(bounds).reshape(3, 2).T


def _frame_slice(view: View, bounds: np.ndarray, point: Vector) -> None:
    """Centre the slice view on the regions, at the depth of ``point``."""
    node = view.node
    node.JumpSliceByCentering(*bounds.mean(axis=0))
    node.JumpSliceByOffsetting(*point)
    width, height = view.size
    across, up, _ = np.abs(_slice_axes(node).T) @ (bounds[1] - bounds[0])
    mm_per_pixel = max(across / width, up / height) / _FILL
    node.SetFieldOfView(mm_per_pixel * width, mm_per_pixel * height, node.GetFieldOfView()[2])
    node.UpdateMatrices()
    node.SetRulerType(node.RulerTypeThin)


def _slice_axes(node: Any) -> np.ndarray:
    """Unit vectors, RAS, in columns: to the right in the picture, up, and the slice's normal."""
    matrix = node.GetSliceToRAS()
    return np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])


def slice_title(node: Any) -> str:
    """Orientation and depth of a vtkMRMLSliceNode: ``Axial   S 12.5 mm``."""
    _, _, normal = _slice_axes(node).T
    offset = node.GetSliceOffset()
    side = _letter(normal if offset >= 0 else -normal)
    return f"{node.GetOrientation()}   {side} {abs(offset):.1f} mm"


def _slice_labels(view: View) -> list[Label]:
    right, up, _ = _slice_axes(view.node).T
    return [_title(slice_title(view.node)), *_edge_letters(right, up)]


def _edge_letters(right: np.ndarray, up: np.ndarray) -> list[Label]:
    """The patient's sides at the picture's edges, given the picture's axes in RAS."""
    return [
        Label(_letter(-right), 0.0, 0.5, size=24),
        Label(_letter(right), 1.0, 0.5, size=24),
        Label(_letter(up), 0.5, 0.0, size=24),
        Label(_letter(-up), 0.5, 1.0, down=-_RULER_HEIGHT, size=24),
    ]


def _letter(direction: np.ndarray) -> str:
    """The patient's side that ``direction`` (RAS) points to."""
    axis = int(np.argmax(np.abs(direction)))
    return ("RAS" if direction[axis] > 0 else "LPI")[axis]


def _title(text: str) -> Label:
    return Label(text, 0.0, 0.0, size=20, bold=True)


def _use_label(case: CaseResult, down: int = 30) -> Label:
    """What the picture may be used for; below the title."""
    if case.simulated_model:
        text, color = f"Model trained on simulated data. {RESEARCH_USE}", _AMBER
    else:
        text, color = RESEARCH_USE, _GREY
    return Label(text, 0.0, 0.0, down=down, size=15, color=color)


def _frame_threed(view: View, bounds: np.ndarray) -> None:
    """Look at the regions from the front, so that they fill the view."""
    node = view.node
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    node.SetBackgroundColor(*_BACKGROUND)
    node.SetBackgroundColor2(*_BACKGROUND)
    managers = view.logic.GetDisplayableManagerGroup()
    camera = managers.GetDisplayableManagerByClassName(
        "vtkMRMLCameraDisplayableManager"
    ).GetCameraNode()
    right, up = view_axes()
    size = bounds[1] - bounds[0]
    half_width, half_height, half_depth = (
        np.abs([right, up, VIEW_FROM]) @ size / 2  # of the box as the camera sees it
    )
    visible = _FILL_3D * np.tan(np.deg2rad(camera.GetViewAngle() / 2))
    distance = max(half_width, half_height) / visible + half_depth / 2
    # To the left of the middle: the legends are on the right.
    centre = bounds.mean(axis=0) + right * 0.07 * half_width
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + VIEW_FROM * distance))
    camera.SetViewUp(0.0, 0.0, 1.0)
    camera.ResetClippingRange()


def _overview(case: CaseResult, pictures: list[np.ndarray]) -> np.ndarray:
    """Four pictures of one size in two rows under a header with the probabilities."""
    height, width, _ = pictures[0].shape
    header_height = 104
    canvas = np.full(
        (header_height + 2 * height + _GAP, 2 * width + _GAP, 3),
        np.round(np.multiply(_BACKGROUND, 255)).astype(np.uint8),
    )
    for number, picture in enumerate(pictures):
        top = header_height + (number // 2) * (height + _GAP)
        left = (number % 2) * (width + _GAP)
        canvas[top : top + height, left : left + width] = picture
    likely_first = sorted(case.classes, key=lambda c: -case.probabilities[c.name])
    odds = "    ".join(f"{c.title} {case.probabilities[c.name]:.0%}" for c in likely_first)
    heading = f"{case.case_id}: {case.task_title}"
    canvas[:header_height] = with_labels(
        canvas[:header_height],
        [
            Label(heading, 0.0, 0.0, size=17, color=_GREY),
            Label(odds, 0.0, 0.0, down=26, size=24, bold=True),
            _use_label(case, down=62),
        ],
    )
    return canvas
