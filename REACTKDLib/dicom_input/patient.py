"""What a DICOM header says of its patient that clinical values say too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

_DAYS_PER_YEAR = 365.25
#: What :func:`patient_of` reads: DICOM keyword, and tag as SimpleITK names it.
PATIENT_TAGS = {
    "PatientSex": "0010|0040",
    "PatientAge": "0010|1010",
    "PatientBirthDate": "0010|0030",
    "StudyDate": "0008|0020",
}


def patient_of(header: Mapping[str, str]) -> dict[str, str]:
    """``sex`` (``M``, ``F``) and ``age`` on the day of the study (years, or a DICOM age string).

    To compare with what is typed, never to take its place: what is not known is left out. The birth
    date itself is not handed on.

    Parameters
    ----------
    header : keyword of :data:`PATIENT_TAGS` -> its text; any may be missing or empty.
    """
    sex, age = header.get("PatientSex", ""), header.get("PatientAge", "")
    born, studied = (_day(header.get(name, "")) for name in ("PatientBirthDate", "StudyDate"))
    if not age and born is not None and studied is not None and born <= studied:
        age = f"{(studied - born).days / _DAYS_PER_YEAR:.1f}"
    return {name: value for name, value in (("sex", sex), ("age", age)) if value}


def _day(text: str) -> date | None:
    """A day as DICOM writes it (``19640229``) or Slicer's database does (``1964-02-29``)."""
    digits = text.replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
