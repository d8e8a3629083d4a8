"""Read stage: the files of one case become a ``Study``.

Every image keeps its own grid, in LPS; nothing is resampled or windowed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .read_dicom import choose_series, read_series
from .read_dicom_files import DicomSeries
from .read_image import MAX_VOXELS, files_of, read_image, require_exists
from .read_segmentation import read_segmentation
from .roles import RoleRule
from .types import SourceFile, Study, Volume

_HASH_CHUNK = 1 << 20
#: Files read at a time: decompression and hashing run side by side, memory stays bounded.
_READERS = 4


@dataclass(frozen=True)
class StudyFiles:
    """What a case is made of.

    ``ct`` : image file, or folder of a DICOM series. ``segmentation`` : one labelmap or
    ``.seg.nrrd``, or one file per structure. ``pet`` : SUV volumes by modality ("pet_fdg",
    "pet_acetate"). ``roles`` : role to segment names or labels, where the defaults do not fit.
    ``series_uid`` : which series of the DICOM folder.
    """

    ct: Path
    segmentation: tuple[Path, ...]
    pet: Mapping[str, Path] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    series_uid: str | None = None
    case_id: str | None = None


def _as_volume(array: np.ndarray, geometry: Geometry, what: str, path: Path) -> Volume:
    """A volume of int16 where the values fit, else float32, with all checks of a scalar image."""
    if array.ndim != 3:
        raise InputError(
            f"{what} {path} has {array.shape[3]} values per voxel (colour, vector or sequence).",
            f"Give a {what} with one value per voxel.",
        )
    if min(array.shape) < 2:
        raise InputError(
            f"{what} {path} is one slice: its size is {geometry.size}.",
            "Give a volume of several slices.",
        )
    if array.dtype.kind == "f":
        for k, plane in enumerate(array):  # by plane, to keep the temporary arrays small
            bad = ~np.isfinite(plane)
            if bad.any():
                j, i = np.argwhere(bad)[0]
                raise InputError(
                    f"{what} {path} has the value {plane[j, i]} at voxel (i, j, k) ="
                    f" ({i}, {j}, {k}).",
                    "Replace NaN and infinite values, or export the image again.",
                )
        array = array.astype(np.float32, copy=False)
    elif array.dtype != np.int16:
        limits = np.iinfo(np.int16)
        fits = limits.min <= array.min() and array.max() <= limits.max
        array = array.astype(np.int16 if fits else np.float32)
    return Volume(array, geometry, what)


def read_volume(path: Path, what: str, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """A scalar volume from an image file, int16 or float32; ``what`` names it ("CT", "PET").

    Raises
    ------
    InputError : as :func:`REACTKDLib.read_image.read_image`; several values per voxel, one slice,
        NaN or infinite values; a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"{what} {path} is a folder.",
            f"Give the {what} as an image file (PET in SUV); only a CT is read from DICOM.",
        )
    image = read_image(path, what, max_voxels=max_voxels)
    return _as_volume(image.array, image.geometry, what, path)


def read_ct(path: Path, *, series_uid: str | None = None) -> Volume:
    """A CT in HU from an image file or a DICOM folder (see :mod:`REACTKDLib.read_dicom`).

    Raises
    ------
    InputError : as :func:`read_volume` and :func:`REACTKDLib.read_dicom.choose_series`; a series
        UID for a file.
    """
    path = Path(path)
    return _read_ct(path, _chosen_series(path, series_uid))


def _chosen_series(path: Path, series_uid: str | None) -> DicomSeries | None:
    """The series of a DICOM folder, None for an image file."""
    if path.is_dir():
        return choose_series(path, series_uid)
    if series_uid is not None:
        raise InputError(
            f"A series UID ({series_uid}) is given, and the CT {path} is no folder.",
            "Give the DICOM folder, or leave the UID out.",
        )
    return None


def _read_ct(path: Path, series: DicomSeries | None) -> Volume:
    if series is None:
        return read_volume(path, "CT")
    array, geometry = read_series(path, series)
    return _as_volume(array, geometry, "CT", path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def files_sha256(files: Sequence[Path]) -> str:
    """One SHA-256 for files that belong together.

    Of one file, its own. Of several, that of their sorted digests, each with a line end: names and
    order do not count.
    """
    digests = sorted(file_sha256(path) for path in files)
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()


def read_study(files: StudyFiles, rules: Sequence[RoleRule]) -> Study:
    """Reads CT, segmentation and PET volumes; ``Study.sources`` has their SHA-256.

    ``rules`` come with the model package. The case is named ``case`` where no name is given,
    because file names may identify a patient.

    Raises
    ------
    InputError : as :func:`read_ct`, :func:`read_volume` and
        :func:`REACTKDLib.read_segmentation.read_segmentation`.
    """
    # All paths first: a typing error should not cost the reading of a CT.
    require_exists(files.ct, "CT")
    for path in files.segmentation:
        require_exists(path, "Segmentation")
    for modality, path in files.pet.items():
        require_exists(path, modality)

    with ThreadPoolExecutor(_READERS) as pool:
        segmentation = pool.submit(read_segmentation, files.segmentation, rules, files.roles)
        series = _chosen_series(files.ct, files.series_uid)
        ct = pool.submit(_read_ct, files.ct, series)
        pet = {name: pool.submit(read_volume, path, name) for name, path in files.pet.items()}
        sources = [pool.submit(_source, "ct", files.ct, series.files if series else None)]
        for path in files.segmentation:
            sources.append(pool.submit(_source, "segmentation", path))
        for name, path in files.pet.items():
            sources.append(pool.submit(_source, name, path))
        # Errors are raised in this order, whichever file fails first.
        labels = segmentation.result()
        volumes = {"ct": ct.result(), **{name: volume.result() for name, volume in pet.items()}}
        hashed = tuple(source.result() for source in sources)
    return Study(volumes, labels, files.case_id or "case", hashed)


def _source(role: str, path: Path, files: Sequence[Path] | None = None) -> SourceFile:
    return SourceFile(role, str(path), files_sha256(files or files_of(path, role)))
