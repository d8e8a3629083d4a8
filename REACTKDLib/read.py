"""Read stage: the files of one case become a ``Study``.

Every image keeps its own grid, in LPS; nothing is resampled or windowed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .dicom_input.choose_series import check_phase, choose_series
from .dicom_input.files import DicomSeries
from .dicom_input.pet import PetValues, choose_pet_series, read_pet
from .dicom_input.segmentation import (
    check_drawn_on,
    drawn_on,
    is_dicom_segmentation,
    segmentation_file,
)
from .dicom_input.series import read_series, series_grid
from .errors import InputError
from .geometry import Geometry
from .read_image import (
    MAX_VOXELS,
    files_of,
    read_geometry,
    read_image,
    require_exists,
    within_memory,
)
from .read_segmentation import read_segmentation
from .roles import RoleRule
from .types import Notice, SeriesChoice, SourceFile, Study, Volume

_HASH_CHUNK = 1 << 20
#: Files read at a time: decompression and hashing run side by side, memory stays bounded.
_READERS = 4


@dataclass(frozen=True)
class StudyFiles:
    """What a case is made of.

    ``ct`` : image file, or DICOM folder. ``segmentation`` : one labelmap, ``.seg.nrrd``, SEG or
    RTSTRUCT, or one file per structure. ``pet`` : SUV volumes by modality ("pet_fdg",
    "pet_acetate"), image files in SUV or folders of a DICOM series, and ``pet_values`` what the
    latter's headers lack. ``roles`` : role to segment names or labels, where the defaults do not
    fit. ``series_uid`` : which CT series of the DICOM folder; ``phase`` : of which contrast phase.
    """

    ct: Path
    segmentation: tuple[Path, ...]
    pet: Mapping[str, Path] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    series_uid: str | None = None
    case_id: str | None = None
    phase: str | None = None
    pet_values: Mapping[str, PetValues] = field(default_factory=dict)


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


@within_memory
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
            f"Give the {what} as an image file; DICOM folders are read as CT or PET of a case.",
        )
    image = read_image(path, what, max_voxels=max_voxels)
    return _as_volume(image.array, image.geometry, what, path)


def read_ct(path: Path, *, series_uid: str | None = None, phase: str | None = None) -> Volume:
    """A CT in HU from an image file or a DICOM folder (see :mod:`~.dicom_input.choose_series`).

    Raises
    ------
    InputError : as :func:`read_volume`, :func:`~.dicom_input.choose_series.choose_series` and
        :func:`REACTKDLib.dicom_input.series.read_series`; a series UID or a phase for a file.
    """
    path = Path(path)
    chosen = _chosen_series(path, series_uid, phase, ())
    return _read_ct(path, chosen[0] if chosen else None)[0]


def _chosen_series(
    path: Path, series_uid: str | None, phase: str | None, drawn_on: Collection[str]
) -> tuple[DicomSeries, SeriesChoice] | None:
    """The series of a DICOM folder and why it, None for an image file."""
    check_phase(phase)
    if path.is_dir():
        return choose_series(path, series_uid, phase=phase, drawn_on=drawn_on)
    for what, given in (("series UID", series_uid), ("phase", phase)):
        if given is not None:
            raise InputError(
                f"A {what} ({given}) is given, and the CT {path} is no folder.",
                f"Give the DICOM folder, or leave the {what} out.",
            )
    return None


@within_memory
def _read_ct(path: Path, series: DicomSeries | None) -> tuple[Volume, tuple[str, ...]]:
    """The CT, and what was done to its slices."""
    if series is None:
        return read_volume(path, "CT"), ()
    array, grid = read_series(path, series)
    return _as_volume(array, grid.geometry, "CT", path), grid.notices


@within_memory
def _read_pet(
    path: Path, name: str, values: PetValues
) -> tuple[Volume, SeriesChoice | None, tuple[Path, ...] | None]:
    """A PET, and of a DICOM folder which series, and its files."""
    if not path.is_dir():
        if values != PetValues():
            raise InputError(
                f"Values of a PET header are given, and {name} {path} is no DICOM folder.",
                "An image file must be in SUV.",
            )
        return read_volume(path, name), None, None
    series, choice = choose_pet_series(path, name, values.series)
    array, grid, suv = read_pet(path, series, name, values)
    choice = replace(choice, why=f"{choice.why}; SUV: {suv.how}")
    return _as_volume(array, grid.geometry, name, path), choice, series.files


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


def read_study(
    files: StudyFiles,
    rules: Sequence[RoleRule],
    check_patient: Callable[[Mapping[str, str]], None] | None = None,
) -> Study:
    """Reads CT, segmentation and PET volumes; ``Study.sources`` has their SHA-256.

    The case is named ``case`` where no name is given, because file names may identify a patient.

    Parameters
    ----------
    rules : those of the model package.
    check_patient : called with age and sex of the patient of a DICOM CT, as
        :func:`~.dicom_input.patient.patient_of`, before its voxels are read.

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

    source = None
    if len(files.segmentation) == 1 and is_dicom_segmentation(files.segmentation[0]):
        source = drawn_on(files.segmentation[0])
    wanted = source.series if source else ()
    notices = []
    with ThreadPoolExecutor(_READERS) as pool:
        choosing = pool.submit(_chosen_series, files.ct, files.series_uid, files.phase, wanted)

        def ct_grid() -> Geometry:
            chosen = choosing.result()
            if chosen is None:
                return read_geometry(files.ct, "CT")
            return series_grid(files.ct, chosen[0]).geometry

        segmentation = pool.submit(
            read_segmentation, files.segmentation, rules, files.roles, ct_grid
        )
        chosen = choosing.result()
        series = chosen[0] if chosen else None
        if check_patient is not None and series is not None:
            check_patient(series.patient)
        if source is not None and series is not None:
            text = check_drawn_on(files.segmentation[0], source, series)
            notices += [Notice("segmentation_of_other_series", "info", text)] if text else []
        ct = pool.submit(_read_ct, files.ct, series)
        pet = {
            name: pool.submit(_read_pet, path, name, files.pet_values.get(name, PetValues()))
            for name, path in files.pet.items()
        }
        sources = [pool.submit(_source, "ct", files.ct, series.files if series else None)]
        for path in files.segmentation:
            sources.append(pool.submit(_source, "segmentation", path))
        # Errors are raised in this order, whichever file fails first.
        labels = segmentation.result()
        ct_volume, changes = ct.result()
        pet_read = {name: one.result() for name, one in pet.items()}
        for name, path in files.pet.items():
            sources.append(pool.submit(_source, name, path, pet_read[name][2]))
        hashed = tuple(source.result() for source in sources)
    notices += [Notice("ct_slices", "info", text) for text in changes]
    return Study(
        {"ct": ct_volume, **{name: one[0] for name, one in pet_read.items()}},
        labels,
        files.case_id or "case",
        hashed,
        series={
            **({"ct": chosen[1]} if chosen else {}),
            **{name: one[1] for name, one in pet_read.items() if one[1] is not None},
        },
        notices=tuple(notices),
    )


def _source(role: str, path: Path, files: Sequence[Path] | None = None) -> SourceFile:
    if files is None:
        dicom = role == "segmentation" and is_dicom_segmentation(path)
        files = (segmentation_file(path),) if dicom else files_of(path, role)
    return SourceFile(role, str(path), files_sha256(files))
