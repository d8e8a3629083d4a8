"""A segmentation from a labelmap, a ``.seg.nrrd`` or one file per structure.

Voxels that several structures claim go to the one of the later role (a lesion inside an organ),
structures without a role yield to all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import InputError
from .geometry import Geometry, bounding_box, resample_array
from .read_image import ImageFile, check_size, image_suffix, read_image
from .roles import RoleRule, as_texts, assign_roles, names_other_structure, role_of_name
from .types import Segment, Segmentation

_SEGMENT_KEY = re.compile(r"Segment(\d+)_(Name|ID|LabelValue|Layer)")
_WHAT = "Segmentation"


@dataclass(frozen=True, eq=False)
class _Layer:
    """A uint8 labelmap on ``geometry``, and how many voxels each of the 256 values has.

    ``frame`` is the grid of the file, of which ``geometry`` may be a part.
    """

    labels: np.ndarray
    geometry: Geometry
    counts: np.ndarray
    frame: Geometry

    @property
    def present(self) -> list[int]:
        return [int(v) for v in np.flatnonzero(self.counts) if v != 0]

    def cropped(self) -> _Layer:
        """Only the box around the labels, copied: a hundred structures of a CT fit in memory."""
        box = bounding_box(self.labels) or (slice(0, 1),) * 3
        return replace(self, labels=self.labels[box].copy(), geometry=self.geometry.crop_to(box))


@dataclass(frozen=True)
class _Structure:
    """Where one structure is: ``value`` in layer ``layer``; ``name`` if the file has one."""

    name: str | None
    layer: int
    value: int


def _stem(path: Path) -> str:
    return path.name[: -len(image_suffix(path))]


def _layer(array: np.ndarray, geometry: Geometry, path: Path) -> _Layer:
    """Checks that ``array`` (k, j, i) holds labels 0..255, and counts them."""
    labels = array if array.dtype == np.uint8 else np.empty(array.shape, np.uint8)
    if array.dtype != np.uint8:
        for k, plane in enumerate(array):  # by plane, to keep the temporary arrays small
            with np.errstate(invalid="ignore"):
                labels[k] = plane
            wrong = labels[k] != plane
            if wrong.any():
                raise InputError(
                    f"Segmentation {path} has the value {plane[wrong].flat[0]}; labels are whole"
                    " numbers from 0 to 255.",
                    "Give a labelmap, not a probability map or an image; renumber high labels.",
                )
    counts = np.zeros(256, np.int64)
    for plane in labels[bounding_box(labels) or np.s_[:0]]:
        counts += np.bincount(plane.ravel(), minlength=256)
    counts[0] = labels.size - counts[1:].sum()
    return _Layer(labels, geometry, counts, geometry)


def _segment_records(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """The segments that a ``.seg.nrrd`` header describes, in their order."""
    records: dict[int, dict[str, str]] = {}
    for key, value in metadata.items():
        match = _SEGMENT_KEY.fullmatch(key)
        if match:
            records.setdefault(int(match.group(1)), {})[match.group(2)] = value.strip()
    return [records[n] for n in sorted(records)]


def _named_structures(path: Path, image: ImageFile) -> list[_Structure]:
    """Structures of a ``.seg.nrrd``: header keys ``SegmentN_Name``, ``_LabelValue``, ``_Layer``.

    Files of before Slicer 4.11 have neither value nor layer: one segment per component, value 1.
    """
    components = 1 if image.array.ndim == 3 else image.array.shape[3]
    structures = []
    for number, record in enumerate(_segment_records(image.metadata)):
        name = record.get("Name") or record.get("ID") or None
        value, layer = record.get("LabelValue", "1"), record.get("Layer")
        if layer is None:
            layer = str(number) if "LabelValue" not in record and components > 1 else "0"
        if not (value.isdigit() and 0 < int(value) < 256):
            raise InputError(
                f"Segmentation {path}: segment {name!r} has the label value {value!r}, not 1..255.",
                "Save it again from 3D Slicer.",
            )
        if not (layer.isdigit() and int(layer) < components):
            raise InputError(
                f"Segmentation {path}: segment {name!r} is in layer {layer!r}, and there are"
                f" {components}.",
                "Save it again from 3D Slicer.",
            )
        structures.append(_Structure(name, int(layer), int(value)))
    places = [(s.layer, s.value) for s in structures]
    for structure in structures:
        if places.count((structure.layer, structure.value)) > 1:
            raise InputError(
                f"Segmentation {path}: two segments share the label {structure.value}, one is"
                f" {structure.name!r}.",
                "Save it again from 3D Slicer.",
            )
    return structures


def _read_one(path: Path) -> tuple[list[_Layer], list[_Structure]]:
    """Layers and structures of a labelmap or a ``.seg.nrrd``."""
    image = read_image(path, _WHAT)
    structures = _named_structures(path, image)
    if image.array.ndim == 4 and not structures:
        raise InputError(
            f"Segmentation {path} has {image.array.shape[3]} values per voxel and no segment"
            " names.",
            "Give a labelmap with one label per voxel, or one file per structure.",
        )
    planes = [image.array] if image.array.ndim == 3 else list(np.moveaxis(image.array, 3, 0))
    layers = [_layer(plane, image.geometry, path) for plane in planes]
    if len(layers) > 1:
        layers = [layer.cropped() for layer in layers]
    known = {(s.layer, s.value) for s in structures}
    for number, layer in enumerate(layers):
        structures += [
            _Structure(None, number, value)
            for value in layer.present
            if (number, value) not in known
        ]
    return layers, structures


def _read_structure_files(paths: Sequence[Path]) -> tuple[list[_Layer], list[_Structure]]:
    """One layer and one structure, named after its file, per file; an empty file is allowed."""
    layers, structures = [], []
    for number, path in enumerate(paths):
        image = read_image(path, _WHAT)
        if image.array.ndim != 3:
            raise InputError(
                f"Segmentation {path} has {image.array.shape[3]} values per voxel.",
                "Of several segmentation files each holds one structure.",
            )
        layer = _layer(image.array, image.geometry, path)
        if len(layer.present) > 1:
            raise InputError(
                f"Segmentation {path} has the labels {', '.join(map(str, layer.present))}.",
                "Of several segmentation files each holds one structure; a labelmap comes alone.",
            )
        layers.append(layer.cropped())
        structures.append(_Structure(_stem(path), number, (layer.present or [1])[0]))
    return layers, structures


def _box_in(grid: Geometry, other: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel (i, j, k) of ``grid``'s lattice in the box around ``other``."""
    corners = grid.ijk_from_lps(other.corners_lps())
    return (
        np.floor(corners.min(axis=0) + 0.5).astype(int),
        np.ceil(corners.max(axis=0) - 0.5).astype(int),
    )


