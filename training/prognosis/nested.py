"""Nested cross-validation: outer folds test, what is left trains and selects inside.

Each patient is tested once in every repeat. A method gets the outer fold's patients to predict
them, without their outcomes; scaling, selection and early stopping see the others alone. One unit
is one method, seed and fold, and leaves one small JSON file: a study can be run in parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from REACTKDLib.errors import InputError, OptionError

from ..evaluation.results import write_json
from ..folds import split_units
from .cohort import PrognosisCase, PrognosisCohort, named
from .methods import Context, Method, make_method
from .settings import PrognosisConfiguration, file_stem

__all__ = ["NestedSplit", "NestedStudy", "PrognosisUnit", "nested_split", "run_fold"]

OUTCOMES = ("no event", "event")


@dataclass(frozen=True)
class NestedSplit:
    """Positions of the patients that train, select and test; ascending."""

    train: tuple[int, ...]
    selection: tuple[int, ...]
    test: tuple[int, ...]


def nested_split(
    units: Sequence[str],
    labels: Sequence[int],
    folds: int,
    inner_parts: int,
    seed: int,
    fold: int,
) -> NestedSplit:
    """The split of one fold; ``fold`` counts through the repeats, ``folds`` each, whose outer
    splits have the seeds ``seed``, ``seed + 1``, ... Of the patients that do not test, one in
    ``inner_parts`` selects. Outcomes are spread evenly, units stay whole.

    Raises
    ------
    OptionError : as :func:`training.folds.split_units`.
    """
    repeat, place = divmod(fold, folds)
    outer = split_units(units, labels, folds, seed + repeat, OUTCOMES)[place]
    inner = split_units(
        [units[n] for n in outer.train],
        [labels[n] for n in outer.train],
        inner_parts,
        seed + repeat,
        OUTCOMES,
    )[0]
    return NestedSplit(
        tuple(outer.train[n] for n in inner.train),
        tuple(outer.train[n] for n in inner.held_out),
        outer.held_out,
    )


def run_fold(
    method: Method, cases: Sequence[PrognosisCase], split: NestedSplit, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Patient -> log odds of the event, of the patients that test; and what was chosen inside.

    Raises
    ------
    InputError : the method gives another number of log odds, or some that are not finite.
    """
    fitted = method.fit(named(cases, split.train), named(cases, split.selection), seed)
    tested = [case.blind() for case in named(cases, split.test)]
    logits = np.asarray(fitted.predict_logit(tested), dtype=np.float64)
    if logits.shape != (len(tested),) or not np.isfinite(logits).all():
        raise InputError(
            f"A method gave log odds of the shape {logits.shape}, {int(np.isfinite(logits).sum())}"
            f" of them finite, for {len(tested)} patients.",
            "Repair the method: one finite number for each patient.",
        )
    table = {c.patient: round(float(v), 6) for c, v in zip(tested, logits, strict=True)}
    return table, dict(fitted.details)


@dataclass(frozen=True)
class PrognosisUnit:
    """One training: of a method, with a seed, on all outer folds but one."""

    method: str
    seed: int
    fold: int

    @property
    def file_name(self) -> str:
        """Name of its result file."""
        return f"{file_stem(self.method)}_seed{self.seed}_fold{self.fold}.json"


