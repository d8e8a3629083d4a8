"""A result as DICOM objects in one folder, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..deidentify import Pseudonyms, deidentified_case
from ..dicom_input.files import list_series
from ..errors import EnvironmentProblem, InputError, OutputError
from ..geometry import array_on_same_voxels, content_box
from ..report import atomic_folder
from ..types import CaseResult, Volume
from .source import CtSource, need_libraries, quiet_dicom_libraries, read_source

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION, PARAMETRIC_MAP = "segmentation.dcm", "attention.dcm"
REPORT, PAGE = "report.dcm", "page.dcm"
#: The first version whose parametric maps take volumes.
_HIGHDICOM = (0, 28)
#: Mean HU of a region may differ by rounding of stored values.
_SAME_HU = 1.0
DICOM_FILES = (SEGMENTATION, PARAMETRIC_MAP, REPORT, PAGE)


def check_libraries() -> None:
    """Refuse libraries that are missing.

    Raises
    ------
    EnvironmentProblem : a library of the extra ``dicom`` is missing or too old.
    """
    need_libraries(("pydicom", "highdicom", "PIL"), "dicom", "DICOM output")
    version = importlib.metadata.version("highdicom")
    if tuple(map(int, version.split(".")[:2])) < _HIGHDICOM:
        raise EnvironmentProblem(
            f"highdicom {version} is too old for DICOM output.",
            f"Install {'.'.join(map(str, _HIGHDICOM))} or later: pip install --upgrade highdicom.",
        )


def check_dicom_output(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse libraries that are missing and an output folder, before any work is done.

    Raises
    ------
    EnvironmentProblem : as :func:`check_libraries`.
    OutputError : the folder is a file, or is not empty (with ``overwrite``: holds other files than
        :data:`DICOM_FILES`).
    """
    check_libraries()
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Give another output folder.")
    names = {p.name for p in folder.iterdir()}
    if names and not overwrite:
        raise OutputError(
            f"{folder} exists and is not empty.", "Give a new folder, or --overwrite."
        )
    foreign = sorted(names - set(DICOM_FILES))
    if foreign:
        raise OutputError(
            f"{folder} holds files that REACTKD did not write: {', '.join(foreign[:5])}.",
            "Move them away, or give another folder; REACTKD deletes only its own files.",
        )


def write_dicom_output(
    case: CaseResult,
    ct: Path,
    folder: Path,
    *,
    series_uid: str | None = None,
    pseudonyms: Pseudonyms | None = None,
    overwrite: bool = False,
) -> Path:
    """Write Segmentation, Parametric Map, Structured Report and page of ``case``.

    Parameters
    ----------
    ct : folder of the DICOM series that the result was made from; ``series_uid`` says which, else
        the one that the result names.
    pseudonyms : de-identifies everything that is written.

    Raises
    ------
    EnvironmentProblem, OutputError : as :func:`check_dicom_output`.
    InputError : as :func:`read_source`; the result lies on another grid than the CT.
    """
    folder = Path(folder).absolute()
    check_dicom_output(folder, overwrite=overwrite)
    source = read_source(ct, series_uid or _series_of(case, ct, pseudonyms), pseudonyms)
    if pseudonyms is not None and not case.provenance.get("deidentified"):
        case = deidentified_case(case, pseudonyms)
    with quiet_dicom_libraries():
        objects = make_objects(case, source, deidentified=pseudonyms is not None)
        with atomic_folder(folder) as partial:
            for name, dataset in objects.items():
                dataset.save_as(partial / name, enforce_file_format=True)
    return folder


def _series_of(case: CaseResult, ct: Path, pseudonyms: Pseudonyms | None) -> str | None:
    """UID of the CT series that the result was made from, where it says: a de-identified one does
    to whoever has its pseudonyms."""
    uid = case.provenance.get("series", {}).get("ct", {}).get("uid")
    if not case.provenance.get("deidentified") or uid is None or not ct.is_dir():
        return uid
    known = pseudonyms and {pseudonyms.uid(s.uid): s.uid for s in list_series(ct)}
    return known.get(uid) if known else None


def make_objects(
    case: CaseResult, source: CtSource, *, deidentified: bool = False
) -> dict[str, Dataset]:
    """The four objects by file name.

    Raises
    ------
    InputError : the result lies on another grid than the CT, or has no region.
    """
    from .identity import make_identity
    from .parametric_map import make_parametric_map
    from .secondary_capture import make_secondary_capture
    from .segmentation import make_segmentation
    from .structured_report import make_report

    if not case.regions:
        raise InputError("The result has no region.", "Run 'reactkd predict' again.")
    labels = _on_source(case.region_labels, source)
    attention = _on_source(case.attention, source)
    _check_same_ct(case, source, labels)
    identity = make_identity(case, source, deidentified=deidentified)
    segmentation = make_segmentation(identity, labels)
    parametric_map = make_parametric_map(identity, attention)
    return {
        SEGMENTATION: segmentation,
        PARAMETRIC_MAP: parametric_map,
        REPORT: make_report(identity, segmentation, parametric_map),
        PAGE: make_secondary_capture(identity, attention, labels),
    }


def _on_source(volume: Volume, source: CtSource) -> np.ndarray:
    """A volume in the array order of the CT series.

    The result may come from the same CT in another format, stored in other directions.
    """
    array = array_on_same_voxels(volume.array, volume.geometry, source.geometry)
    if array is None:
        raise InputError(
            f"The result's {volume.name} lies on a grid of {volume.geometry.size} voxels that is"
            f" not that of the CT series ({source.geometry.size}).",
            "Give the series that the result was made from, or choose it with --series.",
        )
    return array


def _check_same_ct(case: CaseResult, source: CtSource, labels: np.ndarray) -> None:
    """The mean HU of each region must be what the result says: grids alone may be alike."""
    box = content_box(labels)
    inside = labels[box].ravel()
    counts = np.bincount(inside, minlength=256)
    sums = np.bincount(inside, weights=source.hu[box].ravel(), minlength=256)
    for region in case.regions:
        mean = sums[region.label] / max(counts[region.label], 1)
        if abs(mean - region.mean_hu) > _SAME_HU:
            raise InputError(
                f"The result is not of this CT: the mean of '{region.name}' is"
                f" {region.mean_hu:.1f} HU in the result and {mean:.1f} HU here.",
                "Give the series that the result was made from, or choose it with --series.",
            )
