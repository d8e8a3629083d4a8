"""Cohorts of DICOM series with DICOM segmentations: any IDC or TCIA download, and HCC-TACE-Seg."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from REACTKDLib.errors import InputError, OutputError
from REACTKDLib.geometry import image_from_array
from REACTKDLib.read_image import itk_reason
from REACTKDLib.read_segmentation import read_segmentation
from REACTKDLib.roles import RoleRule
from REACTKDLib.types import Segmentation

from .found import Cells, Found, numbers_first
from .tables import by_patient, labels_by_patient

_TAGS = (
    "PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "Modality", "SeriesInstanceUID",
    "SeriesDescription", "ReferencedSeriesSequence",
)  # fmt: skip

#: Roles in the public liver cohorts, by the segments' labels or, where these say nothing, types.
SEG_RULES = (
    RoleRule("liver", False, ("liver", "hepar", "hepatic parenchyma")),
    RoleRule(
        "lesion",
        False,
        ("lesion", "tumor", "tumour", "mass", "neoplasm", "HCC", "hepatocellular carcinoma",
         "metastasis", "metastases"),
    ),
)  # fmt: skip

#: HCC-TACE-Seg's column ``Pathology`` as a grade; None leaves the patient out. That a mixed tumour
#: counts as its less differentiated part is a decision, which the option ``grade_merge`` changes.
GRADE_MERGE: Mapping[str, str | None] = {
    "Well differentiated": "well",
    "Well-moderately differentiated": "moderate",
    "Moderately differentiated": "moderate",
    "Moderately-poorly differentiated": "poor",
    "Poorly differentiated": "poor",
    "NOT STATED": None,
    "No biopsy": None,
}

#: Clinical columns of the manifest and of the table. Follow-up (survival, response) stays out: it
#: is no input.
_CLINICAL = {
    "age": "age",
    "sex": "Sex",
    "afp_ng_ml": "AFP",
    "hepatitis": "hepatitis",
    "cirrhosis": "Evidence_of_cirh",
    "child_pugh": "CPS",
    "bclc": "BCLC",
}
_SEX = {"1": "male", "2": "female"}


@dataclass(frozen=True)
class _Series:
    """One series: what its first file says, and its files. ``refers`` : UIDs it was made from."""

    patient: str
    study: str
    when: str
    modality: str
    uid: str
    description: str
    refers: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def folders(self) -> set[Path]:
        return {file.parent for file in self.files}


def _list_series(tree: Path, found: Found) -> dict[str, list[_Series]]:
    """All series below ``tree`` by patient. Layout and file names do not matter, tags do."""
    import pydicom

    heads: dict[str, Any] = {}
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and not p.name.startswith(".")):
        try:
            with open(path, "rb") as file:
                is_dicom = file.read(132)[128:] == b"DICM"
            if (not is_dicom and path.suffix.lower() != ".dcm") or path.name == "DICOMDIR":
                continue
            head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            uid = str(head.SeriesInstanceUID)
        except (pydicom.errors.InvalidDicomError, OSError, AttributeError, ValueError) as error:
            found.problems.append(f"{path} cannot be read as DICOM: {error!r}")
            continue
        heads.setdefault(uid, head)
        files[uid].append(path)
    patients: dict[str, list[_Series]] = defaultdict(list)
    for uid, head in heads.items():
        series = _Series(
            patient=str(head.get("PatientID", "")),
            study=str(head.get("StudyInstanceUID", "")),
            when=f"{head.get('StudyDate') or ''}{head.get('StudyTime') or ''}",
            modality=str(head.get("Modality", "")),
            uid=uid,
            description=str(head.get("SeriesDescription", "")),
            refers=tuple(
                str(item.SeriesInstanceUID) for item in head.get("ReferencedSeriesSequence") or ()
            ),
            files=tuple(files[uid]),
        )
        patients[series.patient].append(series)
    return {patient: patients[patient] for patient in sorted(patients, key=numbers_first)}


def _earliest_pair(series: list[_Series], seg_description: str | None) -> tuple[_Series, _Series]:
    """CT and SEG of the earliest study that has a SEG."""
    segs = [s for s in series if s.modality == "SEG"]
    if seg_description is not None:
        segs = [s for s in segs if seg_description.casefold() in s.description.casefold()]
    if not segs:
        raise InputError(f"no SEG among {len(series)} series")
    if len({s.study for s in segs}) > 1 and not all(s.when for s in segs):
        raise InputError("several studies have a SEG, and not all have a date")
    first = min(segs, key=lambda s: (s.when, s.study)).study
    segs = [s for s in segs if s.study == first]
    if len(segs) > 1 or len(segs[0].files) > 1:
        listed = ", ".join(f'"{s.description}"' for s in segs)
        raise InputError(
            f"the earliest study has {sum(len(s.files) for s in segs)} SEG files (series {listed});"
            " choose by seg_description"
        )
    seg = segs[0]
    cts = [s for s in series if s.modality == "CT" and s.study == first]
    chosen = [s for s in cts if s.uid in seg.refers] if seg.refers else cts
    if len(chosen) != 1:
        raise InputError(
            f"{len(chosen)} of the study's {len(cts)} CT series are the one that the SEG was drawn"
            f" on (it names {', '.join(seg.refers) or 'none'})"
        )
    if len(chosen[0].folders) > 1:
        raise InputError(f"the CT series {chosen[0].uid} is spread over several folders")
    return chosen[0], seg


def _save_labelmap(segmentation: Segmentation, path: Path) -> Path:
    import SimpleITK as sitk

    image = image_from_array(segmentation.labels, segmentation.geometry)
    path.parent.mkdir(exist_ok=True)
    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OutputError(
            f"{path} cannot be written: {itk_reason(error)}.", "Free space."
        ) from error
    return path


def _image_cells(
    series: list[_Series],
    derived: Path,
    number: int,
    needed: tuple[str, ...],
    seg_description: str | None,
) -> Cells:
    """CT, labelmap and roles of a patient; the labelmap is written as NIfTI."""
    ct, seg = _earliest_pair(series, seg_description)
    segmentation = read_segmentation(seg.files[:1], SEG_RULES)
    roles = {rule.name: segmentation.labels_of(rule.name) for rule in SEG_RULES}
    names = ", ".join(s.name for s in segmentation.segments)
    for role in needed:
        if not roles[role]:
            raise InputError(f"the SEG has no {role}; its segments are {names}")
    if not any(roles.values()):
        raise InputError(f"the SEG has neither liver nor lesion; its segments are {names}")
    labelmap = _save_labelmap(segmentation, derived / f"segmentation_{number:04d}.nii.gz")
    return {
        "study": ct.study,
        "ct": ct.files[0].parent,
        "series_uid": ct.uid,
        "segmentation": labelmap,
        **{f"role_{role}": list(labels) for role, labels in roles.items() if labels},
    }


def idc(
    tree: Path,
    derived: Path,
    found: Found,
    *,
    seg_description: str | None = None,
    label_table: Path | None = None,
    patient_column: str = "PatientID",
    label_column: str | None = None,
) -> None:
    """A DICOM download, as of idc-index (``collection/patient/study/modality_series``) or TCIA.

    Each patient's earliest study with a SEG, and the CT that the SEG refers to.

    Parameters
    ----------
    seg_description : part of the series description of the SEG to take, where there are several.
    label_table, patient_column, label_column : table (CSV or XLSX) that gives the labels.
    """
    labels = labels_by_patient(label_table, patient_column, label_column)
    for number, (patient, series) in enumerate(_list_series(tree, found).items(), start=1):
        if not found.wants(patient):
            continue
        cells: Cells = {"patient": patient}
        if labels is not None:
            cells["label"] = labels.get(patient)
        try:
            cells |= _image_cells(series, derived, number, (), seg_description)
        except InputError as error:
            found.problems.append(f"{patient}: {error.message}")
            continue
        found.rows.append(cells)


def hcc_tace_seg(
    tree: Path,
    derived: Path,
    found: Found,
    *,
    clinical: Path | None = None,
    grade_merge: Mapping[str, str | None] | None = None,
    seg_description: str | None = None,
) -> None:
    """HCC-TACE-Seg: DICOM as in :func:`idc`, and its clinical table.

    Parameters
    ----------
    clinical : the table (XLSX or CSV, key ``TCIA_ID``); by default the only file in the tree with
        "clinical" in its name.
    grade_merge : ``Pathology`` to label, or None to leave out; replaces entries of
        :data:`GRADE_MERGE`. A pathology that is in neither is a problem.
    """
    try:
        clinical = _clinical_table(tree) if clinical is None else Path(clinical)
        table = by_patient(clinical, "TCIA_ID", "Pathology", *_CLINICAL.values())
    except InputError as error:
        found.problems.append(error.message)
        return
    merge = {_plain(name): label for name, label in {**GRADE_MERGE, **(grade_merge or {})}.items()}
    patients = _list_series(tree, found)
    for patient in sorted({*table, *patients}, key=numbers_first):
        if not found.wants(patient):
            continue
        if patient not in table:
            found.problems.append(f"{patient} is not in {clinical}")
            continue
        row = table[patient]
        pathology = row["Pathology"]
        if _plain(pathology) not in merge:
            found.problems.append(
                f"{patient}: no merge rule for the pathology {pathology!r}; give one in grade_merge"
            )
        elif merge[_plain(pathology)] is None:
            found.left_out.append(f"{patient}: pathology {pathology!r}")
        elif patient not in patients:
            found.left_out.append(f"{patient}: no images in the tree")
        else:
            number = len(found.rows) + 1
            try:
                cells = _image_cells(
                    patients[patient], derived, number, ("liver", "lesion"), seg_description
                )
            except InputError as error:
                found.problems.append(f"{patient}: {error.message}")
                continue
            found.rows.append(
                {"patient": patient, "label": merge[_plain(pathology)], **cells, **_clinical(row)}
            )


def _plain(pathology: str) -> str:
    return " ".join(pathology.casefold().split())


def _clinical(row: Mapping[str, str]) -> Cells:
    cells = {f"clinical_{name}": row[column] for name, column in _CLINICAL.items()}
    cells["clinical_sex"] = _SEX.get(row["Sex"], "")
    return cells


def _clinical_table(tree: Path) -> Path:
    tables = [
        p
        for p in sorted(tree.rglob("*"))
        if p.suffix.lower() in (".xlsx", ".csv") and "clinical" in p.name.casefold()
    ]
    if len(tables) != 1:
        raise InputError(
            f"{tree} has {len(tables)} clinical tables (.xlsx or .csv); name one by the option"
            " clinical"
        )
    return tables[0]
