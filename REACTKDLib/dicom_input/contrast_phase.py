"""The contrast phase of CT series, from what their headers say.

Evidence, strongest first: words of series description and protocol; the time between injection and
acquisition; the order of enhanced acquisitions of one study. Words that contradict each other, and
everything else, give no phase: none is guessed from the image.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .files import DicomSeries

_ENHANCED = ("arterial", "portal", "late")
PHASES = ("native", *_ENHANCED)
TITLES = {
    "native": "native",
    "arterial": "arterial phase",
    "portal": "portal venous phase",
    "late": "late phase",
    "enhanced": "contrast, phase not stated",
    "unknown": "phase not stated",
}

#: Words that mean a phase, case folded, as a whole word. English and German.
_WORDS = {
    "native": "native nativ noncontrast nonenhanced unenhanced plain precontrast nc ncct nect vnc",
    "arterial": "arterial arterially arteriell arterielle art hap aph",
    "portal": "portal portalvenous portovenous portalvenoes portalvenös portalvenöse pv pvp pvi"
    " venous venös venöse venoes ven",
    "late": "late delay delayed del equilibrium spät spaet spaete späte excretory washout",
}
_PHRASES = {
    "native": ("non contrast", "non enhanced", "no contrast", "without contrast", "pre contrast",
               "wo contrast", "w o contrast", "w o iv", "ohne km", "ohne kontrastmittel"),
    "portal": ("hepatic venous",),
    "arterial": ("late arterial", "early arterial"),
    "late": ("late venous", "delayed venous"),
}  # fmt: skip
_NO_AGENT = ("", "no", "none", "n", "without", "no contrast", "nil", "0")

#: Seconds after the injection began at which a liver phase begins: late arterial about 35 s, portal
#: venous 70 s, late 180 s; the borders lie between.
_ARTERIAL_FROM, _PORTAL_FROM, _LATE_FROM = 15.0, 50.0, 120.0
#: Two acquisitions that begin within this are the same one, reconstructed twice. s
_SAME_ACQUISITION = 5.0


@dataclass(frozen=True)
class Phase:
    """``name`` : one of ``PHASES``, "enhanced" or "unknown"; ``why`` : the evidence, in words."""

    name: str
    why: str = ""

    def __str__(self) -> str:
        return TITLES[self.name] + (f" ({self.why})" if self.why else "")


#: Nothing is known.
NOT_STATED = Phase("unknown")


def dicom_time(text: str) -> datetime.datetime | None:
    """A DICOM date and time (PS3.5 6.2, DT) to the second's fraction; None if it is none.

    An offset from UTC is passed over: all times of a study have the same.
    """
    pattern = r"(\d{8})(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6})\d*)?(?:[+-]\d{4})?"
    match = re.fullmatch(pattern, text.replace(":", "").strip())
    if not match:
        return None
    day, hour, minute, second, fraction = match.groups(default="0")
    try:
        return datetime.datetime.strptime(
            f"{day}{hour}{minute:>02}{second:>02}", "%Y%m%d%H%M%S"
        ) + datetime.timedelta(microseconds=int(fraction.ljust(6, "0")))
    except ValueError:
        return None


def phase_in_words(text: str) -> str | None:
    """The one phase that a text names, or None."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-zäöü])(?=[A-Z])", " ", text).casefold())
    joined = " ".join(words)
    for phase, phrases in _PHRASES.items():
        for phrase in phrases:
            if re.search(rf"\b{phrase}\b", joined):
                return phase
    found = [p for p in PHASES if set(_WORDS[p].split()) & set(words)]
    return found[0] if len(found) == 1 else None


def _stated(series: DicomSeries) -> Phase:
    """The phase of one series by its own header."""
    for keyword, name in (("SeriesDescription", "its description"), ("ProtocolName", "protocol")):
        phase = phase_in_words(series.tags[keyword])
        if phase is not None:
            return Phase(phase, f"from {name}")
    agent = series.tags["ContrastBolusAgent"].strip()
    if agent.casefold() in _NO_AGENT:
        # An empty agent says nothing: de-identification may have emptied it.
        return Phase("native", "no contrast agent") if agent else NOT_STATED
    begin, acquired = series.tags["ContrastBolusStartTime"], dicom_time(series.acquired)
    if acquired is not None and begin:
        injected = dicom_time(f"{acquired:%Y%m%d}{begin}")
        delay = (acquired - injected).total_seconds() if injected is not None else -1.0
        if _ARTERIAL_FROM <= delay < 1800:
            after = int(delay >= _PORTAL_FROM) + int(delay >= _LATE_FROM)
            return Phase(_ENHANCED[after], f"{delay:.0f} s after the injection began")
    return Phase("enhanced")


def phases(series: Sequence[DicomSeries]) -> list[Phase]:
    """The phase of each of the CT volumes of one study.

    Where no enhanced series states its phase, three enhanced acquisitions one after the other are
    taken as arterial, portal venous and late.
    """
    stated = [_stated(s) for s in series]
    enhanced = [n for n, phase in enumerate(stated) if phase.name == "enhanced"]
    if any(p.name in _ENHANCED for p in stated):
        return stated
    times = {n: dicom_time(series[n].acquired) for n in enhanced}
    known = {n: t.timestamp() for n, t in times.items() if t is not None}
    if not known or len(known) < len(times):
        return stated
    begins: list[float] = []
    for time in sorted(known.values()):
        if not begins or time - begins[-1] > _SAME_ACQUISITION:
            begins.append(time)
    if len(begins) != 3 or begins[2] - begins[0] > 1800:
        return stated
    for n, time in known.items():
        place = sum(time > begin + _SAME_ACQUISITION for begin in begins)
        why = f"guessed: number {place + 1} of three enhanced acquisitions"
        stated[n] = Phase(_ENHANCED[place], why)
    return stated
