"""MRML nodes in: a ``Study`` from volume and segmentation nodes of the scene.

The study stands in the CT's own coordinate system. A transform above the CT moves CT and result
alike, so it changes nothing; a transform between the CT and another node is applied to that node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry, geometry_from_ijk_to_ras
from REACTKDLib.roles import (
    RoleRule,
    check_required_roles,
    names_other_structure,
    role_of_name,
)
from REACTKDLib.types import Segment, Segmentation, Study, Volume

_LABELMAP = "Binary labelmap"

#: Whether a labelmap has a value, by its time of modification and the value.
_has_voxels: dict[tuple[int, int], bool] = {}
_REMEMBERED = 64


def study_from_nodes(
    ct: Any,
    segmentation: Any,
    pet: Mapping[str, Any],
    rules: Sequence[RoleRule],
    case_id: str,
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> Study:
    """The study of one case; voxels are copied, the nodes stay as they are.

    Parameters
    ----------
    ct : vtkMRMLScalarVolumeNode in HU.
    segmentation : vtkMRMLSegmentationNode.
    pet : vtkMRMLScalarVolumeNode in SUV by modality (``pet_fdg``, ``pet_acetate``).
    rules : the model package's roles.
    chosen : as in :func:`roles_of`.

    Raises
    ------
    InputError : a node without voxels, a nonlinear transform between a node and the CT, axes that a
        transform has made oblique to each other, a required role without a segment.
    """
    volumes = {"ct": volume_from_node(ct, ct)}
    volumes.update({modality: volume_from_node(node, ct) for modality, node in pet.items()})
    return Study(volumes, segmentation_from_node(segmentation, ct, rules, chosen), case_id)


def volume_from_node(node: Any, frame: Any) -> Volume:
    """The voxels of a scalar volume node, in the coordinate system of the node ``frame``.

    Raises
    ------
    InputError : as :func:`study_from_nodes`.
    """
    import slicer
    import vtk

    if node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(f"The volume {node.GetName()!r} is empty.", "Load it again.")
    array = slicer.util.arrayFromVolume(node)
    if array.ndim != 3:
        raise InputError(
            f"The volume {node.GetName()!r} has {array.shape[-1]} values per voxel, not one.",
            "Choose a scalar volume.",
        )
    ijk_to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijk_to_ras)
    size = node.GetImageData().GetDimensions()
    return Volume(np.array(array), _geometry(ijk_to_ras, size, node, frame), node.GetName())


def roles_of(
    node: Any, rules: Sequence[RoleRule], chosen: Mapping[str, str] = MappingProxyType({})
) -> tuple[Segment, ...]:
    """All segments of a vtkMRMLSegmentationNode, numbered from 1, with their roles.

    ``chosen`` : role by segment ID, "" for none, where the user decided. The other segments go by
    their names; a segment whose name means nothing (``Segment_1``) by its terminology, as the
    Segment Editor sets it.

    Raises
    ------
    InputError : no segment, a required role without one.
    """
    segmentation = node.GetSegmentation()
    segments = []
    for number in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(number)
        segment = segmentation.GetSegment(segment_id)
        role = chosen.get(segment_id, guessed_role(segment, rules))
        segments.append(Segment(number + 1, segment.GetName(), role or None))
    if not segments:
        raise InputError(
            f"The segmentation {node.GetName()!r} is empty.", "Segment the structures first."
        )
    check_required_roles(segments, rules, "Say which segment it is, or add it.")
    return tuple(segments)


def guessed_role(segment: Any, rules: Sequence[RoleRule]) -> str | None:
    """What a vtkSegment's name, or else its terminology, means."""
    role = role_of_name(segment.GetName(), rules)
    if role is None and not names_other_structure(segment.GetName(), rules):
        role = role_of_name(_terminology_type(segment), rules)
    return role


def _terminology_type(segment: Any) -> str:
    """Meaning of the type in a segment's terminology entry, such as "Liver"; "" without one.

    An entry is: context ~ category ~ type ~ modifier ~ ..., and category and type are
    scheme ^ code value ^ code meaning.
    """
    import slicer
    import vtk

    entry = vtk.reference("")
    segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    parts = str(entry).split("~")
    return parts[2].split("^")[-1] if len(parts) > 2 else ""