def _common_grid(layers: Sequence[_Layer], path: Path) -> Geometry:
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
    layers: Sequence[_Layer],
    structures: Sequence[_Structure],
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
    layers: Sequence[_Layer],
    structures: Sequence[_Structure],
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


def read_segmentation(
    paths: Sequence[Path],
    rules: Sequence[RoleRule],
    roles: Mapping[str, str | Sequence[str]] | None = None,
) -> Segmentation:
    """Reads a segmentation and finds its roles (see :func:`REACTKDLib.roles.assign_roles`).

    One path is a labelmap or a ``.seg.nrrd``; with a single label, its name counts if it means a
    role or another structure. Several paths are one binary structure each, named after their files;
    their grids may differ (common grid: the finest lattice that holds all).
    Labels keep their values where the file is one labelmap; structures from several files or
    layers are numbered from 1 in their order.

    Raises
    ------
    InputError : as :func:`REACTKDLib.read_image.read_image` and ``assign_roles``; values that are
        no labels 0..255; nothing segmented; a required role without voxels.
    """
    paths = [Path(p) for p in paths]
    if not paths:
        raise InputError("No segmentation is given.", "Give a labelmap or a .seg.nrrd file.")
    layers, structures = _read_one(paths[0]) if len(paths) == 1 else _read_structure_files(paths)
    if len(structures) == len(paths) == 1:
        # lesion.nii.gz or spleen.nii.gz with its one label 1 must not become the organ that 1
        # usually is.
        stem = _stem(paths[0])
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
    found = [
        (structure.value if len(layers) == 1 else number, structure.name)
        for number, structure in enumerate(structures, start=1)
    ]
    segments = assign_roles(found, rules, _without_suffixes(roles or {}, paths))
    _refuse_empty_roles(layers, structures, segments, rules)
    if len(layers) == 1:
        return Segmentation(layers[0].labels, layers[0].geometry, segments)
    grid = _common_grid(layers, paths[0])
    return Segmentation(_paint(layers, structures, segments, rules, grid), grid, segments)


def _without_suffixes(
    roles: Mapping[str, str | Sequence[str]], paths: Sequence[Path]
) -> dict[str, tuple[str, ...]]:
    """Role choices in which a structure may also be called by its file name."""
    stems = {path.name: _stem(path) for path in paths}
    return {
        role: tuple(stems.get(text, text) for text in as_texts(chosen))
        for role, chosen in roles.items()
    }
