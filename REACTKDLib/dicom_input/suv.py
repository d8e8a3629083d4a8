"""From stored PET units to SUV by body weight (SUVbw, g/ml).

SUVbw is the activity concentration over the injected activity per gram of body weight, both at the
same time. What a scanner stores and to which time it corrects decay differs; the rules here are
those on which the Quantitative Imaging Biomarkers Alliance agreed with the vendors (FDG-PET/CT
profile; DICOM PS3.3 C.8.9.1 for the elements), and nothing is assumed where the header is silent.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

#: Limits beyond which a header is not believed: kg, Bq, s.
_WEIGHT_KG = (0.01, 500.0)
_DOSE_BQ = (1e5, 1e11)
_HALF_LIFE_S = (60.0, 1e6)
#: After so many half-lives a thousandth of the dose is left: no PET was taken so late.
_MOST_HALF_LIVES = 10.0
#: A series may begin this long before its first slice was acquired (several beds).
_LONGEST_SCAN = datetime.timedelta(hours=4)
#: Scan starts computed from different slices agree to this. s
_SAME_START_S = 5.0
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class PetSlice:
    """What one slice says: when its frame began, the frame's length, and the reference time.

    ``acquired`` : beginning of the frame. ``duration_s``, ``reference_s`` : Actual Frame Duration
    and Frame Reference Time (from the scan's beginning to the frame's mean count rate); 0 unknown.
    """

    acquired: datetime.datetime | None
    duration_s: float = 0.0
    reference_s: float = 0.0


@dataclass(frozen=True)
class PetHeader:
    """What a PET series says about itself; None where it says nothing.

    ``units``, ``decay_correction``, ``suv_type``, ``corrections`` : the elements of the PET series
    and image modules. ``injection`` : with its true date if ``injection_dated``, else only the time
    of day counts. ``started`` : Series Date and Time. ``ge_started`` : GE's private scan time.
    ``philips_suv``, ``philips_bqml`` : Philips' private factors (7053,1000) and (7053,1009).
    """

    units: str
    decay_correction: str
    corrections: tuple[str, ...]
    weight_kg: float | None
    dose_bq: float | None
    half_life_s: float | None
    injection: datetime.datetime | None
    injection_dated: bool
    started: datetime.datetime | None
    slices: tuple[PetSlice, ...]
    suv_type: str = ""
    ge_started: datetime.datetime | None = None
    philips_suv: float | None = None
    philips_bqml: float | None = None


@dataclass(frozen=True, eq=False)
class SuvFactors:
    """SUVbw = rescaled value * ``factors`` (one per slice); ``how`` it was computed, in words."""

    factors: np.ndarray
    how: str


def suv_factors(header: PetHeader) -> SuvFactors:
    """The factors from rescaled values to SUVbw, one per slice.

    Raises
    ------
    InputError : units, a decay correction or a normalisation that cannot be converted, no
        attenuation correction, a weight, dose, half-life or time that is missing or not plausible.
    """
    count = len(header.slices)
    if header.corrections and "ATTN" not in header.corrections:
        raise _refusal("it is not corrected for attenuation", "Give the corrected series.")
    if header.units == "GML":
        if header.suv_type not in ("", "BW"):
            raise _refusal(
                f"it is in SUV normalised by {header.suv_type}, not by body weight",
                "Give the series in Bq/ml, or SUV by body weight as NIfTI or NRRD.",
            )
        return SuvFactors(np.ones(count), "stored as SUV by body weight")
    if header.units == "CNTS":
        if _positive(header.philips_suv):
            assert header.philips_suv is not None
            return SuvFactors(np.full(count, header.philips_suv), "Philips' SUV factor")
        if not _positive(header.philips_bqml):
            raise _refusal(
                "it is in counts, without Philips' private factors (7053,1000) or (7053,1009)",
                "Export it with private elements, or in Bq/ml.",
            )
        assert header.philips_bqml is not None
        in_bqml = _from_bqml(header)
        return SuvFactors(
            in_bqml.factors * header.philips_bqml,
            f"Philips' activity concentration factor; {in_bqml.how}",
        )
    if header.units == "BQML":
        return _from_bqml(header)
    known = {"PROPCPS": "proportional to count rate, without a calibration to Bq/ml"}
    raise _refusal(
        f"its units are {header.units or 'not stated'}"
        f" ({known.get(header.units, 'not an activity concentration')})",
        "Give the series in Bq/ml, or in SUV as NIfTI or NRRD.",
    )


def _refusal(why: str, advice: str) -> InputError:
    return InputError(f"The PET cannot be converted to SUV: {why}.", advice)


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _given(value: float | None, what: str, limits: tuple[float, float], key: str) -> float:
    advice = f"Give it with --pet-value {key}=VALUE."
    if value is None or not math.isfinite(value) or value == 0:
        raise _refusal(f"the header has no {what}", advice)
    if not limits[0] <= value <= limits[1]:
        raise _refusal(f"the header's {what} {value:g} is not plausible", advice)
    return value


def _from_bqml(header: PetHeader) -> SuvFactors:
    weight = _given(header.weight_kg, "patient weight (kg)", _WEIGHT_KG, "weight_kg")
    dose = _given(header.dose_bq, "injected dose (Bq)", _DOSE_BQ, "dose_mbq")
    corrected = "DECY" in header.corrections
    kind = header.decay_correction
    if kind == "ADMIN":
        return SuvFactors(
            np.full(len(header.slices), weight * 1000 / dose), "decay corrected to the injection"
        )
    half_life = _given(header.half_life_s, "half-life (s)", _HALF_LIFE_S, "half_life_s")
    if kind == "START":
        if header.corrections and not corrected:
            raise _refusal(
                "its decay correction is START, and its list of corrections has none for decay",
                "Export the series again.",
            )
        begin, source = scan_start(header, half_life)
        decay = decay_seconds(header, begin, half_life)
        factor = weight * 1000 / (dose * 2 ** (-decay / half_life))
        return SuvFactors(
            np.full(len(header.slices), factor),
            f"decay corrected to the scan's beginning ({source}), {decay / 60:.1f} min after the"
            " injection",
        )
    if kind == "NONE":
        if corrected:
            raise _refusal(
                "its decay correction is NONE, and its list of corrections has one for decay",
                "Export the series again.",
            )
        decays = []
        for one in header.slices:
            if one.acquired is None:
                raise _refusal("a slice has no acquisition time", "Export it with times.")
            mean = one.acquired + datetime.timedelta(seconds=mean_count_s(one, half_life))
            decays.append(decay_seconds(header, mean, half_life))
        factors = weight * 1000 / (dose * 2 ** (-np.array(decays) / half_life))
        return SuvFactors(factors, "not decay corrected; corrected here slice by slice")
    raise _refusal(
        f"its decay correction is {kind or 'not stated'}, not START, ADMIN or NONE",
        "Export the series again.",
    )


def mean_count_s(one: PetSlice, half_life_s: float) -> float:
    """Seconds from a frame's beginning to the time at which decay has its mean rate."""
    decay = math.log(2) / half_life_s
    x = decay * one.duration_s
    return math.log(x / -math.expm1(-x)) / decay if x > 0 else 0.0


