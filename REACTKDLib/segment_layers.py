"""What the files of a segmentation hold: labelmaps as layers, and the structures in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .dicom_input.segmentation import read_dicom_structures
from .errors import InputError
from .geometry import Geometry, bounding_box
from .read_image import ImageFile, image_suffix, read_image

_SEGMENT_KEY = re.compile(r"Segment(\d+)_(Name|ID|LabelValue|Layer)")
_WHAT = "Segmentation"


@dataclass(frozen=True, eq=False)
class Layer:
    """A uint8 labelmap on ``geometry``, and how many voxels each of the 256 values has.

    ``frame`` is the grid of the file, of which ``geometry`` may be a part.
    """

    labels: np.ndarray
    geometry: Geometry
    counts: np.ndarray
    frame: Geometry

    @property
    def present(self) -> list[int]:
        """The label values that occur, without 0."""
        return [int(v) for v in np.flatnonzero(self.counts) if v != 0]

    def cropped(self) -> Layer:
        """Only the box around the labels, copied: a hundred structures of a CT fit in memory."""
        box = bounding_box(self.labels) or (slice(0, 1),) * 3
        return replace(self, labels=self.labels[box].copy(), geometry=self.geometry.crop_to(box))


@dataclass(frozen=True)
class Structure:
    """Where one structure is: ``value`` in layer ``layer``; ``name`` if the file has one.

    ``meaning`` : what coded terminology calls it. ``label`` : what the file calls it, where layers
    are not numbered in their order.
    """

    name: str | None
    layer: int
    value: int
    meaning: str = ""
    label: int | None = None


#: Layers, and the structures in them.
Layers = tuple[list[Layer], list[Structure]]


def stem_of(path: Path) -> str:
    """File name without its image suffix."""
    return path.name[: -len(image_suffix(path))]


def _layer(array: np.ndarray, geometry: Geometry, path: Path) -> Layer:
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
    return Layer(labels, geometry, counts, geometry)


def _segment_records(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """The segments that a ``.seg.nrrd`` header describes, in their order."""
    records: dict[int, dict[str, str]] = {}
    for key, value in metadata.items():
        match = _SEGMENT_KEY.fullmatch(key)
        if match:
            records.setdefault(int(match.group(1)), {})[match.group(2)] = value.strip()
    return [records[n] for n in sorted(records)]


def _named_structures(path: Path, image: ImageFile) -> list[Structure]:
    """Structures of a ``.seg.nrrd``: header keys ``SegmentN_Name``, ``_LabelValue``, ``Layer``.

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
        structures.append(Structure(name, int(layer), int(value)))
    places = [(s.layer, s.value) for s in structures]
    for structure in structures:
        if places.count((structure.layer, structure.value)) > 1:
            raise InputError(
                f"Segmentation {path}: two segments share the label {structure.value}, one is"
                f" {structure.name!r}.",
                "Save it again from 3D Slicer.",
            )
    return structures


def read_labelmap(path: Path) -> Layers:
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
            Structure(None, number, value)
            for value in layer.present
            if (number, value) not in known
        ]
    return layers, structures


def read_structure_files(paths: Sequence[Path]) -> Layers:
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
        structures.append(Structure(stem_of(path), number, (layer.present or [1])[0]))
    return layers, structures


def read_dicom_layers(path: Path, ct_grid: Callable[[], Geometry] | None) -> Layers:
    """One layer per segment of a SEG or region of an RTSTRUCT."""
    layers, structures = [], []
    for number, found in enumerate(read_dicom_structures(path, ct_grid)):
        count = int(np.count_nonzero(found.mask))
        counts = np.zeros(256, np.int64)
        counts[[0, found.number]] = found.mask.size - count, count
        labels = found.mask * np.uint8(found.number)
        layers.append(Layer(labels, found.geometry, counts, found.frame))
        name = found.name or found.meaning or None
        structures.append(Structure(name, number, found.number, found.meaning, found.number))
    return layers, structures
