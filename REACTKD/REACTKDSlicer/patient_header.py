"""What a CT's DICOM header says of its patient, as Slicer keeps it in the subject hierarchy."""

from __future__ import annotations

from typing import Any

from REACTKDLib.dicom_input.patient import patient_of as patient_of_header


def patient_of(ct: Any | None) -> dict[str, str]:
    """Age and sex of a CT's patient, as :func:`REACTKDLib.dicom_input.patient.patient_of`.

    Reads the patient and study above the CT; a volume that did not come from DICOM has none.
    """
    import slicer

    if ct is None or ct.GetScene() is None:
        return {}
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(ct.GetScene())
    item = hierarchy.GetItemByDataNode(ct) if hierarchy is not None else 0
    if not item:
        return {}
    names = slicer.vtkMRMLSubjectHierarchyConstants
    attributes = {
        "PatientSex": names.GetDICOMPatientSexAttributeName(),
        "PatientBirthDate": names.GetDICOMPatientBirthDateAttributeName(),
        "StudyDate": names.GetDICOMStudyDateAttributeName(),
    }
    return patient_of_header({k: _above(hierarchy, item, name) for k, name in attributes.items()})


def _above(hierarchy: Any, item: int, attribute: str) -> str:
    """An attribute of an item or of the nearest above it that has it."""
    while item and item != hierarchy.GetSceneItemID():
        value = hierarchy.GetItemAttribute(item, attribute)
        if value:
            return str(value)
        item = hierarchy.GetItemParent(item)
    return ""
