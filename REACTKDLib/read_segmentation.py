"""A segmentation from a labelmap, a ``.seg.nrrd`` or one file per structure.

Voxels that several structures claim go to the one of the later role (a lesion inside an organ),
structures without a role yield to all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError
from .geometry import Geometry, Index, resample_array
from .read_image import ImageFile, check_size, image_suffix, read_image
from .roles import RoleRule, assign_roles, describe, role_of_name
from .types import Segment, Segmentation

_SEGMENT_KEY = re.compile(r"Segment(\d+)_(Name|ID|LabelValue|Layer)")
_WHAT = "Segmentation"


@dataclass(frozen=True, eq=False)
class _Layer:
    """A uint8 labelmap and how many voxels each of the 256 values has."""

    labels: np.ndarray
    geometry: Geometry
    counts: np.ndarray

    @property
    def present(self) -> list[int]:
        return [int(v) for v in np.flatnonzero(self.counts) if v != 0]


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
    counts = np.zeros(256, np.int64)
    labels = array if array.dtype == np.uint8 else np.empty(array.shape, np.uint8)
    for k, plane in enumerate(array):  # by plane, to keep the temporary arrays small
        if array.dtype != np.uint8:
            with np.errstate(invalid="ignore"):
                labels[k] = plane
            wrong = labels[k] != plane
            if wrong.any():
                raise InputError(
                    f"Segmentation {path} has the value {plane[wrong].flat[0]}; labels are whole"
                    " numbers from 0 to 255.",
                    "Give a labelmap, not a probability map or an image; renumber high labels.",
                )
        counts += np.bincount(labels[k].ravel(), minlength=256)
    return _Layer(labels, geometry, counts)


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
        layers.append(layer)
        structures.append(_Structure(_stem(path), number, (layer.present or [1])[0]))
    return layers, structures


def _bounding_box(labels: np.ndarray) -> tuple[Index, Index]:
    """Start and size, (i, j, k), of the box around the nonzero voxels."""
    spans = []
    for axis in (2, 1, 0):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(labels.any(axis=others))
        spans.append((int(filled[0]), int(filled[-1]) + 1))
    (i0, i1), (j0, j1), (k0, k1) = spans
    return (i0, j0, k0), (i1 - i0, j1 - j0, k1 - k0)


def _on_one_grid(layers: Sequence[_Layer], path: Path) -> list[_Layer]:
    """The layers on a common grid, by nearest neighbour where grids differ.

    The grid is the finest layer's lattice, long enough to hold all structures: none is cut off and
    small structures keep their detail.
    """
    first = layers[0].geometry
    if all(layer.geometry.same_grid(first) for layer in layers):
        return list(layers)
    filled = [layer for layer in layers if layer.present]
    lattice = min((layer.geometry for layer in filled), key=lambda g: g.voxel_volume_ml)
    corners = np.concatenate(
        [
            lattice.ijk_from_lps(layer.geometry.crop(*_bounding_box(layer.labels)).corners_lps())
            for layer in filled
        ]
    )
    low = np.floor(corners.min(axis=0) + 0.5).astype(int)
    high = np.ceil(corners.max(axis=0) - 0.5).astype(int)
    size = tuple(int(n) for n in high - low + 1)
    check_size(path, size)
    grid = lattice.crop((int(low[0]), int(low[1]), int(low[2])), (size[0], size[1], size[2]))
    return [
        _Layer(resample_array(layer.labels, layer.geometry, grid, nearest=True), grid, layer.counts)
        for layer in layers
    ]


def _paint(
    layers: Sequence[_Layer],
    structures: Sequence[_Structure],
    segments: Sequence[Segment],
    rules: Sequence[RoleRule],
) -> np.ndarray:
    """One labelmap of several layers: later roles over earlier ones, both over no role."""
    priority = {None: -1, **{rule.name: n for n, rule in enumerate(rules)}}
    labels = np.zeros(layers[0].labels.shape, np.uint8)
    for structure, segment in sorted(
        zip(structures, segments, strict=True), key=lambda pair: priority[pair[1].role]
    ):
        labels[layers[structure.layer].labels == structure.value] = segment.label
    return labels


def _refuse_contradicting_name(
    path: Path, segments: Sequence[Segment], rules: Sequence[RoleRule]
) -> None:
    """Raises when a file of one unnamed label is named after another role than the label's.

    ``lesion.nii.gz`` with the single label 1 must not become the organ that 1 usually is.
    """
    named = role_of_name(_stem(path), rules)
    if len(segments) == 1 and named not in (None, segments[0].role):
        raise InputError(
            f"Segmentation {path} has the single label {segments[0].label}, usually"
            f" {segments[0].role}, but its name says {named}.",
            f"Say which it is, for instance {named}={segments[0].label}.",
        )


def read_segmentation(
    paths: Sequence[Path],
    rules: Sequence[RoleRule],
    roles: Mapping[str, str | Sequence[str]] | None = None,
) -> Segmentation:
    """Reads a segmentation and finds its roles (see :func:`REACTKDLib.roles.assign_roles`).

    One path is a labelmap or a ``.seg.nrrd``. Several paths are one binary structure each, named
    after their files; their grids may differ (common grid: the finest lattice that holds all).
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
    if len(paths) == 1 and not roles and structures[0].name is None:
        _refuse_contradicting_name(paths[0], segments, rules)

    for rule in (r for r in rules if r.required):
        members = [s for s, segment in zip(structures, segments, strict=True)
                   if segment.role == rule.name]  # fmt: skip
        if not any(layers[s.layer].counts[s.value] for s in members):
            raise InputError(
                f"The {rule.name} in segmentation {listed} has no voxels. Segments:"
                f" {describe(found)}.",
                f"Segment the {rule.name}.",
            )
    layers = _on_one_grid(layers, paths[0])
    labels = layers[0].labels if len(layers) == 1 else _paint(layers, structures, segments, rules)
    return Segmentation(labels, layers[0].geometry, segments)


def _without_suffixes(
    roles: Mapping[str, str | Sequence[str]], paths: Sequence[Path]
) -> dict[str, tuple[str, ...]]:
    """Role choices in which a structure may also be called by its file name."""
    stems = {path.name: _stem(path) for path in paths}
    return {
        role: tuple(stems.get(text, text) for text in ((chosen,) if isinstance(chosen, str) else chosen))
        for role, chosen in roles.items()
    }
