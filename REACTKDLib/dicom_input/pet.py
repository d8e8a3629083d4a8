"""A PET series in DICOM as SUV by body weight."""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, OptionError
from ..types import SeriesChoice
from .contrast_phase import dicom_time
from .dataset import open_dataset, reading
from .files import PET_IMAGE, DicomSeries, list_series
from .series import SeriesGrid, read_series
from .suv import PetHeader, PetSlice, SuvFactors, check_slices, suv_factors

if TYPE_CHECKING:
    import pydicom

_WHAT = "a PET slice"
_ANY_DAY = "20000101"
#: Half-life by tracer, where one is certain, with tolerance: F-18. s
_HALF_LIVES = {"pet_fdg": (6300.0, 6900.0)}

_log = logging.getLogger("REACTKD")


@dataclass(frozen=True)
class PetValues:
    """What the user states where the header is silent or wrong; None leaves the header's.

    ``series`` : Series Instance UID. ``injection`` : DICOM date and time, YYYYMMDDHHMMSS.
    """

    series: str | None = None
    weight_kg: float | None = None
    dose_mbq: float | None = None
    half_life_s: float | None = None
    injection: str | None = None


def parse_pet_values(texts: Sequence[str], tracers: Sequence[str]) -> dict[str, PetValues]:
    """``[TRACER.]KEY=VALUE`` as values by tracer; without TRACER they are for all of ``tracers``.

    Raises
    ------
    OptionError : not of this form, an unknown key or tracer, a number or time that is none.
    """
    values = dict.fromkeys(tracers, PetValues())
    for text in texts:
        name, separator, value = text.partition("=")
        tracer, dot, key = name.rpartition(".")
        if not separator or key not in vars(PetValues()) or (dot and tracer not in tracers):
            raise OptionError(
                f"--pet-value {text!r} is not [TRACER.]KEY=VALUE.",
                f"Keys: {', '.join(vars(PetValues()))}. Tracers given: {', '.join(tracers)}.",
            )
        parsed: str | float = value
        if key in ("weight_kg", "dose_mbq", "half_life_s"):
            try:
                parsed = float(value)
            except ValueError:
                parsed = math.nan
            if not (math.isfinite(parsed) and parsed > 0):
                raise OptionError(f"--pet-value {text!r}: {value!r} is no positive number.", "")
        if key == "injection" and dicom_time(value) is None:
            raise OptionError(
                f"--pet-value {text!r}: {value!r} is no date and time.", "Write YYYYMMDDHHMMSS."
            )
        for one in [tracer] if dot else tracers:
            values[one] = replace(values[one], **{key: parsed})  # type: ignore[arg-type]
    return values


def choose_pet_series(folder: Path, what: str, uid: str | None) -> tuple[DicomSeries, SeriesChoice]:
    """The PET series of a folder: the one with ``uid``, or the only one of original PET images.

    Raises
    ------
    InputError : none, several and no UID, no such UID.
    """
    every = list_series(folder)
    listing = "; ".join(map(str, every)) or "no DICOM images"
    good = [
        s
        for s in every
        if s.modality == "PT"
        and s.count > 1
        and s.tags["SOPClassUID"] in ("", PET_IMAGE)
        and not {"MIP", "SECONDARY", "PROJECTION IMAGE"} & set(s.image_type)
    ]
    if uid is not None:
        good = [s for s in good if s.uid == uid]
        if not good:
            raise InputError(f"{folder} has no PET series {uid}.", f"It has: {listing}.")
    if len(good) > 1:
        corrected = [s for s in good if _is_attenuation_corrected(s)]
        good = corrected or good
    if not good:
        raise InputError(
            f"{folder} has no PET series that can be read as {what}.",
            f"It has: {listing}. Enhanced PET is not read.",
        )
    if len(good) > 1:
        raise InputError(
            f"{folder} has {len(good)} PET series: {'; '.join(map(str, good))}.",
            f"Choose one: --pet-value {what}.series=UID.",
        )
    chosen = good[0]
    why = "chosen by its UID" if uid is not None else "the only PET series that qualifies"
    _log.info(
        'DICOM: %s is series number %s, "%s", %d slices', what, chosen.number or "-",
        chosen.description, chosen.count,
    )  # fmt: skip
    return chosen, SeriesChoice(chosen.uid, chosen.description, why)


def _is_attenuation_corrected(series: DicomSeries) -> bool:
    dataset = open_dataset(series.slices[0].file, _WHAT, pixels=False)
    with reading(series.slices[0].file, _WHAT):
        return "ATTN" in _texts(dataset.get("CorrectedImage"))


