"""Small generated images with known content, and files of them in every format."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from REACTKDLib.geometry import Geometry, image_from_array
from REACTKDLib.roles import RoleRule

LIVER_RULES = (
    RoleRule("liver", True, ("liver", "hepar", "hepatic parenchyma"), 1),
    RoleRule(
        "lesion",
        False,
        ("tumor", "tumour", "mass", "lesion", "hcc", "metastasis", "metastases"),
        2,
    ),
)


def rotation(degrees_z: float, degrees_x: float) -> np.ndarray:
    """Rotation about x, then about z."""
    z, x = np.radians([degrees_z, degrees_x])
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    return np.array(about_z) @ np.array(about_x)


#: Oblique and anisotropic; three different axis lengths.
OBLIQUE = Geometry(
    size=(14, 11, 8),
    spacing_mm=(0.8, 1.1, 2.5),
    origin_lps=(-31.5, 47.25, -120.0),
    direction_lps=tuple(float(v) for v in rotation(20, -15).ravel()),
)


def ct_array(geometry: Geometry = OBLIQUE) -> np.ndarray:
    """HU, int16 (k, j, i), different in every voxel, so that any mix-up of axes shows."""
    count = int(np.prod(geometry.size))
    values = np.random.default_rng(7).permutation(count) - 200
    return values.reshape(geometry.array_shape).astype(np.int16)


def label_array(geometry: Geometry = OBLIQUE) -> np.ndarray:
    """uint8 (k, j, i): an off-centre liver box (1) with a lesion (2) in it."""
    labels = np.zeros(geometry.array_shape, np.uint8)
    labels[1:7, 2:10, 1:12] = 1
    labels[2:5, 3:6, 7:11] = 2
    return labels


def write_image(
    path: Path, array: np.ndarray, geometry: Geometry = OBLIQUE, compress: bool = False
) -> Path:
    """Writes an array (k, j, i) by SimpleITK, in the format of the suffix."""
    sitk.WriteImage(image_from_array(array, geometry), str(path), compress)
    return path


def write_seg_nrrd(
    path: Path,
    layers: Sequence[np.ndarray],
    segments: Sequence[Mapping[str, object]],
    geometry: Geometry = OBLIQUE,
) -> Path:
    """Writes label layers (k, j, i) with ``SegmentN_<key>`` header entries, as 3D Slicer does."""
    planes = [image_from_array(layer, geometry) for layer in layers]
    image = planes[0] if len(planes) == 1 else sitk.Compose(planes)
    for number, segment in enumerate(segments):
        for key, value in segment.items():
            image.SetMetaData(f"Segment{number}_{key}", str(value))
    sitk.WriteImage(image, str(path), True)
    return path


def write_dicom(
    folder: Path,
    array: np.ndarray,
    geometry: Geometry = OBLIQUE,
    *,
    uid: str = "1.2.826.1",
    modality: str = "CT",
    number: int = 3,
    description: str = "portal venous",
    jpeg2000: bool = False,
    tags: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes a (k, j, i) volume as one DICOM file per slice, named in reverse order.

    Stored values are HU + 1024. ``tags`` adds or overrides tags.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(jpeg2000)
    if jpeg2000:
        writer.SetCompressor("JPEG2000")
    axes = geometry.direction_matrix
    files = []
    for k, plane in enumerate(array):
        slice_geometry = geometry.crop((0, 0, k), (*geometry.size[:2], 1))
        image = image_from_array(plane[None], slice_geometry)
        values = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{k}",
            "0008|0060": modality,
            "0008|103e": description,
            "0010|0010": "Secret^Patient",
            "0020|000d": "1.2.826.9",
            "0020|000e": uid,
            "0020|0011": str(number),
            "0020|0032": "\\".join(f"{v:.10g}" for v in slice_geometry.origin_lps),
            "0020|0037": "\\".join(f"{v:.10f}" for v in (*axes[:, 0], *axes[:, 1])),
            "0028|1052": "-1024",
            "0028|1053": "1",
            **(tags or {}),
        }
        for key, value in values.items():
            image.SetMetaData(key, value)
        files.append(folder / f"IM{len(array) - k:04d}.dcm")
        writer.SetFileName(str(files[-1]))
        writer.Execute(image)
    return files


def patch_bytes(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrites a binary header field (``layout`` as in struct)."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def patch_text(path: Path, old: bytes, new: bytes) -> Path:
    """Replaces the first ``old`` in a file that must have it."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path
