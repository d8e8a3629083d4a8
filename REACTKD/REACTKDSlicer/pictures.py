"""Pictures of a shown case: three slices through the most attended point, and the graph in 3D."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from REACTKDLib import case_report_words as words
from REACTKDLib.geometry import Vector
from REACTKDLib.prognosis.result import case_to_draw
from REACTKDLib.prognosis.types import PrognosisResult
from REACTKDLib.types import NO_LESION, RESEARCH_USE, CaseResult

from . import prognosis_text
from .context import SceneContext
from .drawing import WHITE, Color, Label, with_header, with_labels, wrapped
from .graph_nodes import VIEW_FROM, view_axes
from .offscreen import SLICE_ORIENTATIONS, OffscreenViews, View
from .prognosis_nodes import PrognosisNodes
from .scene_nodes import CaseNodes, MapNodes, jump_to_attention
from .translation import tr as _

#: The regions fill this part of a picture.
_FILL = 0.72
_FILL_3D = 0.88
_RULER_HEIGHT = 26  # pixels at the bottom edge that Slicer's ruler takes
_GAP = 6
_BACKGROUND = (0.07, 0.08, 0.11)
_GROUND: Color = (18, 20, 28)  # the same, as pixels
_AMBER: Color = (255, 196, 92)
_GREY: Color = (170, 176, 186)


def draw_pictures(
    context: SceneContext, views: OffscreenViews, case: CaseResult, nodes: CaseNodes
) -> Mapping[str, np.ndarray]:
    """Pictures by name: ``axial``, ``coronal``, ``sagittal``, ``3d`` and ``overview`` of the four.

    The views must have been made before the case was shown. Images are uint8 RGB.
    """
    odds = ", ".join(
        f"{c.title} {words.percent(case.probabilities[c.name])}" for c in words.likely_first(case)
    )
    answer = (words.headline(case), words.set_sentence(case), f"{odds}.")
    return _draw(context, views, case, nodes, answer, _("Region graph"))


def draw_prognosis_pictures(
    context: SceneContext, views: OffscreenViews, result: PrognosisResult, nodes: PrognosisNodes
) -> Mapping[str, np.ndarray]:
    """As :func:`draw_pictures`, of what the CT's branch of a prognosis saw.

    Raises
    ------
    InputError : there is no map of a CT.
    """
    added = ", ".join(f"{c.title} {words.signed(c.logit)}" for c in result.modality_contributions)
    answer = (
        prognosis_text.headline(result),
        _("Contributions (log odds): {added}.").format(added=added),
    )
    return _draw(context, views, case_to_draw(result), nodes, answer, _("Regions"))


def _draw(
    context: SceneContext,
    views: OffscreenViews,
    case: CaseResult,
    nodes: MapNodes,
    answer: Sequence[str],
    threed_title: str,
) -> Mapping[str, np.ndarray]:
    """``answer`` : lines over the overview, the first one large."""
    point = jump_to_attention(context, case, nodes)
    bounds = _world_bounds(nodes)
    tiles = {}
    for name, view in views.slices.items():
        _frame_slice(view, bounds, point)
        right, up = _slice_axes(view.node).T[:2]
        tiles[SLICE_ORIENTATIONS[name].lower()] = _Tile(
            slice_title(view.node), with_labels(view.image(), _edge_letters(right, up))
        )
    _frame_threed(views.threed, bounds)
    tiles["3d"] = _Tile(
        threed_title, with_labels(views.threed.image(), _edge_letters(*view_axes()))
    )
    pictures = {name: _picture(case, tile) for name, tile in tiles.items()}
    return {**pictures, "overview": _overview(case, list(tiles.values()), answer)}


@dataclass(frozen=True)
class _Tile:
    """A view and its title; texts stand above it, so that they cover no anatomy."""

    title: str
    image: np.ndarray


def _picture(case: CaseResult, tile: _Tile) -> np.ndarray:
    """One view that can be passed on alone: it says what it is and what it may be used for."""
    width = tile.image.shape[1]
    return with_header(tile.image, [_title(tile.title), *_warning_lines(case, width)], _GROUND)


def _world_bounds(nodes: MapNodes) -> np.ndarray:
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


def _warning_lines(case: CaseResult, width: int, only_warnings: bool = True) -> list[Label]:
    """What the picture may be used for, and what a reader must know of the answer."""
    lines = _lines(RESEARCH_USE, width, _AMBER, bold=True)
    if warning := words.simulated_warning(case):
        lines += _lines(warning, width, _AMBER)
    for notice in words.other_notices(case):
        if notice.code == NO_LESION:
            lines = _lines(notice.text, width, _AMBER, 17, bold=True) + lines
        elif notice.severity == "warning":
            lines += _lines(notice.text, width, _AMBER)
        elif not only_warnings:
            lines += _lines(notice.text, width, _GREY)
    return lines


def _lines(text: str, width: int, color: Color, size: int = 15, bold: bool = False) -> list[Label]:
    """``text`` as labels that a picture of ``width`` pixels holds."""
    parts = wrapped(text, width, size, bold)
    return [Label(part, 0.0, 0.0, size=size, color=color, bold=bold) for part in parts]


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
    centre = bounds.mean(axis=0) + right * 0.2 * half_width
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + VIEW_FROM * distance))
    camera.SetViewUp(0.0, 0.0, 1.0)
    camera.ResetClippingRange()


def _overview(case: CaseResult, tiles: list[_Tile], answer: Sequence[str]) -> np.ndarray:
    """Four pictures of one size in two rows under a header with the answer and its notices."""
    pictures = [with_header(tile.image, [_title(tile.title)], _GROUND) for tile in tiles]
    height, width, _channels = pictures[0].shape
    canvas = np.full((2 * height + _GAP, 2 * width + _GAP, 3), _GROUND, np.uint8)
    for number, picture in enumerate(pictures):
        top = (number // 2) * (height + _GAP)
        left = (number % 2) * (width + _GAP)
        canvas[top : top + height, left : left + width] = picture
    whole = canvas.shape[1]
    headline, second, *further = answer
    said = [
        *_lines(headline, whole, WHITE, 24, bold=True),
        *_lines(second, whole, WHITE, 17),
        *(line for text in further for line in _lines(text, whole, _GREY, 17)),
    ]
    notices = _warning_lines(case, whole, only_warnings=False)
    if any(notice.code == NO_LESION for notice in case.notices):
        # Not the eye's first: a grade of a tumour that nobody has shown to the model.
        said = [dataclasses.replace(line, size=17, bold=False, color=_GREY) for line in said]
        said, notices = notices, said
    heading = _lines(f"{case.case_id}: {case.task_title}", whole, _GREY, 17)
    return with_header(canvas, [*heading, *said, *notices], _GROUND)
