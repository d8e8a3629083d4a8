"""What is wrong with a cohort manifest: in its cells, its files and between its cases.

Of files only headers are read, never voxels, so that a whole cohort is checked in seconds.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from REACTKDLib.dicom_input.choose_series import choose_series
from REACTKDLib.dicom_input.series import series_grid
from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read_image import read_geometry

from .label_schema import LabelSchema
from .manifest_file import SEPARATOR, Row, Table

if TYPE_CHECKING:
    from REACTKDLib.model_package import ModelSpec

    from .manifest import CohortCase

_COLUMNS = ("patient", "study", "group", "label", "ct", "series_uid", "segmentation")
_PATHS = ("ct", "segmentation")
_PREFIXED = re.compile(r"(pet|role|mask|clinical)_.+")
#: SUV by body weight is what models are trained in; by lean mass or body surface is another scale.
_SUV = ("suv", "suvbw")

_TOUCHING_MM = 1e-3


def ct_geometry(path: Path, series_uid: str | None) -> Geometry:
    """The grid of a CT: image file, or folder of a DICOM series.

    Raises
    ------
    InputError : as :func:`REACTKDLib.read_image.read_geometry`; for a folder as
        :func:`REACTKDLib.dicom_input.choose_series.choose_series` and
        :func:`REACTKDLib.dicom_input.series.series_grid`; a series UID of a file.
    """
    if path.is_dir():
        return series_grid(path, choose_series(path, series_uid)[0]).geometry
    geometry = read_geometry(path, "CT")
    if series_uid is not None:
        raise InputError(
            f"A series UID ({series_uid}) is given, and the CT {path} is no folder.",
            "Leave the UID out.",
        )
    return geometry


def boxes_overlap(one: Geometry, other: Geometry) -> bool:
    """Whether the boxes of two grids share space; touching does not count.

    Exact for boxes in any orientation: two convex bodies are apart when their shadows are apart on
    one of the face normals or on a cross product of edges (separating axis theorem).
    """
    normals = [*one.direction_matrix.T, *other.direction_matrix.T]
    crosses = [np.cross(a, b) for a, b in itertools.product(normals[:3], normals[3:])]
    axes = np.array([*normals, *(c / n for c in crosses if (n := np.linalg.norm(c)) > 1e-6)])
    a, b = one.corners_lps() @ axes.T, other.corners_lps() @ axes.T
    shared = np.minimum(a.max(axis=0), b.max(axis=0)) - np.maximum(a.min(axis=0), b.min(axis=0))
    return bool((shared > _TOUCHING_MM).all())


def is_unit(column: str) -> bool:
    """Whether a column states the unit of a PET."""
    return column.startswith("pet_") and column.endswith("_unit")


def column_problems(table: Table, labelled: bool) -> list[str]:
    """Missing and unknown columns."""
    required = ("patient", "ct", "label") if labelled else ("patient", "ct")
    problems = [f"there is no column {name!r}" for name in required if name not in table.columns]
    for name in table.columns:
        if name not in _COLUMNS and not _PREFIXED.fullmatch(name):
            problems.append(f"unknown column {name!r}")
        elif is_unit(name) and name.removesuffix("_unit") not in table.columns:
            problems.append(f"the column {name!r} is there without {name.removesuffix('_unit')!r}")
    return problems if table.rows else [*problems, "it has no cases"]


def case_problems(
    case: CohortCase, row: Row, pet_unit: str, schema: LabelSchema | None
) -> list[str]:
    """What is wrong in the cells of a row. ``pet_unit`` holds where the row states none."""
    cells = row.cells
    problems = [f"the {name} is missing" for name in ("patient", "ct") if name not in cells]
    if schema and case.label is None:
        problems.append(
            f"the label {cells.get('label', '')!r} is no class of {schema.name}"
            f" ({', '.join(schema.class_names)})"
        )
    if case.segmentation is None and not case.masks:
        problems.append("there is neither a segmentation nor a mask")
    if case.masks and (case.segmentation is not None or case.roles):
        problems.append("masks stand beside a segmentation or roles of one: give one form only")
    for name in case.pet:
        unit = cells.get(f"{name}_unit", pet_unit)
        if not unit:
            problems.append(
                f"{name} has no SUV scale: an image file does not tell its unit, so convert the PET"
                f" to SUV and state {name}_unit = SUV"
            )
        elif unit.casefold() not in _SUV:
            problems.append(f"{name} is in {unit!r}, not in SUV by body weight: convert it")
    for name, cell in cells.items():
        if name in _PATHS or name in case.pet or name.startswith("mask_"):
            problems += [
                f"the path of {name} is absolute, {part!r}: give it relative to the manifest"
                for part in map(str.strip, cell.split(SEPARATOR))
                if Path(part).is_absolute() or PureWindowsPath(part).drive
            ]
    return problems


def file_problems(case: CohortCase, row: Row) -> list[str]:
    """What the paths and headers of a case's files show."""
    problems: list[str] = []
    files = [("segmentation", case.segmentation)] if case.segmentation else []
    files += [(f"mask_{role}", path) for role, paths in case.masks.items() for path in paths]
    files += case.pet.items()
    ct = None
    if "ct" in row.cells:
        try:
            ct = ct_geometry(case.ct, case.series_uid)
        except InputError as error:
            problems.append(error.message)
    for what, path in files:
        try:
            geometry = read_geometry(path, what)
        except InputError as error:
            problems.append(error.message)
            continue
        if ct is not None and not boxes_overlap(ct, geometry):
            problems.append(
                f"{what} {path} does not overlap the CT: it spans {_span(geometry)}, the CT"
                f" {_span(ct)}"
            )
    return problems


