"""Cohort manifests: which files and labels make up a cohort, checked before anything is trained.

A manifest is a CSV or JSON file (form: :mod:`training.manifest_file`). Paths are relative to its
folder, never absolute, so that it can move with the images. Its columns:

=====================  =========================================================================
patient                required; cases of one patient never part in cross-validation
study                  tells several cases of one patient apart
group                  a centre or another unit that must not be split either
label                  as pathology wrote it; a label schema (:mod:`training.label_schema`) reads it
ct                     required; image file, or folder of a DICOM series
series_uid             which series, where the folder has several CTs
pet_<tracer>           PET as an image file in SUV (pet_fdg, pet_acetate, ...)
pet_<tracer>_unit      "SUV" or "SUVbw". An image file has no unit, so this must be said for every
                       PET, here or as ``"pet_unit"`` of a JSON manifest
segmentation           labelmap or ``.seg.nrrd``
role_<role>            names or labels of the segmentation's segments with that role, apart by ";";
                       needed where names or default labels do not say it
mask_<role>            instead of a segmentation: file, or files apart by ";", one structure each
clinical_<name>        a number or text
=====================  =========================================================================
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.read import StudyFiles

from .label_schema import LabelSchema
from .manifest_check import (
    case_problems,
    cohort_problems,
    column_problems,
    file_problems,
    is_unit,
    model_problems,
)
from .manifest_file import SEPARATOR, ManifestError, Row, read_rows, write_manifest

__all__ = [
    "Cohort",
    "CohortCase",
    "ManifestError",
    "read_manifest",
    "study_files",
    "write_manifest",
]


@dataclass(frozen=True)
class CohortCase:
    """One study of one patient.

    ``label`` : index of the class, None in a cohort without labels. ``unit`` : cases that share it
    must stay on one side of every split (group, else patient). ``masks`` : role to files, one
    structure each; empty where ``segmentation`` is given. ``roles`` : role to segments of
    ``segmentation``. ``pet`` : "pet_<tracer>" to file, SUV. ``clinical`` : what is known.
    """

    patient: str
    ct: Path
    study: str = ""
    group: str = ""
    label: int | None = None
    series_uid: str | None = None
    segmentation: Path | None = None
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    pet: Mapping[str, Path] = field(default_factory=dict)
    clinical: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def case_id(self) -> str:
        """Patient, and study where one is named."""
        return f"{self.patient}/{self.study}" if self.study else self.patient

    @property
    def unit(self) -> str:
        """What must not be split: the group, or the patient of no group."""
        return f"group {self.group}" if self.group else f"patient {self.patient}"


@dataclass(frozen=True)
class Cohort:
    """Cases in the order of the manifest. ``schema`` is None for a cohort without labels."""

    name: str
    cases: tuple[CohortCase, ...]
    schema: LabelSchema | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """Class index of every case.

        Raises
        ------
        OptionError : a cohort without labels.
        """
        labels = tuple(case.label for case in self.cases if case.label is not None)
        if len(labels) < len(self.cases):
            raise OptionError(
                f"The cohort {self.name} has no labels.", "Read its manifest with a label schema."
            )
        return labels


def read_manifest(
    path: Path | str,
    schema: LabelSchema | None = None,
    *,
    folds: int | None = None,
    spec: ModelSpec | None = None,
) -> Cohort:
    """Read a manifest and check everything that can be checked without reading voxels.

    Parameters
    ----------
    schema : reads the labels; without one, labels are not looked at.
    folds : of the cross-validation to come; every class needs as many patients (or groups).
    spec : of the model to come; its classes and roles are compared.

    Raises
    ------
    ManifestError : lists every problem: unknown columns, missing, unreadable or empty files,
        absolute paths, PET whose scale is not said to be SUV, PET or masks that share no space with
        their CT, unknown labels, patients in two groups, the same study twice, classes without
        cases or with fewer patients than folds, roles and classes that the model does not know.
    """
    path = Path(path)
    table, problems = read_rows(path)
    problems += column_problems(table, labelled=schema is not None)
    cases = []
    for row in table.rows:
        case = case_of_row(row, path.parent, schema)
        found = [*case_problems(case, row, table.pet_unit, schema), *file_problems(case, row)]
        who = f"{row.where} ({case.case_id})" if case.patient else row.where
        problems += [f"{who}: {problem}" for problem in found]
        cases.append(case)
    problems += cohort_problems(cases, schema, folds)
    if spec is not None:
        problems += model_problems(cases, schema, spec)
    if problems:
        raise ManifestError(path, problems)
    return Cohort(path.stem, tuple(cases), schema)


def study_files(case: CohortCase) -> StudyFiles:
    """What :func:`REACTKDLib.read.read_study` reads of a case."""
    if case.segmentation is not None:
        files: tuple[Path, ...] = (case.segmentation,)
        roles = case.roles
    else:
        masks = [(role, file) for role, paths in case.masks.items() for file in paths]
        if len(masks) == 1:
            # Alone it would be read as a labelmap, whose labels have meanings of their own. Twice,
            # it is what it is here: a file of one structure, whatever its value.
            masks *= 2
        files = tuple(file for _, file in masks)
        # The reader takes a structure by its name or by its position. Positions always work,
        # except beside a file whose whole name is a number.
        numbered = any(re.sub(r"[\W_]", "", _stem(file)).isdigit() for file in files)
        chosen: dict[str, list[str]] = defaultdict(list)
        for number, (role, file) in enumerate(masks, start=1):
            chosen[role].append(file.name if numbered else str(number))
        roles = {role: tuple(texts) for role, texts in chosen.items()}
    return StudyFiles(
        ct=case.ct,
        segmentation=files,
        pet=case.pet,
        roles=roles,
        series_uid=case.series_uid,
        case_id=case.case_id,
    )


def _stem(path: Path) -> str:
    return re.sub(r"\.(nii\.gz|\w+)$", "", path.name, flags=re.IGNORECASE)


def _prefixed(cells: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """Name behind the prefix and content of the cells of one kind."""
    return ((n.removeprefix(prefix), c) for n, c in cells.items() if n.startswith(prefix))


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(SEPARATOR) if part.strip())


def _value(cell: str) -> float | str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell


def case_of_row(row: Row, folder: Path, schema: LabelSchema | None) -> CohortCase:
    """The case of a row, to be used only where no problem is found in it."""
    cells = row.cells
    return CohortCase(
        patient=cells.get("patient", ""),
        study=cells.get("study", ""),
        group=cells.get("group", ""),
        label=schema.index_of(cells.get("label", "")) if schema else None,
        ct=folder / cells.get("ct", ""),
        series_uid=cells.get("series_uid"),
        segmentation=folder / cells["segmentation"] if "segmentation" in cells else None,
        roles={role: _split(cell) for role, cell in _prefixed(cells, "role_")},
        masks={
            role: tuple(folder / name for name in _split(cell))
            for role, cell in _prefixed(cells, "mask_")
        },
        pet={
            f"pet_{tracer}": folder / cell
            for tracer, cell in _prefixed(cells, "pet_")
            if not is_unit(f"pet_{tracer}")
        },
        clinical={name: _value(cell) for name, cell in _prefixed(cells, "clinical_")},
    )