def scan_start(header: PetHeader, half_life_s: float) -> tuple[datetime.datetime, str]:
    """The time to which decay correction START refers, and where it comes from.

    Series Date and Time, unless it is later than the first acquisition (then the series was made
    afterwards) or long before it (dates changed by de-identification); then GE's private scan time,
    then the times of the frames, then the first acquisition.

    Raises
    ------
    InputError : no time at all.
    """
    acquired = [s.acquired for s in header.slices if s.acquired is not None]
    if not acquired:
        if header.started is None:
            raise _refusal("the header has no scan time", "Export it with times.")
        return header.started, "series time"
    first = min(acquired)
    no_time = datetime.timedelta(0)
    if header.started is not None and no_time <= first - header.started <= _LONGEST_SCAN:
        return header.started, "series time"
    if header.ge_started is not None:
        # Its date may have escaped, or been removed by, de-identification.
        private = datetime.datetime.combine(first.date(), header.ge_started.time())
        if private > first + _DAY / 2:
            private -= _DAY
        return private, "GE's scan time"
    starts = [
        (s.acquired - first).total_seconds() - s.reference_s + mean_count_s(s, half_life_s)
        for s in header.slices
        if s.acquired is not None and s.reference_s > 0 and s.duration_s > 0
    ]
    if len(starts) == len(header.slices) and np.ptp(starts) <= _SAME_START_S:
        return first + datetime.timedelta(seconds=float(np.median(starts))), "frame times"
    return first, "first acquisition"


def decay_seconds(header: PetHeader, when: datetime.datetime, half_life_s: float) -> float:
    """Seconds from the injection to ``when``.

    An injection without a date, or with one that makes no sense beside ``when`` (de-identified),
    is the last one before ``when`` at its time of day.

    Raises
    ------
    InputError : no injection time; one that is more than ten half-lives away.
    """
    if header.injection is None:
        raise _refusal(
            "the header has no injection time",
            "Give it with --pet-value injection=YYYYMMDDHHMMSS.",
        )
    limit = _MOST_HALF_LIVES * half_life_s
    if header.injection_dated:
        seconds = (when - header.injection).total_seconds()
        if 0 <= seconds <= limit:
            return seconds
    same_day = datetime.datetime.combine(when.date(), header.injection.time())
    if same_day > when:
        same_day -= _DAY
    seconds = (when - same_day).total_seconds()
    if seconds > limit:
        raise _refusal(
            f"the injection at {header.injection:%H:%M:%S} is {seconds / 3600:.1f} h before the"
            f" scan at {when:%H:%M:%S}, more than ten half-lives",
            "Give the right time with --pet-value injection=YYYYMMDDHHMMSS.",
        )
    return seconds


def check_slices(slices: Sequence[PetSlice]) -> None:
    """Raises InputError for a frame whose length or reference time is not plausible."""
    for one in slices:
        if not (0 <= one.duration_s < 86_400 and math.isfinite(one.reference_s)):
            raise _refusal(
                f"a frame lasts {one.duration_s:g} s, with the reference time"
                f" {one.reference_s:g} s",
                "Export the series again.",
            )
