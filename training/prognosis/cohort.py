"""Patients of a prognosis study, whatever they were read from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from REACTKDLib.checks import InputStatistics
from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.types import (
    CLINICAL,
    CT,
    RADIOMICS,
    ClinicalSchema,
    PatientArrays,
)
from REACTKDLib.types import frozen_mapping

__all__ = ["UNKNOWN", "PrognosisCase", "PrognosisCohort", "modalities_of", "named"]

#: Label of a patient whose outcome a method must not see.
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class PrognosisCase:
    """One patient: what is known, and what happened.

    ``label`` : 1 where the event happened, 0 where it did not, :data:`UNKNOWN` for a method that
    predicts. ``group`` : a centre or another unit that no split may part; "" is the patient alone.
    ``statistics`` of the CT, for what a model package says of its training; None without one.
    ``lesion`` : how much of each voxel of the CT is lesion, (k, j, i), 0..1; only a training may
    look at it, None where nobody drew any.
    """

    patient: str
    label: int
    arrays: PatientArrays
    group: str = ""
    statistics: InputStatistics | None = None
    lesion: np.ndarray | None = None

    @property
    def unit(self) -> str:
        """What must stay on one side of every split."""
        return f"group {self.group}" if self.group else f"patient {self.patient}"

    def blind(self) -> PrognosisCase:
        """The case without its outcome, and without what else only a training may see."""
        return dataclasses.replace(self, label=UNKNOWN, lesion=None)


@dataclass(frozen=True, eq=False)
class PrognosisCohort:
    """Patients with an outcome.

    ``schema`` describes :attr:`PatientArrays.clinical` (None: nobody has any), ``radiomics`` names
    the features of :attr:`PatientArrays.radiomics`; ``event`` is what label 1 means; ``notes`` are
    facts about the data for the report, name -> text.

    Raises
    ------
    InputError : no patient, a patient twice, a label that is neither 0 nor 1, one outcome alone, or
        arrays that do not fit schema and names.
    """

    name: str
    cases: tuple[PrognosisCase, ...]
    event: str
    simulated: bool
    schema: ClinicalSchema | None = None
    radiomics: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", frozen_mapping(self.notes))
        patients = [case.patient for case in self.cases]
        if len(set(patients)) < len(patients):
            twice = sorted({p for p in patients if patients.count(p) > 1})
            raise InputError(
                f"{self.name}: {twice[0]!r} is there more than once.", "Keep one row per patient."
            )
        if {case.label for case in self.cases} != {0, 1}:
            raise InputError(
                f"{self.name} has the outcomes {sorted({c.label for c in self.cases})}.",
                "Give patients with the event (1) and without it (0), and no others.",
            )
        wanted = {
            CLINICAL: len(self.schema.variables) if self.schema else 0,
            RADIOMICS: len(self.radiomics),
        }
        for case in self.cases:
            for what, count in wanted.items():
                row = getattr(case.arrays, what)
                if row is not None and row.shape != (count,):
                    raise InputError(
                        f"{case.patient!r} has {what} values of the shape {row.shape}, not"
                        f" ({count},).",
                        "Read all patients with one schema and the same radiomics settings.",
                    )

    @property
    def labels(self) -> tuple[int, ...]:
        """0 or 1 for each patient."""
        return tuple(case.label for case in self.cases)

    @property
    def units(self) -> tuple[str, ...]:
        """What of each patient must stay on one side of every split."""
        return tuple(case.unit for case in self.cases)

    @property
    def fingerprint(self) -> str:
        """Digest of all patients, outcomes and values: results of other data are not these."""
        digest = hashlib.sha256()
        names = (*(self.schema.names if self.schema else ()), *self.radiomics)
        digest.update("\n".join((self.event, *names)).encode())
        for case in self.cases:
            digest.update(f"\n{case.patient}|{case.group}|{case.label}|{case.arrays.text}".encode())
            for what in (CT, "roi", CLINICAL, RADIOMICS):
                array = getattr(case.arrays, what)
                digest.update(what.encode())
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


def modalities_of(arrays: PatientArrays) -> tuple[str, ...]:
    """The modalities that a patient has; text counts as clinical."""
    there = {
        CT: arrays.ct is not None,
        CLINICAL: arrays.clinical is not None or bool(arrays.text),
        RADIOMICS: arrays.radiomics is not None,
    }
    return tuple(name for name, has in there.items() if has)


def named(cases: Sequence[PrognosisCase], positions: Sequence[int]) -> list[PrognosisCase]:
    """The cases at some positions."""
    return [cases[n] for n in positions]
