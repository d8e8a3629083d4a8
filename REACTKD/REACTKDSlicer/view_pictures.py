"""Pictures of the application's views as they are now, for a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer
from slicer.i18n import tr as _

from .pictures import slice_title


def view_pictures() -> dict[str, bytes]:
    """Caption -> PNG of each slice and 3D view of the layout; none without a main window.

    Texts in the corners of slice views are left out: they may name the patient.
    """
    manager = slicer.app.layoutManager()
    if manager is None:
        return {}
    pictures = {}
    for name in manager.sliceViewNames():
        widget = manager.sliceWidget(name)
        node = widget.mrmlSliceNode()
        if not node.IsMappedInLayout():
            continue
        view = widget.sliceView()
        with _hidden(widget.overlayCornerAnnotation(), view.cornerAnnotation()):
            pictures[_("{name} view: {slice}").format(name=name, slice=slice_title(node))] = (
                _png_of(view)
            )
    for number in range(manager.threeDViewCount):
        title = _("3D view") if number == 0 else _("3D view {n}").format(n=number + 1)
        pictures[title] = _png_of(manager.threeDWidget(number).threeDView())
    return pictures


@contextmanager
def _hidden(*actors: Any) -> Iterator[None]:
    """VTK actors are invisible meanwhile."""
    before = [actor.GetVisibility() for actor in actors]
    for actor in actors:
        actor.SetVisibility(False)
    try:
        yield
    finally:
        for actor, visible in zip(actors, before, strict=True):
            actor.SetVisibility(visible)


def _png_of(view: Any) -> bytes:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    view.forceRender()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.renderWindow())
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.WriteToMemoryOn()
    writer.Write()
    return bytes(vtk_to_numpy(writer.GetResult()))