def is_empty_segment(segment: Any) -> bool:
    """Whether a vtkSegment has neither voxels nor surface; looked at anew only after a change."""
    from vtk.util.numpy_support import vtk_to_numpy

    labelmap = segment.GetRepresentation(_LABELMAP)
    if labelmap is None:
        surface = segment.GetRepresentation("Closed surface")
        return surface is None or surface.GetNumberOfPoints() == 0
    # VTK counts all modifications in one sequence, so the time stands for the content.
    key = (labelmap.GetMTime(), int(segment.GetLabelValue()))
    if key not in _has_voxels:
        if len(_has_voxels) >= _REMEMBERED:
            _has_voxels.clear()
        scalars = labelmap.GetPointData().GetScalars()
        _has_voxels[key] = scalars is not None and bool((vtk_to_numpy(scalars) == key[1]).any())
    return not _has_voxels[key]


def segmentation_from_node(
    node: Any,
    frame: Any,
    rules: Sequence[RoleRule],
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> Segmentation:
    """The segments that have a role, as one labelmap in the coordinate system of node ``frame``.

    Segments may overlap: where several cover a voxel, the one of the later role gets it.

    Raises
    ------
    InputError : as :func:`study_from_nodes`; or nothing is segmented.
    """
    order = {rule.name: n for n, rule in enumerate(rules)}
    used = sorted(
        (s for s in roles_of(node, rules, chosen) if s.role is not None),
        key=lambda segment: order[str(segment.role)],
    )
    segments = tuple(dataclasses.replace(s, label=n) for n, s in enumerate(used, start=1))
    if len(segments) > np.iinfo(np.uint8).max:
        raise InputError(
            f"The segmentation {node.GetName()!r} has {len(segments)} segments with a role.",
            "Merge segments; at most 255 can be used.",
        )
    ids = [node.GetSegmentation().GetNthSegmentID(s.label - 1) for s in used]
    merged = merged_labels(
        _with_labelmap(node, frame), {i: n for n, i in enumerate(ids, start=1)}, frame
    )
    if merged is None:
        raise InputError(
            f"The segments {', '.join(repr(s.name) for s in segments)} of {node.GetName()!r} are"
            " empty.",
            "Segment the structures first.",
        )
    return Segmentation(merged.array, merged.geometry, segments)


def merged_labels(node: Any, labels: Mapping[str, int], frame: Any) -> Volume | None:
    """Some segments as one uint8 labelmap (k, j, i), as small as their common extent, in the
    coordinate system of node ``frame``; None where they have no voxel.

    ``labels`` : value by segment ID, 1 to 255. Where segments overlap, the later one counts.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    ids, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for segment_id, value in labels.items():
        ids.InsertNextValue(segment_id)
        values.InsertNextValue(value)
    image = slicer.vtkOrientedImageData()
    # Later segments overwrite earlier ones.
    merged = node.GenerateMergedLabelmapForAllSegments(
        image, slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS, None, ids, values
    )
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    size = (i1 - i0 + 1, j1 - j0 + 1, k1 - k0 + 1)
    if not merged or min(size) < 1 or image.GetScalarRange()[1] == 0:
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    lattice = _geometry(matrix, (1, 1, 1), node, frame)
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size[::-1])
    return Volume(array.astype(np.uint8), lattice.crop((i0, j0, k0), size), node.GetName())


def _geometry(ijk_to_ras: Any, size: tuple[int, int, int], node: Any, frame: Any) -> Geometry:
    """Grid of ``node`` in the coordinate system of ``frame``."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Multiply4x4(_transform_between(node, frame), ijk_to_ras, matrix)
    return geometry_from_ijk_to_ras(slicer.util.arrayFromVTKMatrix(matrix), size)


def _transform_between(node: Any, frame: Any) -> Any:
    """Matrix from the coordinates of ``node`` to those of ``frame``, RAS mm."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    source, target = node.GetParentTransformNode(), frame.GetParentTransformNode()
    if source is target:
        return matrix
    between = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, between)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(between):
        raise InputError(
            f"A nonlinear transform lies between {node.GetName()!r} and {frame.GetName()!r}.",
            "Harden the transform in the Transforms module.",
        )
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix)
    return matrix


def _with_labelmap(node: Any, frame: Any) -> Any:
    """``node`` if it has a binary labelmap; else a copy outside the scene that has one."""
    import slicer

    if node.GetSegmentation().ContainsRepresentation(_LABELMAP):
        return node
    copy = slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().DeepCopy(node.GetSegmentation())
    # The copy has no transform: the CT's lattice fits it only if node and CT share theirs.
    if node.GetParentTransformNode() is frame.GetParentTransformNode():
        copy.SetReferenceImageGeometryParameterFromVolumeNode(frame)
        if copy.GetSegmentation().CreateRepresentation(_LABELMAP):
            return copy
    raise InputError(
        f"The segmentation {node.GetName()!r} has no binary labelmap, and none can be made.",
        "Create the binary labelmap representation in the Segmentations module.",
    )
