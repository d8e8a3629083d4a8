"""What a CT's DICOM header says of its patient, as Slicer keeps it in the subject hierarchy."""

from __future__ import annotations

from datetime import date
from typing import Any

_DAYS_PER_YEAR = 365.25


def patient_of(ct: Any | None) -> dict[str, str]:
    """``age`` in years on the day of the study and ``sex`` (``M``, ``F``), as far as known.

    To compare with what is typed, never to take its place. Reads the patient and study above the
    CT; a volume that did not come from DICOM has none.
    """
    import slicer

    if ct is None or ct.GetScene() is None:
        return {}
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(ct.GetScene())
    item = hierarchy.GetItemByDataNode(ct) if hierarchy is not None else 0
    if not item:
        return {}
    names = slicer.vtkMRMLSubjectHierarchyConstants
    sex = _above(hierarchy, item, names.GetDICOMPatientSexAttributeName())
    born = _day(_above(hierarchy, item, names.GetDICOMPatientBirthDateAttributeName()))
    studied = _day(_above(hierarchy, item, names.GetDICOMStudyDateAttributeName()))
    found = {"sex": sex} if sex else {}
    if born is not None and studied is not None and born <= studied:
        found["age"] = f"{(studied - born).days / _DAYS_PER_YEAR:.1f}"
    return found


def _above(hierarchy: Any, item: int, attribute: str) -> str:
    """An attribute of an item or of the nearest above it that has it."""
    while item and item != hierarchy.GetSceneItemID():
        value = hierarchy.GetItemAttribute(item, attribute)
        if value:
            return str(value)
        item = hierarchy.GetItemParent(item)
    return ""


def _day(text: str) -> date | None:
    """A day as DICOM writes it (``19640229``) or Slicer's database does (``1964-02-29``)."""
    digits = text.replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