class NestedStudy:
    """The units of a configuration on a cohort.

    ``work`` keeps what must not be published; ``results`` what may be. Log odds of single patients
    go into ``results`` only where the cohort is simulated.
    """

    def __init__(
        self,
        configuration: PrognosisConfiguration,
        cohort: PrognosisCohort,
        work: Path,
        results: Path,
        device: str = "cpu",
    ) -> None:
        self.configuration, self.cohort = configuration, cohort
        self.settings = configuration.settings
        self.work, self.results = work, results
        self.kept = (results if cohort.simulated else work / self.settings.name) / "units"
        context = Context(
            cohort.schema,
            cohort.radiomics,
            self.settings.scaling,
            self.settings.inner_parts,
            device,
        )
        self.methods = {
            name: make_method(m.kind, configuration.method_settings(name), context)
            for name, m in self.settings.methods.items()
        }
        self._digest = {
            name: configuration.method_digest(name, cohort.fingerprint) for name in self.methods
        }

    def units(self, methods: Sequence[str] = ()) -> Iterator[PrognosisUnit]:
        """All units, or those of some methods; the first seed of every method first.

        Raises
        ------
        OptionError : no such method.
        """
        if unknown := sorted(set(methods) - set(self.methods)):
            raise OptionError(
                f"The study has no methods {unknown}.", f"Choose from {list(self.methods)}."
            )
        chosen = list(methods) or list(self.methods)
        seeds = {name: self.settings.methods[name].seeds for name in chosen}
        for place in range(max(map(len, seeds.values()))):
            for fold in range(self.settings.folds * self.settings.repeats):
                for name in chosen:
                    if place < len(seeds[name]):
                        yield PrognosisUnit(name, seeds[name][place], fold)

    def split(self, fold: int) -> NestedSplit:
        """The patients of one fold; see :func:`nested_split`."""
        s = self.settings
        cohort = self.cohort
        return nested_split(cohort.units, cohort.labels, s.folds, s.inner_parts, s.seed, fold)

    def result_of(self, unit: PrognosisUnit) -> dict[str, Any] | None:
        """A finished unit's document; None if there is none for this configuration and data."""
        path = self.kept / unit.file_name
        if not path.exists():
            return None
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document if document["digest"] == self._digest[unit.method] else None

    def run(self, unit: PrognosisUnit) -> dict[str, Any]:
        """The document of a unit, made if it is not there yet."""
        if (done := self.result_of(unit)) is not None:
            return done
        split = self.split(unit.fold)
        logits, details = run_fold(self.methods[unit.method], self.cohort.cases, split, unit.seed)
        document = {
            "digest": self._digest[unit.method],
            "simulated": self.cohort.simulated,
            "method": unit.method,
            "seed": unit.seed,
            "fold": unit.fold,
            "patients": {k: len(v) for k, v in vars(split).items()},
            "details": details,
            "logits": logits,
        }
        self.kept.mkdir(parents=True, exist_ok=True)
        write_json(self.kept / unit.file_name, document, indent=None)
        return document

    def write_folds(self) -> Path:
        """Write which patient tests in which fold, beside the units; the file's path."""
        patients = [case.patient for case in self.cohort.cases]
        count = self.settings.folds * self.settings.repeats
        splits = {str(fold): self.split(fold) for fold in range(count)}
        document = {
            "seed": self.settings.seed,
            "simulated": self.cohort.simulated,
            "folds": {
                fold: {k: [patients[n] for n in v] for k, v in vars(split).items()}
                for fold, split in splits.items()
            },
        }
        path = self.kept.parent / "folds.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, document, indent=None)
        return path

    def runs(self) -> dict[str, np.ndarray]:
        """Method -> probabilities of the event (runs, patients, 2), in the order of the cohort.

        A run is a seed and a repeat whose folds are all finished: every patient was tested once, by
        a model that did not know him. Methods without one are not in it.
        """
        place = {case.patient: n for n, case in enumerate(self.cohort.cases)}
        found = {}
        for name in self.methods:
            rows = []
            for seed, repeat in self.run_names(name):
                logits = np.full(len(place), np.nan)
                for document in self._documents(name, seed, repeat):
                    for patient, value in document["logits"].items():
                        logits[place[patient]] = value
                risk = 1 / (1 + np.exp(-logits))
                rows.append(np.stack([1 - risk, risk], axis=1))
            if rows:
                found[name] = np.array(rows)
        return found

    def run_names(self, method: str) -> list[tuple[int, int]]:
        """(seed, repeat) of the finished runs of a method."""
        return [
            (seed, repeat)
            for seed in self.settings.methods[method].seeds
            for repeat in range(self.settings.repeats)
            if len(self._documents(method, seed, repeat)) == self.settings.folds
        ]

    def _documents(self, method: str, seed: int, repeat: int) -> list[dict[str, Any]]:
        first = repeat * self.settings.folds
        units = (PrognosisUnit(method, seed, first + n) for n in range(self.settings.folds))
        return [document for unit in units if (document := self.result_of(unit)) is not None]
