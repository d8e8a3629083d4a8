"""A simulated patient as nodes, as if a user had loaded CT, segmentation and PET."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from REACTKDLib.simulation import demo_parameters, simulate_case
from REACTKDLib.types import Segmentation, Study, Volume

#: Window and level.
ABDOMEN_HU = (400.0, 40.0)


@dataclass(frozen=True)
class StudyNodes:
    """The nodes of a study; ``pet`` by modality."""

    ct: Any
    segmentation: Any
    pet: dict[str, Any]


def simulated_study(spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.5)) -> Study:
    """The demo's simulated patient on a coarse CT grid, made in about a second.

    The spacing is one that the shipped model's training had, so that no notice is about it.
    """
    parameters = demo_parameters()
    scanner = dataclasses.replace(parameters.scanner, spacing_mm=spacing_mm)
    case = simulate_case(dataclasses.replace(parameters, scanner=scanner), seed=1)
    return case.study("simulated")


def add_study(study: Study) -> StudyNodes:
    """Add a study's volumes and segmentation to the scene, the CT in a window for the abdomen."""
    ct = _add_volume(study.ct, f"{study.case_id} CT")
    display = ct.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(*ABDOMEN_HU)
    return StudyNodes(
        ct=ct,
        segmentation=_add_segmentation(study.segmentation, f"{study.case_id} segmentation"),
        pet={
            modality: _add_volume(volume, f"{study.case_id} {modality}")
            for modality, volume in study.volumes.items()
            if modality != "ct"
        },
    )


def _add_volume(volume: Volume, name: str) -> Any:
    import slicer

    return slicer.util.addVolumeFromArray(
        volume.array, ijkToRAS=volume.geometry.ijk_to_ras_matrix, name=name
    )


def _add_segmentation(segmentation: Segmentation, name: str) -> Any:
    import slicer

    labelmap = slicer.util.addVolumeFromArray(
        segmentation.labels,
        ijkToRAS=segmentation.geometry.ijk_to_ras_matrix,
        nodeClassName="vtkMRMLLabelMapVolumeNode",
    )
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
    names = {segment.label: segment.name for segment in segmentation.segments}
    for n in range(node.GetSegmentation().GetNumberOfSegments()):
        segment = node.GetSegmentation().GetNthSegment(n)
        segment.SetName(names[segment.GetLabelValue()])
    slicer.mrmlScene.RemoveNode(labelmap)
    return node
