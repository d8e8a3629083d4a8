"""Slicer's views without the Slicer application: real scene, logics and displayable managers.

The application owns its logics and views through Qt. Here they are wired by hand on slicer-core,
so that a scene can be filled, saved and drawn on a machine without a screen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from REACTKDLib.errors import EnvironmentProblem

from .context import SceneContext

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREED_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)
#: Slicer's own colours of the three standard slice views.
LAYOUT_COLORS = {
    "Red": (0.952941, 0.290196, 0.2),
    "Green": (0.431373, 0.690196, 0.294118),
    "Yellow": (0.929412, 0.835294, 0.298039),
}
SLICE_ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


def offscreen_context() -> SceneContext:
    """A new MRML scene on slicer-core with the logics that the scene code needs. No OpenGL.

    Raises
    ------
    EnvironmentProblem : slicer-core is not installed.
    """
    try:
        import slicer
        import vtk
    except ImportError as error:
        raise EnvironmentProblem(
            f"Slicer's scene library cannot be imported: {error}.",
            "Install it with: pip install slicer-core",
        ) from error

    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    application_logic.SetMRMLScene(scene)
    logics = {
        "Colors": slicer.vtkSlicerColorLogic(),
        "Markups": slicer.vtkSlicerMarkupsLogic(),
        "Models": slicer.vtkSlicerModelsLogic(),
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic(),
        "Tables": slicer.vtkSlicerTablesLogic(),
        "Texts": slicer.vtkSlicerTextsLogic(),
        "Volumes": slicer.vtkSlicerVolumesLogic(),
    }
    application_logic.SetColorLogic(logics["Colors"])
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application_logic)
        with _silence():  # the colour logic misses Slicer's colour files, which are not needed
            logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return SceneContext(
        scene=scene,
        application_logic=application_logic,
        colors_logic=logics["Colors"],
        markups_logic=logics["Markups"],
    )


@dataclass(frozen=True)
class View:
    """One off-screen view: Slicer's view node drawn by Slicer's displayable managers.

    ``logic`` is a vtkMRMLSliceLogic or a vtkMRMLViewLogic. ``update`` is called before drawing.
    ``kept`` holds the objects that nothing else keeps alive.
    """

    node: Any
    logic: Any
    window: Any
    update: Callable[[], None]
    kept: tuple[Any, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        width, height = self.window.GetSize()
        return (width, height)

    def image(self) -> np.ndarray:
        """What the view shows now: uint8 RGB, shape (height, width, 3), top row first."""
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        self.update()
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.SetInputBufferTypeToRGB()
        grab.Update()
        data = grab.GetOutput()
        width, height, _ = data.GetDimensions()
        pixels = vtk_to_numpy(data.GetPointData().GetScalars()).reshape(height, width, 3)
        return pixels[::-1].copy()


@dataclass(frozen=True)
class OffscreenViews:
    """Slice views by layout name (Red axial, Green coronal, Yellow sagittal) and one 3D view."""

    slices: Mapping[str, View]
    threed: View


@contextmanager
def offscreen_views(
    context: SceneContext, size: tuple[int, int] = (800, 800)
) -> Iterator[OffscreenViews]:
    """Views on ``context.scene``, each ``size`` (width, height) pixels, for a ``with`` block.

    Make them before the nodes are shown: colour legends react only to nodes added later.

    Raises
    ------
    EnvironmentProblem : no off-screen OpenGL.
    """
    views: list[View] = []
    try:
        views += [_slice_view(context, name, size) for name in SLICE_ORIENTATIONS]
        views.append(_threed_view(context, size))
        slices = dict(zip(SLICE_ORIENTATIONS, views, strict=False))
        yield OffscreenViews(MappingProxyType(slices), views[-1])
    finally:
        # Python deletes a scene, its logics and its views in any order. A view that hears of the
        # scene's end crashes, so views stop listening first.
        for view in views:
            _close(context, view)


def _close(context: SceneContext, view: View) -> None:
    view.logic.GetDisplayableManagerGroup().SetMRMLDisplayableNode(None)
    view.logic.SetMRMLScene(None)
    for logics in (
        context.application_logic.GetSliceLogics(),
        context.application_logic.GetViewLogics(),
    ):
        logics.RemoveItem(view.logic)
    view.window.Finalize()


@contextmanager
def _silence() -> Iterator[None]:
    """No messages from VTK meanwhile."""
    import vtk

    verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(verbosity)


def _new_window(size: tuple[int, int]) -> Any:
    import vtk

    if sys.platform.startswith("linux"):
        # Read when a window is made, so it need not be set before the import of VTK.
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    with _silence():  # a failure is reported below
        window = vtk.vtkRenderWindow()
    if window.GetClassName() == "vtkOSOpenGLRenderWindow":
        # VTK falls back to this class when EGL is missing, and then crashes at the first render.
        raise EnvironmentProblem(
            "No off-screen OpenGL (EGL) is available, so no picture can be drawn.",
            "On Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libgl1",
        )
    window.SetOffScreenRendering(1)
    # With depth peeling, multi-sampling makes translucent surfaces vanish.
    window.SetMultiSamples(0)
    window.SetSize(*size)
    return window


def _slice_view(context: SceneContext, name: str, size: tuple[int, int]) -> View:
    """A slice view: displayable managers over the image of a slice logic."""
    import slicer
    import vtk

    window = _new_window(size)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)

    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(context.application_logic)
    logic.SetMRMLScene(context.scene)
    node = logic.AddSliceNode(name)
    node.SetDefaultOrientation(SLICE_ORIENTATIONS[name])
    node.SetOrientationToDefault()
    node.SetLayoutLabel(name[0])
    node.SetLayoutColor(LAYOUT_COLORS[name])
    node.SetMappedInLayout(1)
    logic.ResizeSliceNode(*size)
    context.application_logic.GetSliceLogics().AddItem(logic)

    # In the application CTK draws the slice image; the displayable managers draw everything else.
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    image = vtk.vtkActor2D()
    image.SetMapper(mapper)
    image.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(image)

    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    group = _managers(factory, SLICE_MANAGERS, context, renderer, node)
    logic.SetDisplayableManagerGroup(group)

    def update() -> None:
        # Which filter makes the image depends on the layers shown.
        mapper.SetInputConnection(logic.GetImageDataConnection())

    return View(node, logic, window, update, (renderer, interactor, group, image))


def _threed_view(context: SceneContext, size: tuple[int, int]) -> View:
    """The 3D view."""
    import slicer
    import vtk

    window = _new_window(size)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    window.SetAlphaBitPlanes(1)  # depth peeling needs it
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)

    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(context.application_logic)
    logic.SetMRMLScene(context.scene)
    node = logic.AddViewNode("1")
    node.SetMappedInLayout(1)
    node.SetUseDepthPeeling(True)
    context.application_logic.GetViewLogics().AddItem(logic)

    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    group = _managers(factory, THREED_MANAGERS, context, renderer, node)
    logic.SetDisplayableManagerGroup(group)
    return View(node, logic, window, lambda: None, (renderer, interactor, group))


def _managers(
    factory: Any, names: tuple[str, ...], context: SceneContext, renderer: Any, node: Any
) -> Any:
    """The displayable managers ``names`` drawing view ``node`` into ``renderer``."""
    import slicer

    factory.SetMRMLApplicationLogic(context.application_logic)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(node)
    return group
