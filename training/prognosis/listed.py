"""Patients of a prognosis manifest, and those of the simulated cohort, with images and radiomics.

A prognosis manifest is a cohort manifest (:mod:`training.manifest`: CSV or JSON, paths relative to
its folder) in which every modality may be missing: a row without ``ct`` has no image, an empty cell
``clinical_<variable>`` is a missing value. A column ``text`` holds free clinical text. Numbers are
in the units of the schema, or say theirs (``clinical_albumin [g/dl]``).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from REACTKDLib.checks import InputStatistics
from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.prognosis.clinical_arrays import to_array
from REACTKDLib.prognosis.clinical_input import check_entries
from REACTKDLib.prognosis.types import ClinicalRecord, ClinicalSchema, PatientArrays
from REACTKDLib.read import read_study
from REACTKDLib.types import ClassInfo, Study

from ..label_schema import LabelSchema, Written
from ..manifest import Cohort, CohortCase, case_of_row, study_files
from ..manifest_check import case_problems, cohort_problems, column_problems, file_problems
from ..manifest_file import ManifestError, Row, Table, read_rows
from .cohort import PrognosisCase, PrognosisCohort
from .features import measure_radiomics, radiomics_of
from .settings import ListedPatients, SimulatedPatients
from .simulated import EVENT, simulate_outcome
from .simulated_cases import ImagesOf, simulated_arrays
from .simulated_variables import simulated_schema

__all__ = ["listed_cohort", "read_prognosis_manifest", "read_spec", "simulated_cohort"]

#: What a label of the event, and of none, may be written as in any manifest.
_LABELS: dict[str, tuple[Written, ...]] = {
    "none": ("no", "false", 0),
    "event": ("yes", "true", 1),
}
_PREFIX = "clinical_"


def read_spec(folder: Path, name: str) -> ModelSpec:
    """The model specification of a file's key ``spec``.

    Raises
    ------
    OptionError : the file cannot be read. ModelPackageError : the specification is not valid.
    """
    path = folder / name
    try:
        section = json.loads(path.read_text(encoding="utf-8"))["spec"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path} has no model specification: {error}.", 'Give a JSON file with the key "spec".'
        ) from error
    return spec_from_section(section)


def read_prognosis_manifest(
    path: Path, labels: LabelSchema, schema: ClinicalSchema | None = None
) -> tuple[tuple[CohortCase, ...], tuple[ClinicalRecord, ...], tuple[bool, ...]]:
    """Cases, clinical records, and whether each case has images.

    Raises
    ------
    ManifestError : lists every problem, as :func:`training.manifest.read_manifest`; and clinical
        values that :func:`REACTKDLib.prognosis.clinical_input.check_entries` refuses.
    """
    table, problems = read_rows(path)
    kept = tuple(name for name in table.columns if name != "text")
    columns = (*kept, *(() if "ct" in kept else ("ct",)))  # nobody needs an image
    problems += column_problems(Table(table.rows, columns, table.pet_unit), labelled=True)
    cases, records, imaged = [], [], []
    for row in table.rows:
        case, has_ct = case_of_row(row, path.parent, labels), "ct" in row.cells
        found = _case_problems(case, row, table.pet_unit, labels, has_ct)
        record, wrong = _record(row, schema)
        who = f"{row.where} ({case.case_id})" if case.patient else row.where
        problems += [f"{who}: {problem}" for problem in (*found, *wrong)]
        cases.append(case)
        records.append(record)
        imaged.append(has_ct)
    problems += cohort_problems(cases, labels, None)
    if problems:
        raise ManifestError(path, problems)
    return tuple(cases), tuple(records), tuple(imaged)


def _case_problems(
    case: CohortCase, row: Row, pet_unit: str, labels: LabelSchema, has_ct: bool
) -> list[str]:
    found = case_problems(case, row, pet_unit, labels)
    if has_ct:
        return [*found, *file_problems(case, row)]
    images = [
        n for n in row.cells if n in ("segmentation", "series_uid") or n[:5] in ("pet_", "mask_")
    ]
    absent = ("the ct is missing", "there is neither a segmentation nor a mask")
    beside = [f"there is {name} without a ct" for name in images]
    return [*(p for p in found if p not in absent), *beside]


def _record(row: Row, schema: ClinicalSchema | None) -> tuple[ClinicalRecord, list[str]]:
    """The clinical record of a row, and what of it is refused."""
    text = row.cells.get("text", "")
    cells = {n.removeprefix(_PREFIX): c for n, c in row.cells.items() if n.startswith(_PREFIX)}
    if schema is None:
        return ClinicalRecord(text=text), [f"{_PREFIX}{n}: this study has no schema" for n in cells]
    entries = [(name, cell, "") for name, cell in cells.items()]
    checked = check_entries(schema, entries)
    return replace(checked.record, text=text), list(checked.refused.values())


def listed_cohort(
    settings: ListedPatients,
    folder: Path,
    work: Path,
    schema: ClinicalSchema | None = None,
    seed: int = 0,
    workers: int = 2,
) -> PrognosisCohort:
    """The patients of a manifest. Images and radiomics are kept in ``work``.

    Parameters
    ----------
    folder : that paths of ``settings`` start from.
    schema : of the clinical columns, where there are any.

    Raises
    ------
    ManifestError, OptionError, InputError : manifest, settings or images cannot be used.
    """
    written = {name: (*v, *settings.labels.get(name, ())) for name, v in _LABELS.items()}
    classes = (ClassInfo("none", f"no {settings.event}"), ClassInfo("event", settings.event))
    labels = LabelSchema("prognosis", classes, written)
    path = folder / settings.manifest
    cases, records, imaged = read_prognosis_manifest(path, labels, schema)
    with_ct = Cohort(path.stem, tuple(c for c, i in zip(cases, imaged, strict=True) if i), labels)
    spec = read_spec(folder, settings.spec) if settings.spec else None
    images: dict[str, PatientArrays] = {}
    beside: dict[str, tuple[InputStatistics, np.ndarray]] = {}
    if spec is not None and with_ct.cases:
        from ..prepare import Preparation, prepare_cohort

        prepared = prepare_cohort(Preparation(spec, seed), with_ct, work / "cases", workers)
        for case, there in zip(with_ct.cases, prepared, strict=True):
            images[case.case_id] = _images(there)
            beside[case.case_id] = (there.statistics, there.lesion)
    names: tuple[str, ...] = ()
    values: dict[str, np.ndarray] = {}
    if settings.radiomics is not None:
        if spec is None:
            raise OptionError(
                "Radiomics need a model specification, which names the roles of segments.",
                'Give "spec".',
            )
        readers = {_key(c): partial(_read, c, spec) for c in with_ct.cases}
        radiomics = radiomics_of(settings.radiomics, folder)
        names, table = measure_radiomics(
            readers, radiomics, settings.roles, work / "radiomics", workers
        )
        values = {c.case_id: table[_key(c)] for c in with_ct.cases}
    patients = []
    for case, record in zip(cases, records, strict=True):
        image = images.get(case.case_id, PatientArrays())
        clinical = to_array(schema, record) if schema and record.values else None
        arrays = PatientArrays(
            clinical, values.get(case.case_id), image.ct, image.roi, record.text
        )  # fmt: skip
        assert case.label is not None  # read with a label schema
        # Studies of one patient stay together as a patient's cases do.
        group = case.group or (case.patient if case.study else "")
        more = beside.get(case.case_id, (None, None))
        patients.append(PrognosisCase(case.case_id, case.label, arrays, group, *more))
    return PrognosisCohort(
        path.stem,
        tuple(patients),
        settings.event,
        simulated=False,
        schema=schema,
        radiomics=names,
        notes={"patients with CT": str(len(with_ct.cases))},
    )


def _images(prepared: Any) -> PatientArrays:
    return PatientArrays(
        ct=prepared.volumes["ct"].astype(np.float32), roi=prepared.roi.astype(np.float32)
    )


def _read(case: CohortCase, spec: ModelSpec) -> Study:
    return read_study(study_files(case), spec.role_rules)


def _key(case: CohortCase) -> str:
    """A file name for a case, with a digest of its files: what has changed is measured anew."""
    files = study_files(case)
    paths = [files.ct, *files.segmentation]
    stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    digest = hashlib.sha256(repr((case.case_id, stamps)).encode()).hexdigest()[:8]
    return f"{case.case_id.replace('/', '_')}_{digest}"


def simulated_cohort(
    settings: SimulatedPatients, folder: Path, work: Path, workers: int = 2
) -> PrognosisCohort:
    """Simulated patients of the internal cohort with clinical variables and outcome of
    :mod:`training.prognosis.simulated`; images and radiomics where the settings ask for them.

    Raises
    ------
    OptionError, InputError : the settings cannot be used, or one outcome alone.
    """
    indices = range(settings.count)
    outcomes = [simulate_outcome(index, settings.seed) for index in indices]
    made = ImagesOf(
        settings.seed,
        None if settings.spec is None else read_spec(folder, settings.spec),
        None if settings.radiomics is None else radiomics_of(settings.radiomics, folder),
        settings.roles,
    )
    names, images = simulated_arrays(indices, made, work / "cases", workers)
    schema = simulated_schema()
    cases = tuple(
        replace(
            case,
            label=outcome.label,
            arrays=replace(case.arrays, clinical=to_array(schema, outcome.record)),
        )
        for case, outcome in zip(images, outcomes, strict=True)
    )
    return PrognosisCohort(
        f"simulated internal, seed {settings.seed}",
        cases,
        EVENT,
        simulated=True,
        schema=schema,
        radiomics=names,
    )
