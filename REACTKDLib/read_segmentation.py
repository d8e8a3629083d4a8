"""A segmentation from a labelmap, a ``.seg.nrrd``, one file per structure, DICOM SEG or RTSTRUCT.

Voxels that several structures claim go to the one of the later role (a lesion inside an organ),
structures without a role yield to all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .dicom_input.segmentation import is_dicom_segmentation
from .errors import InputError
from .geometry import Geometry, resample_array
from .read_image import check_size, within_memory
from .roles import RoleRule, as_texts, assign_roles, names_other_structure, role_of_name
from .segment_layers import (
    Layer,
    Structure,
    read_dicom_layers,
    read_labelmap,
    read_structure_files,
    stem_of,
)
from .types import Segment, Segmentation


def _box_in(grid: Geometry, other: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel (i, j, k) of ``grid``'s lattice in the box around ``other``."""
    corners = grid.ijk_from_lps(other.corners_lps())
    return (
        np.floor(corners.min(axis=0) + 0.5).astype(int),
        np.ceil(corners.max(axis=0) - 0.5).astype(int),
    )


def _common_grid(layers: Sequence[Layer], path: Path) -> Geometry:
    """The files' grid if they share it, else the finest one's lattice around all structures.

    So no structure is cut off, and small structures keep their detail.
    """
    frame = layers[0].frame
    if all(layer.frame.same_grid(frame) for layer in layers):
        return frame
    filled = [layer.geometry for layer in layers if layer.present]
    lattice = min(filled, key=lambda geometry: geometry.voxel_volume_ml)
    boxes = [_box_in(lattice, geometry) for geometry in filled]
    low = np.min([box[0] for box in boxes], axis=0).tolist()
    size = (np.max([box[1] for box in boxes], axis=0) - low + 1).tolist()
    check_size(path, tuple(size))
    return lattice.crop((low[0], low[1], low[2]), (size[0], size[1], size[2]))


def _paint(
    layers: Sequence[Layer],
    structures: Sequence[Structure],
    segments: Sequence[Segment],
    rules: Sequence[RoleRule],
    grid: Geometry,
) -> np.ndarray:
    """One labelmap (k, j, i) on ``grid``, by nearest neighbour.

    Later roles lie over earlier ones, and both over structures without a role.
    """
    order: list[str | None] = [None, *(rule.name for rule in rules)]
    labels = np.zeros(grid.array_shape, np.uint8)
    for structure, segment in sorted(
        zip(structures, segments, strict=True), key=lambda pair: order.index(pair[1].role)
    ):
        layer = layers[structure.layer]
        if not layer.counts[structure.value]:
            continue
        low, high = _box_in(grid, layer.geometry)
        i, j, k = np.maximum(low, 0).tolist()
        ni, nj, nk = (np.minimum(high, np.array(grid.size) - 1) - (i, j, k) + 1).tolist()
        part = grid.crop((i, j, k), (ni, nj, nk))
        values = resample_array(layer.labels, layer.geometry, part, nearest=True)
        labels[k : k + nk, j : j + nj, i : i + ni][values == structure.value] = segment.label
    return labels


def _refuse_empty_roles(
    layers: Sequence[Layer],
    structures: Sequence[Structure],
    segments: Sequence[Segment],
    rules: Sequence[RoleRule],
) -> None:
    """Raises when no segment of a required role has a voxel."""
    for rule in rules:
        members = [
            (structure, segment)
            for structure, segment in zip(structures, segments, strict=True)
            if segment.role == rule.name
        ]
        if rule.required and not any(layers[s.layer].counts[s.value] for s, _ in members):
            names = ", ".join(f'{segment.label} "{segment.name}"' for _, segment in members)
            raise InputError(
                f"The {rule.name} of the segmentation has no voxels ({names}).",
                f"Segment the {rule.name}, or say which segment it is: {rule.name}=NAME.",
            )


@within_memory
def read_segmentation(
    paths: Sequence[Path],
    rules: Sequence[RoleRule],
    roles: Mapping[str, str | Sequence[str]] | None = None,
    ct_grid: Callable[[], Geometry] | None = None,
) -> Segmentation:
    """Reads a segmentation and finds its roles (see :func:`REACTKDLib.roles.assign_roles`).

    One path is a labelmap, a ``.seg.nrrd``, or a DICOM SEG or RTSTRUCT (a file, or a folder that
    holds one). With a single label, the name of a labelmap counts if it means a role or another
    structure. ``ct_grid`` gives the CT's grid, which an RTSTRUCT needs. Several paths are one
    binary structure each, named after their files; their grids may differ (common grid: the finest
    lattice that holds all).
    Labels keep their values where the file is one labelmap; structures from several files or
    layers are numbered from 1 in their order, those of DICOM keep their numbers.

    Raises
    ------
    InputError : as :func:`REACTKDLib.read_image.read_image` and ``assign_roles``; values that are
        no labels 0..255; nothing segmented; a required role without voxels.
    """
    paths = [Path(p) for p in paths]
    if not paths:
        raise InputError("No segmentation is given.", "Give a labelmap or a .seg.nrrd file.")
    from_dicom = [path for path in paths if is_dicom_segmentation(path)]
    if from_dicom and len(paths) > 1:
        raise InputError(
            f"{from_dicom[0]} is a DICOM segmentation beside others.", "Give it alone."
        )
    if from_dicom:
        layers, structures = read_dicom_layers(paths[0], ct_grid)
    elif len(paths) == 1:
        layers, structures = read_labelmap(paths[0])
    else:
        layers, structures = read_structure_files(paths)
    if len(structures) == len(paths) == 1 and not from_dicom:
        # lesion.nii.gz or spleen.nii.gz with its one label 1 must not become the organ that 1
        # usually is.
        stem = stem_of(paths[0])
        if role_of_name(stem, rules) or names_other_structure(stem, rules):
            structures = [replace(structures[0], name=structures[0].name or stem)]
    listed = ", ".join(str(p) for p in paths)
    if not any(layer.present for layer in layers):
        raise InputError(f"Segmentation {listed} is empty.", "Segment the image first.")
    if len(layers) > 1 and len(structures) > 255:
        raise InputError(
            f"Segmentation {listed} has {len(structures)} structures; at most 255 are read.",
            "Give only those that the model needs.",
        )
    labels = [
        structure.label or (structure.value if len(layers) == 1 else number)
        for number, structure in enumerate(structures, start=1)
    ]
    segments = assign_roles(
        [(label, s.name) for label, s in zip(labels, structures, strict=True)],
        rules,
        roles if from_dicom else _without_suffixes(roles or {}, paths),
        {label: s.meaning for label, s in zip(labels, structures, strict=True) if s.meaning},
    )
    _refuse_empty_roles(layers, structures, segments, rules)
    if len(layers) == 1 and layers[0].geometry == layers[0].frame:
        return Segmentation(layers[0].labels, layers[0].geometry, segments)
    grid = _common_grid(layers, paths[0])
    return Segmentation(_paint(layers, structures, segments, rules, grid), grid, segments)


def _without_suffixes(
    roles: Mapping[str, str | Sequence[str]], paths: Sequence[Path]
) -> dict[str, tuple[str, ...]]:
    """Role choices in which a structure may also be called by its file name."""
    stems = {path.name: stem_of(path) for path in paths}
    return {
        role: tuple(stems.get(text, text) for text in as_texts(chosen))
        for role, chosen in roles.items()
    }
