"""PET/CT as image files: the tree of the REACT-KD authors, and the sarcoma set ``sts``."""

from __future__ import annotations

from pathlib import Path

from REACTKDLib.errors import InputError

from .found import Cells, Found, numbers_first
from .tables import by_patient

_TRACERS = {"FDG": "pet_fdg", "ACT": "pet_acetate"}


def authors(
    tree: Path,
    derived: Path,
    found: Found,
    *,
    masks: Path | None = None,
    pet_unit: str = "",
    registered: bool = False,
) -> None:
    """The authors' tree: ``{grade}/{patient}/{FDG,ACT}/{CT,PET}.nii.gz``.

    Parameters
    ----------
    masks : tree of the same form with ``CT_liver.nii.gz`` and ``CT_tumor.nii.gz``; by default
        the masks lie beside the images.
    pet_unit : what the PET files hold, "SUV"; nothing in the tree says it, so nothing is assumed.
    registered : each tracer comes with its own CT, from its own scan. False: every scan is a study
        of its own. True: the acetate PET of a patient is registered to the FDG scan, whose CT and
        masks then serve for both, in one case.
    """
    mask_tree = tree if masks is None else Path(masks)
    for patient_folder in sorted(tree.glob("*/*/"), key=numbers_first):
        grade, patient = patient_folder.parent.name, patient_folder.name
        scans = [t for t in _TRACERS if (patient_folder / t).is_dir()]
        if not scans or not found.wants(patient):
            continue
        if registered and "FDG" not in scans:
            found.problems.append(f"{grade}/{patient} has no FDG scan to register to")
            continue
        for scan in scans[:1] if registered else scans:
            mask_folder = mask_tree / grade / patient / scan
            cells: Cells = {
                "patient": patient,
                "study": "" if registered else scan,
                "label": grade,
                "ct": patient_folder / scan / "CT.nii.gz",
                "mask_liver": mask_folder / "CT_liver.nii.gz",
                "mask_lesion": mask_folder / "CT_tumor.nii.gz",
            }
            for tracer in scans if registered else [scan]:
                cells[_TRACERS[tracer]] = patient_folder / tracer / "PET.nii.gz"
                cells[f"{_TRACERS[tracer]}_unit"] = pet_unit
            found.rows.append(cells)


def sts(tree: Path, derived: Path, found: Found) -> None:
    """Soft-tissue sarcoma: ``labels.csv`` and ``{patient}/{ct,pet_suv,gtv_ct}.nii.gz``.

    The label is lung metastasis, 0 or 1. PET is SUV by body weight, as the set's description says.
    The tumour contour on the CT's grid is the mask; there is no organ.
    """
    table = tree / "labels.csv"
    try:
        rows = by_patient(table, "patient", "lung_metastasis")
    except InputError as error:
        found.problems.append(error.message)
        return
    for patient, row in rows.items():
        if found.wants(patient):
            folder = tree / patient
            found.rows.append(
                {
                    "patient": patient,
                    "label": row["lung_metastasis"],
                    "ct": folder / "ct.nii.gz",
                    "pet_fdg": folder / "pet_suv.nii.gz",
                    "pet_fdg_unit": "SUVbw",
                    "mask_lesion": folder / "gtv_ct.nii.gz",
                }
            )
    without = {p.name for p in tree.iterdir() if p.is_dir()} - set(rows)
    found.problems += [f"{name} is not in {table}" for name in sorted(without)]