def _span(geometry: Geometry) -> str:
    corners = geometry.corners_lps()
    low, high = corners.min(axis=0), corners.max(axis=0)
    return "LPS " + " x ".join(f"{a:.0f}..{b:.0f}" for a, b in zip(low, high, strict=True)) + " mm"


def cohort_problems(
    cases: Sequence[CohortCase], schema: LabelSchema | None, folds: int | None
) -> list[str]:
    """What is wrong between cases."""
    problems = []
    rows = Counter((case.patient, case.study) for case in cases if case.patient)
    for (patient, study), count in rows.items():
        if count > 1:
            name = f"patient {patient}, study {study}," if study else f"patient {patient}"
            problems.append(f"{name} is there {count} times")
    groups: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        groups[case.patient].add(case.group)
    problems += [
        f"patient {patient} is in several groups: {sorted(found)}"
        for patient, found in groups.items()
        if patient and len(found) > 1
    ]
    if schema is None or not cases:
        return problems
    units: dict[int | None, set[str]] = defaultdict(set)
    for case in cases:
        units[case.label].add(case.unit)
    counts = {name: len(units[index]) for index, name in enumerate(schema.class_names)}
    if sum(count > 0 for count in counts.values()) < 2:
        problems.append(f"fewer than two classes have cases: {counts}")
    problems += [
        f"the class {name} has {count} patients (or groups), fewer than the {folds} folds"
        for name, count in counts.items()
        if folds is not None and count < folds
    ]
    return problems


def model_problems(
    cases: Sequence[CohortCase], schema: LabelSchema | None, spec: ModelSpec
) -> list[str]:
    """What the model to come could not use."""
    problems = []
    if schema is not None and schema.class_names != spec.class_names:
        problems.append(
            f"the label schema has the classes {schema.class_names}, the model {spec.class_names}"
        )
    known = {rule.name for rule in spec.role_rules}
    required = {rule.name for rule in spec.role_rules if rule.required}
    for case in cases:
        unknown = sorted({*case.masks, *case.roles} - known)
        missing = sorted(required - set(case.masks)) if case.masks else []
        if unknown:
            problems.append(f"{case.case_id}: the model has no roles {unknown}")
        if missing:
            problems.append(f"{case.case_id}: the model needs masks of {missing}")
    return problems
