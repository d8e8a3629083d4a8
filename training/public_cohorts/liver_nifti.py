"""Public liver CT as image files: LiTS17, MSD Task03, WAW-TACE. None of them has a grade.

MSD Task03 is the LiTS data under other names: never count the two as two cohorts, and never train
on one and test on the other.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from REACTKDLib.errors import InputError
from REACTKDLib.read_image import read_geometry

from .found import Cells, Found, numbers_first
from .tables import labels_by_patient

_WAW_MASK = re.compile(r"(\w+?)_(\d)_.*tumor_seg\.(nrrd|nii|nii\.gz)")
_WAW_SCAN = re.compile(r"(\w+?)_(\d)_scan\.(nii|nii\.gz)")


def lits17(tree: Path, derived: Path, found: Found) -> None:
    """LiTS17: ``volume-N.nii`` and ``segmentation-N.nii``, anywhere in the tree.

    Labels are the default ones, 1 liver and 2 tumour; some cases have no tumour.
    """
    files: dict[str, dict[str, list[Path]]] = {"volume": {}, "segmentation": {}}
    for path in sorted(tree.rglob("*-*.nii*")):
        match = re.fullmatch(r"(volume|segmentation)-(\d+)\.nii(\.gz)?", path.name)
        if match:
            files[match[1]].setdefault(match[2], []).append(path)
    for number in sorted({*files["volume"], *files["segmentation"]}, key=int):
        patient = f"LiTS17-{number}"
        if not found.wants(patient):
            continue
        pair = [files[kind].get(number, []) for kind in ("volume", "segmentation")]
        if [len(paths) for paths in pair] != [1, 1]:
            found.problems.append(
                f"{patient} has {len(pair[0])} files volume-{number} and {len(pair[1])} files"
                f" segmentation-{number}, not one of each"
            )
            continue
        found.rows.append({"patient": patient, "ct": pair[0][0], "segmentation": pair[1][0]})


def msd_task03(tree: Path, derived: Path, found: Found) -> None:
    """Medical Segmentation Decathlon, Task03_Liver: what ``dataset.json`` lists as training."""
    description = tree / "dataset.json"
    try:
        document = json.loads(description.read_text(encoding="utf-8-sig"))
        labels = {int(label): name for label, name in document["labels"].items()}
        pairs = [(str(item["image"]), str(item["label"])) for item in document["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.problems.append(f"{description} cannot be read as a decathlon task: {error!r}")
        return
    if labels != {0: "background", 1: "liver", 2: "cancer"}:
        found.problems.append(
            f"{description} has the labels {labels}; Task03 has 1 liver and 2 cancer"
        )
    for image, label in pairs:
        patient = "MSD03-" + re.sub(r"\.nii(\.gz)?$", "", Path(image).name)
        if found.wants(patient):
            found.rows.append(
                {"patient": patient, "ct": tree / image, "segmentation": tree / label}
            )


def waw_tace(
    tree: Path,
    derived: Path,
    found: Found,
    *,
    phase: int | None = None,
    label_table: Path | None = None,
    patient_column: str = "PATPRI",
    label_column: str | None = None,
) -> None:
    """WAW-TACE: ``{id}_{phase}_scan.nii*`` and ``{id}_{phase}_{n}_tumor_seg.nrrd``.

    Phases are 0 native, 1 arterial, 2 portal venous, 3 delayed; the tumours of one phase per
    patient are drawn, one file each. Every phase with masks makes a case (``phase`` : only that
    one). In the release some masks carry the phase of another scan in their name: a mask whose
    grid is not its scan's is a problem here, with the phases that it does fit. Liver masks are
    no part of it. ``label_table`` with ``patient_column`` and ``label_column`` gives the labels.
    """
    scans: dict[str, dict[str, Path]] = defaultdict(dict)
    masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(p for p in tree.rglob("*_*") if p.is_file()):
        if match := _WAW_SCAN.fullmatch(path.name):
            scans[match[1]][match[2]] = path
        elif match := _WAW_MASK.fullmatch(path.name):
            masks[match[1], match[2]].append(path)
    labels = labels_by_patient(label_table, patient_column, label_column)
    for patient, its_phase in sorted(masks, key=lambda key: numbers_first("_".join(key))):
        if phase is not None and its_phase != str(phase):
            found.left_out.append(f"{patient}: phase {its_phase} is not phase {phase}")
            continue
        if not found.wants(patient):
            continue
        scan = scans[patient].get(its_phase)
        if scan is None:
            found.problems.append(
                f"{patient} has tumour masks of phase {its_phase} and no scan of it"
            )
            continue
        files = masks[patient, its_phase]
        found.problems += _phase_problems(patient, files, its_phase, scans[patient])
        cells: Cells = {"patient": patient, "study": f"phase {its_phase}"}
        if labels is not None:
            cells["label"] = labels.get(patient)
        found.rows.append({**cells, "ct": scan, "mask_lesion": files})
    for patient in sorted(set(scans) - {p for p, _ in masks}, key=numbers_first):
        found.left_out.append(f"{patient}: no tumour mask")


def _phase_problems(
    patient: str, files: list[Path], phase: str, scans: dict[str, Path]
) -> list[str]:
    try:
        grids = {name: read_geometry(path, "ct") for name, path in scans.items()}
        problems = []
        for file in files:
            mask = read_geometry(file, "mask_lesion")
            fitting = [name for name, grid in grids.items() if mask.same_grid(grid, 0.1)]
            if phase not in fitting:
                problems.append(
                    f"{patient}: {file.name} is not on the grid of phase {phase}; it fits phase"
                    f" {', '.join(fitting) or 'none'}: rename it, or exclude the patient"
                )
        return problems
    except InputError as error:
        return [f"{patient}: {error.message}"]