def read_pet(
    folder: Path, series: DicomSeries, what: str, values: PetValues
) -> tuple[np.ndarray, SeriesGrid, SuvFactors]:
    """SUVbw, float32 (k, j, i), its grid, and how the units were converted.

    Raises
    ------
    InputError : as :func:`REACTKDLib.dicom_input.series.read_series` and
        :func:`REACTKDLib.dicom_input.suv.suv_factors`; a half-life that is not the tracer's.
    EnvironmentProblem : without pydicom.
    """
    header = pet_header([s.file for s in series.slices], values)
    low, high = _HALF_LIVES.get(what, (0.0, math.inf))
    if header.half_life_s is not None and not low <= header.half_life_s <= high:
        raise InputError(
            f"The series {series} is given as {what}, but its half-life is"
            f" {header.half_life_s:g} s.",
            "Are the PET folders exchanged?",
        )
    suv = suv_factors(header)
    array, grid = read_series(folder, series)
    by_file = dict(zip((s.file for s in series.slices), suv.factors, strict=True))
    factors = np.array([by_file[s.file] for s in grid.slices], np.float32)
    return array.astype(np.float32) * factors[:, None, None], grid, suv


def pet_header(files: Sequence[Path], values: PetValues = PetValues()) -> PetHeader:
    """The header of a PET series, one slice per file; ``values`` replace what it says.

    Raises
    ------
    InputError : a damaged file; slices that contradict each other in units or decay correction.
    EnvironmentProblem : without pydicom.
    """
    heads = []
    for file in files:
        dataset = open_dataset(file, _WHAT, pixels=False)
        with reading(file, _WHAT):
            heads.append((_series_header(dataset), _slice_header(dataset)))
    first = heads[0][0]
    for header, _ in heads:
        for name in ("units", "decay_correction", "suv_type", "philips_suv", "philips_bqml"):
            if getattr(header, name) != getattr(first, name):
                raise InputError(
                    f"The PET slices differ in {name.replace('_', ' ')}: {getattr(first, name)!r}"
                    f" and {getattr(header, name)!r}.",
                    "Export one series alone.",
                )
    slices = tuple(one for _, one in heads)
    check_slices(slices)
    header = replace(first, slices=slices)
    if values.weight_kg is not None:
        header = replace(header, weight_kg=values.weight_kg)
    if values.dose_mbq is not None:
        header = replace(header, dose_bq=values.dose_mbq * 1e6)
    if values.half_life_s is not None:
        header = replace(header, half_life_s=values.half_life_s)
    if values.injection is not None:
        header = replace(header, injection=dicom_time(values.injection), injection_dated=True)
    return header


def _number(value: Any) -> float | None:
    return None if value is None or str(value).strip() == "" else float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return (value.upper(),) if value else ()
    return tuple(str(v).upper() for v in value)


def _when(dataset: pydicom.Dataset, name: str) -> datetime.datetime | None:
    """``nameDate`` and ``nameTime``; a time without a date is on the day of the others."""
    days = [str(dataset.get(f"{n}Date") or "") for n in (name, "Acquisition", "Series", "Study")]
    time = str(dataset.get(f"{name}Time") or "")
    return dicom_time(next((day for day in days if day), _ANY_DAY) + time) if time else None


def _private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> Any:
    try:
        return dataset.private_block(group, creator)[element].value
    except KeyError:
        return None


def _series_header(dataset: pydicom.Dataset) -> PetHeader:
    sequence = dataset.get("RadiopharmaceuticalInformationSequence")
    drug = sequence[0] if sequence else {}
    dated = dicom_time(str(drug.get("RadiopharmaceuticalStartDateTime") or ""))
    clock = dicom_time(_ANY_DAY + str(drug.get("RadiopharmaceuticalStartTime") or ""))
    philips = "Philips PET Private Group"
    return PetHeader(
        units=str(dataset.get("Units") or ""),
        decay_correction=str(dataset.get("DecayCorrection") or ""),
        corrections=_texts(dataset.get("CorrectedImage")),
        weight_kg=_number(dataset.get("PatientWeight")),
        dose_bq=_number(drug.get("RadionuclideTotalDose")),
        half_life_s=_number(drug.get("RadionuclideHalfLife")),
        injection=dated or clock,
        injection_dated=dated is not None,
        started=_when(dataset, "Series"),
        slices=(),
        suv_type=str(dataset.get("SUVType") or ""),
        ge_started=dicom_time(str(_private(dataset, 0x0009, "GEMS_PETD_01", 0x0D) or "")),
        philips_suv=_number(_private(dataset, 0x7053, philips, 0x00)),
        philips_bqml=_number(_private(dataset, 0x7053, philips, 0x09)),
    )


def _slice_header(dataset: pydicom.Dataset) -> PetSlice:
    acquired = dicom_time(str(dataset.get("AcquisitionDateTime") or ""))
    acquired = acquired or _when(dataset, "Acquisition")
    started = _when(dataset, "Series")
    undated = not (dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionDate"))
    if undated and acquired and started and started - acquired > datetime.timedelta(hours=12):
        acquired += datetime.timedelta(days=1)  # the scan went on after midnight
    return PetSlice(
        acquired,
        (_number(dataset.get("ActualFrameDuration")) or 0.0) / 1000,
        (_number(dataset.get("FrameReferenceTime")) or 0.0) / 1000,
    )
