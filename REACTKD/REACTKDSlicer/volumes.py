"""Scalar volumes as MRML nodes: the CT, the attention overlay, the layers of the slice views."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from REACTKDLib.types import CaseResult, Volume

from .colors import ATTENTION_RAMP, add_color_table
from .context import SceneContext
from .run_nodes import add_node
from .translation import tr as _

#: Array types that a vtkImageData and an NRRD file hold; any other becomes float32.
_IMAGE_TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


def vtk_matrix(matrix: np.ndarray) -> Any:
    """vtkMatrix4x4 of a 4x4 array."""
    import vtk

    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return result


def fill_image(image: Any, array: np.ndarray) -> None:
    """Give the (k, j, i) ``array``, copied, to a vtkImageData whose extent fits it."""
    from vtk.util.numpy_support import numpy_to_vtk

    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))


def add_volume(context: SceneContext, volume: Volume, run: str, role: str) -> Any:
    """A vtkMRMLScalarVolumeNode of ``volume`` in RAS, with a display node."""
    import vtk

    array = volume.array
    if array.dtype not in _IMAGE_TYPES:
        array = array.astype(np.float32)
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.geometry.size)
    fill_image(image, array)
    node = add_node(context, "vtkMRMLScalarVolumeNode", run, role)
    node.SetIJKToRASMatrix(vtk_matrix(volume.geometry.ijk_to_ras_matrix))
    # Callers set the window. The default display node would search the voxels for one: half a
    # second of a big CT.
    display = context.scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    node.SetAndObserveImageData(image)
    return node


def add_ct(context: SceneContext, ct: Volume, run: str, window: float, level: float) -> Any:
    """The CT as a volume node shown with ``window`` and ``level``, HU."""
    node = add_volume(context, ct, run, "CT")
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    return node


def add_attention(context: SceneContext, case: CaseResult, run: str, floor: float) -> Any:
    """The attention as a volume node with colour table and threshold.

    Only what speaks for the target class is shown: the window runs from 0 to the maximum, and
    everything below ``floor`` times the maximum is hidden. The voxels keep their signed values.
    """
    node = add_volume(context, case.attention, run, "attention")
    table = add_color_table(context, run, "attention", ATTENTION_RAMP)
    peak = float(case.attention.array.max())
    # With nothing in favour of the class, any positive window hides every voxel.
    top = peak if peak > 0 else 1.0
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(table.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, top)
    display.SetThreshold(floor * top, max(top, peak))
    display.ApplyThresholdOn()
    return node


def attention_title(case: CaseResult) -> str:
    """What the colours of the attention mean."""
    return _("Attention for\n{title}\n(logit per litre)").format(
        title=case.class_title(case.target)
    )


def add_attention_legend(context: SceneContext, case: CaseResult, attention: Any) -> Any:
    """The legend of the attention in slice views; after :func:`set_slice_layers`.

    A legend looks for its volume among the slice layers only when it is added.
    """
    display = attention.GetDisplayNode()
    legend = add_legend(context, display, attention_title(case), display.GetWindowLevelMax())
    legend.SetVisibility3D(False)
    return legend


def refresh_legends(context: SceneContext) -> None:
    """After a change of slice layers: legends do not look by themselves whether they still fit."""
    class_name = "vtkMRMLColorLegendDisplayNode"
    for n in range(context.scene.GetNumberOfNodesByClass(class_name)):
        context.scene.GetNthNodeByClass(n, class_name).Modified()


def legend_of(context: SceneContext, node: Any) -> Any | None:
    """The colour legend of a node, if it has one."""
    return context.colors_logic.GetColorLegendDisplayNode(node)


def entitle_legend(legend: Any, title: str) -> None:
    """Give a legend a title; it also says what the picture may be used for."""
    legend.SetTitleText(f"{title}\n{_('Research use only')}")


def add_legend(context: SceneContext, display: Any, title: str, largest: float) -> Any:
    """The colour legend of a display node, slim, at the right edge of the view, low.

    ``largest`` is the largest number on it.
    """
    legend = context.colors_logic.AddDefaultColorLegendDisplayNode(display)
    # Slicer has no other text that belongs to the run, is in every view and goes with the run.
    entitle_legend(legend, title)
    for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        text.SetBackgroundColor(0.0, 0.0, 0.0)  # readable over bone and fat
        text.SetBackgroundOpacity(0.6)
    # Padded to one width: text is as large as the longest label allows, and "8" would be huge.
    legend.SetLabelFormat("%-6.0f" if largest >= 100 else "%-6.2g")
    legend.SetNumberOfLabels(5)
    legend.SetSize(0.08, 0.3)
    legend.SetPosition(0.97, 0.14)
    return legend


def set_slice_layers(
    context: SceneContext,
    background: Any,
    foreground: Any,
    foreground_opacity: float,
    keep: Collection[Any] = (),
) -> None:
    """Show ``background`` under ``foreground`` in every slice view of the scene; a view whose
    foreground is one of ``keep`` stays as it is."""
    scene = context.scene
    kept = {node.GetID() for node in keep}
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        if composite.GetForegroundVolumeID() in kept:
            continue
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID())
        composite.SetForegroundOpacity(foreground_opacity)
