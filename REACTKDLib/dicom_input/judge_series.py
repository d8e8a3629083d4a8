"""Which CT series of a DICOM folder qualify, and which of two is preferred.

Two series are compared criterion after criterion (:data:`CRITERIA`); the first that differs
decides.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..geometry import Geometry
from .contrast_phase import NOT_STATED, TITLES, Phase, phases
from .files import CT_IMAGE, DicomSeries
from .frames import ENHANCED_CT
from .series import series_grid

_PHASE_ORDER = ("portal", "late", "enhanced", "arterial", "unknown", "native")
#: A liver is about as long, mm.
_LIVER_MM = 150.0
_BEST_STEP_MM = 2.0
_EQUAL_RATIO = 1.15
_AXIAL_COSINE = math.cos(math.radians(30))
_DERIVED = {"DERIVED", "SECONDARY", "REFORMATTED", "MPR"}

_NEVER = {
    "LOCALIZER": "a localiser",
    "MIP": "a maximum intensity projection",
    "MAX_IP": "a maximum intensity projection",
    "MIN_IP": "a minimum intensity projection",
    "MINIP": "a minimum intensity projection",
    "PROJECTION IMAGE": "a projection",
    "VOLREN": "a rendering",
    "VRT": "a rendering",
    "RENDERED": "a rendering",
    "SCREEN SAVE": "a screen capture",
    "SCREEN_SAVE": "a screen capture",
    "DOSE": "a dose report",
    "DOSE_INFO": "a dose report",
    "IODINE": "a material map, not in HU",
    "MATERIAL_SPECIFIC": "a material map, not in HU",
    "EFF_ATOMIC_NUM": "a material map, not in HU",
    "Z_EFFECTIVE": "a material map, not in HU",
    "ELECTRON_DENSITY": "a material map, not in HU",
    "PERFUSION": "a perfusion map, not in HU",
}
_SHARP_WORDS = ("lung", "lunge", "bone", "knochen", "boneplus", "edge", "sharp", "detail")


@dataclass(frozen=True, eq=False)
class JudgedSeries:
    """A series and what was found about it.

    ``why_not`` : why it cannot be read, "" if it qualifies; ``error`` : the same, where its slices
    are the reason. ``geometry`` : its grid, where it has one.
    """

    series: DicomSeries
    phase: Phase = NOT_STATED
    why_not: str = ""
    geometry: Geometry | None = None
    error: InputError | None = None

    @property
    def grid(self) -> Geometry:
        """The grid of a series that qualifies."""
        assert self.geometry is not None
        return self.geometry


@dataclass(frozen=True)
class Criterion:
    """``value`` : the smaller, the better, equal within ``equal_ratio``; ``praise`` : what is
    better about the better one."""

    words: str
    value: Callable[[JudgedSeries], float]
    praise: Callable[[JudgedSeries], str]
    equal_ratio: float = 1.0

    def prefers(self, one: JudgedSeries, other: JudgedSeries) -> bool:
        """Whether ``one`` is better than ``other``."""
        return self.value(one) * self.equal_ratio < self.value(other)


def _is_axial(judged: JudgedSeries) -> bool:
    return bool(abs(judged.grid.direction_matrix[2, 2]) >= _AXIAL_COSINE)


def _extent_mm(judged: JudgedSeries) -> float:
    return (judged.grid.size[2] - 1) * judged.grid.spacing_mm[2]


def _step_ratio(judged: JudgedSeries) -> float:
    ratio = judged.grid.spacing_mm[2] / _BEST_STEP_MM
    return max(ratio, 1 / ratio)


def _is_sharp(judged: JudgedSeries) -> bool:
    kernel = judged.series.tags["ConvolutionKernel"].split("\\")[0]
    words = f"{kernel} {judged.series.description}".casefold().replace("_", " ").split()
    # Siemens numbers kernels by sharpness (B30f, Br40, Bl57); below 55 is soft tissue.
    number = re.match(r"[BHDQ][a-z]?(\d\d)", kernel)
    return any(word in _SHARP_WORDS for word in words) or (
        number is not None and int(number.group(1)) >= 55
    )


#: What decides, in this order, after what the segmentation was drawn on.
CRITERIA = (
    Criterion(
        "original before derived images",
        lambda j: float(bool(_DERIVED & set(j.series.image_type))),
        lambda j: "original images",
    ),
    Criterion(
        "axial before other slice directions",
        lambda j: float(not _is_axial(j)),
        lambda j: "axial slices",
    ),
    Criterion(
        "phase: portal venous, late, contrast of unstated phase, arterial, unstated, native",
        lambda j: float(_PHASE_ORDER.index(j.phase.name)),
        lambda j: TITLES[j.phase.name],
    ),
    Criterion(
        "soft-tissue before sharp (lung, bone) kernel",
        lambda j: float(_is_sharp(j)),
        lambda j: "a soft-tissue kernel",
    ),
    Criterion(
        f"{_LIVER_MM:.0f} mm long or more before shorter",
        lambda j: float(_extent_mm(j) < _LIVER_MM),
        lambda j: f"{_extent_mm(j):.0f} mm long",
    ),
    Criterion(
        f"slice step nearest to {_BEST_STEP_MM:g} mm by ratio (15 % count as equal)",
        _step_ratio,
        lambda j: f"a slice step of {j.grid.spacing_mm[2]:.2f} mm",
        _EQUAL_RATIO,
    ),
    Criterion(
        "longer (by more than 15 %)",
        lambda j: 1 / (_extent_mm(j) + 1),
        lambda j: f"{_extent_mm(j):.0f} mm long",
        _EQUAL_RATIO,
    ),
)


def preference(one: JudgedSeries, other: JudgedSeries) -> tuple[int, str]:
    """1 if ``one`` is preferred, -1 if ``other`` is, 0 if nothing decides; and what for."""
    for criterion in CRITERIA:
        if criterion.prefers(one, other):
            return 1, criterion.praise(one)
        if criterion.prefers(other, one):
            return -1, criterion.praise(other)
    return 0, ""


def _kind_problem(series: DicomSeries) -> str:
    """Why a series is no CT volume by its header; "" if it may be one."""
    if series.modality != "CT":
        return f"its modality is {series.modality or 'not stated'}, not CT"
    for value in series.image_type:
        if value in _NEVER:
            return _NEVER[value]
    storage = series.tags["SOPClassUID"]
    if storage and storage not in (CT_IMAGE, *ENHANCED_CT):
        return "a secondary capture or another object that is no CT image"
    if series.tags["RescaleType"].upper() not in ("", "HU", "US", "HU_MOD"):
        return f"its values are in {series.tags['RescaleType']}, not HU"
    if series.count < 2:
        return "one slice"
    return ""


def judge(folder: Path, series: tuple[DicomSeries, ...]) -> list[JudgedSeries]:
    """Each series with its phase, its grid, and why it does not qualify."""
    judged = [_judge(folder, s) for s in series]
    good = [n for n, j in enumerate(judged) if not j.why_not]
    by_study: dict[str, list[int]] = {}
    for n in good:
        by_study.setdefault(series[n].tags["StudyInstanceUID"], []).append(n)
    for members in by_study.values():
        # Only volumes: bolus tracking is an enhanced acquisition too.
        for n, phase in zip(members, phases([series[m] for m in members]), strict=True):
            judged[n] = dataclasses.replace(judged[n], phase=phase)
    return judged


def _judge(folder: Path, series: DicomSeries) -> JudgedSeries:
    why_not = _kind_problem(series)
    if why_not:
        return JudgedSeries(series, why_not=why_not)
    try:
        return JudgedSeries(series, geometry=series_grid(folder, series).geometry)
    except InputError as error:
        return JudgedSeries(series, why_not=error.message, error=error)
