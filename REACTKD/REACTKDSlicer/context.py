"""What the scene code needs from its surroundings, so that it never asks for the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SceneContext:
    """A MRML scene and the Slicer logics that act on it.

    ``context_from_slicer_application`` makes one inside Slicer, ``offscreen.offscreen_context``
    makes one on slicer-core. The fields are VTK objects, which carry no Python types.

    Parameters
    ----------
    scene : vtkMRMLScene.
    application_logic : vtkSlicerApplicationLogic, for writing and reading scene bundles.
    colors_logic : vtkSlicerColorLogic, for colour legends.
    markups_logic : vtkSlicerMarkupsLogic, for jumping slice views.
    """

    scene: Any
    application_logic: Any
    colors_logic: Any
    markups_logic: Any

    @property
    def subject_hierarchy(self) -> Any:
        """The scene's vtkMRMLSubjectHierarchyNode; closing or loading a scene may replace it."""
        import slicer

        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)


def context_from_slicer_application() -> SceneContext:
    """The context of the running Slicer application: its scene and its modules' logics."""
    import slicer

    return SceneContext(
        scene=slicer.mrmlScene,
        application_logic=slicer.app.applicationLogic(),
        colors_logic=slicer.modules.colors.logic(),
        markups_logic=slicer.modules.markups.logic(),
    )
