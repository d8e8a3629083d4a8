"""The CT series that a result is about: its headers, fit to be written into other objects."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..deidentify import EMPTIED, Pseudonyms, deidentified_header
from ..dicom_input.choose_series import choose_series
from ..dicom_input.series import read_series
from ..errors import EnvironmentProblem, InputError
from ..geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

#: Without these nothing can refer to the CT (type 1 in the objects that are written).
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_SEX = ("M", "F", "O", "")
#: Their messages quote values of the header, names among them.
_TALKATIVE = ("highdicom", "pydicom", "pynetdicom", "dicomweb_client", "retrying", "urllib3")

_log = logging.getLogger("REACTKD")


@dataclass(frozen=True, eq=False)
class CtSource:
    """``headers`` in slice order (k = 0 first; one of a multi-frame image), without pixels.

    ``hu`` : (k, j, i) on ``geometry``.
    """

    headers: tuple[Dataset, ...]
    geometry: Geometry
    hu: np.ndarray

    @property
    def first(self) -> Dataset:
        """The header that stands for the series."""
        return self.headers[0]


def need_libraries(modules: tuple[str, ...], extra: str, task: str) -> None:
    """Raises EnvironmentProblem that names the extra when a library is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(
                f"{task} needs the Python package {module}, which is not installed.",
                f"Install it: pip install 'reactkd[{extra}]'.",
            )


@contextlib.contextmanager
def quiet_dicom_libraries() -> Iterator[None]:
    """Nothing of DICOM libraries reaches a log or the terminal: they quote values of headers."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:  # their children have no level of their own and ask here
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def read_source(
    folder: Path, series_uid: str | None = None, pseudonyms: Pseudonyms | None = None
) -> CtSource:
    """The CT series of a DICOM folder; de-identified at once where ``pseudonyms`` are given.

    Raises
    ------
    InputError : the CT is no DICOM folder; as :func:`choose_series` and :func:`read_series`; its
        gantry was tilted; the headers lack a UID that the objects must refer to.
    """
    folder = Path(folder)
    if folder.is_file():
        raise InputError(
            f"The CT {folder} is no DICOM folder, so that DICOM objects have nothing to refer to.",
            "Give the folder of the DICOM series that the result was made from.",
        )
    series, _ = choose_series(folder, series_uid)
    hu, grid = read_series(folder, series)
    if any(grid.shear):
        raise InputError(
            f"The CT series {series} was taken with a tilted gantry and resampled: the result's"
            " grid is not that of its images.",
            "Objects for a PACS refer to images; this series has none for them.",
        )
    files = dict.fromkeys(one.file for one in grid.slices)  # frames of one file: once
    with quiet_dicom_libraries():
        headers = [_read_header(path) for path in files]
    blanked = sorted({name for _, names in headers for name in names})
    if blanked:
        _log.warning(
            "DICOM: values of %s in the CT are not valid and are left out", ", ".join(blanked)
        )
    source = CtSource(tuple(header for header, _ in headers), grid.geometry, hu)
    if pseudonyms is not None:
        kept = tuple(deidentified_header(header, pseudonyms) for header in source.headers)
        source = replace(source, headers=kept)
    return source


def _read_header(path: Path) -> tuple[Dataset, list[str]]:
    """A header in UTF-8, complete as far as other objects need it, and names of what was wrong.

    Raises
    ------
    InputError : a UID is missing.
    """
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    missing = [keyword for keyword in _NEEDED if not header.get(keyword)]
    if missing:
        raise InputError(
            f"The CT file {path.name} has no {', '.join(missing)}.",
            "DICOM output refers to the CT by these; export the original series.",
        )
    # Type 2 in every object: may be empty, must be there.
    for keyword in ("PatientID", "PatientName", *EMPTIED):
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    wrong = [keyword for keyword in EMPTIED if not _valid(keyword, header[keyword])]
    for keyword in wrong:
        setattr(header, keyword, "")
    return header, wrong


def _valid(keyword: str, element: Any) -> bool:
    """Whether a date, time or sex is what PS3.5 and PS3.3 allow; True for everything else."""
    from pydicom.valuerep import DA, TM

    if keyword == "PatientSex":
        return element.value in _SEX
    checks = {"DA": DA, "TM": TM}
    if element.VR not in checks:
        return True
    try:
        checks[element.VR](element.value)
    except (ValueError, TypeError):
        return False
    return True
