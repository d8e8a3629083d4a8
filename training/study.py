"""A study: teachers and students of every method, fold and seed, one resumable unit each.

A finished unit leaves one small JSON file with the logits of every test case; figures are made from
these alone, so a study can be run in parts, on several machines, and be evaluated at any time.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.student import Student

from .batches import crop_batches, whole_case
from .engine import Fitted, Objective, Optimisation, fit
from .evaluation.discrimination import macro_auc
from .evaluation.localisation import attention_mass, pointing_game
from .evaluation.results import write_json
from .folds import split_units
from .forward import Network, view_of
from .label_schema import SCHEMAS
from .losses import make_distillation
from .manifest import read_manifest
from .networks.teacher import Teacher, TeacherSpec
from .objectives import ModalityDropout, StudentObjective, TeacherEntry, TeacherObjective
from .prepare import Preparation, PreparedCase, prepare_cohort, prepare_simulated
from .study_configuration import StudyConfiguration

INTERNAL, EXTERNAL, SELECTION = "internal", "external", "selection"


@dataclass(frozen=True)
class Unit:
    """One student: of a method, trained with ``seed`` on all folds but ``fold``."""

    method: str
    seed: int
    fold: int

    @property
    def file_name(self) -> str:
        """Name of its result file."""
        stem = "-".join(self.method.lower().split())
        return f"{stem}_seed{self.seed}_fold{self.fold}.json"


@dataclass(frozen=True, eq=False)
class Part:
    """The cases of one fold: to train on, to select and calibrate on, to test on."""

    train: list[PreparedCase]
    selection: list[PreparedCase]
    test: list[PreparedCase]

    def where(self, wanted: Callable[[PreparedCase], bool]) -> Part:
        """The cases that are wanted."""
        lists = (self.train, self.selection, self.test)
        return Part(*([case for case in cases if wanted(case)] for cases in lists))


class Study:
    """The units of a configuration. ``work`` holds tensors, teachers and checkpoints; ``results``
    the finished units; ``device`` where networks are trained."""

    def __init__(
        self,
        configuration: StudyConfiguration,
        work: Path,
        results: Path,
        device: torch.device,
        workers: int = 2,
    ) -> None:
        self.configuration = configuration
        self.settings, self.spec = configuration.settings, configuration.spec
        self.work, self.results = work, results
        self.device, self.workers = device, workers

    def units(self, methods: Sequence[str] = ()) -> Iterator[Unit]:
        """All units, or those of some methods; the first seed and fold of every method first, so
        that a study that is stopped early has compared them all on the same patients."""
        chosen = methods or list(self.settings.methods)
        most = max(len(self.settings.methods[name].seeds) for name in chosen)
        for place in range(most):
            for fold in range(self.settings.folds):
                for name in chosen:
                    seeds = self.settings.methods[name].seeds
                    if place < len(seeds):
                        yield Unit(name, seeds[place], fold)

    @property
    def simulated(self) -> bool:
        """Whether the images are simulated."""
        return self.settings.simulated is not None

    @cached_property
    def internal(self) -> list[PreparedCase]:
        """Prepared cases of the internal cohort."""
        return self._prepared(INTERNAL, self.settings.doses.internal)

    @cached_property
    def external(self) -> list[PreparedCase]:
        """Prepared cases of the external cohort, none where there is no such cohort."""
        return self._prepared(EXTERNAL, self.settings.doses.external)

    def _prepared(self, which: str, dose_method: str) -> list[PreparedCase]:
        preparation = Preparation(
            self.spec,
            self.settings.seed,
            doses=self.settings.doses.photons,
            dose_method=dose_method,
        )
        cache = self.work / "cases"
        if self.settings.simulated is not None:
            count = getattr(self.settings.simulated, which)
            return prepare_simulated(preparation, which, range(count), cache, self.workers)
        assert self.settings.listed is not None  # the configuration has one of the two
        manifest = getattr(self.settings.listed, which)
        if manifest is None:
            return []
        cohort = read_manifest(
            self.configuration.folder / manifest,
            SCHEMAS[self.settings.listed.schema],
            folds=self.settings.folds if which == INTERNAL else None,
            spec=self.spec,
        )
        return prepare_cohort(preparation, cohort, cache, self.workers)

    def part(self, fold: int) -> Part:
        """The cases of one fold; no patient is on two sides."""
        cases, seed = self.internal, self.settings.seed
        patients = [case.patient for case in cases]
        labels = [case.label for case in cases]
        outer = split_units(patients, labels, self.settings.folds, seed)[fold]
        inner = split_units(
            [patients[n] for n in outer.train],
            [labels[n] for n in outer.train],
            self.settings.inner_parts,
            seed,
        )[0]
        return Part(
            train=[cases[outer.train[n]] for n in inner.train],
            selection=[cases[outer.train[n]] for n in inner.held_out],
            test=[cases[n] for n in outer.held_out],
        )

    def result_of(self, unit: Unit) -> dict[str, Any] | None:
        """A finished unit's document; None if there is none for this configuration."""
        path = self.results / "units" / unit.file_name
        if not path.exists():
            return None
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = document["digest"] == self.configuration.method_digest(unit.method)
        return document if same else None

    def teacher(self, name: str, fold: int) -> TeacherEntry:
        """A teacher of one fold, trained if it is not there yet."""
        settings = self.settings.teachers[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed + fold)
            network = Teacher(
                TeacherSpec(
                    settings.branches,
                    settings.swin,
                    settings.fused_channels,
                    dropout=settings.dropout,
                ),
                len(self.spec.classes),
            ).to(self.device)
        digest = self.configuration.digest()
        folder = self.work / "teachers" / f"{name}_fold{fold}_{digest}"
        weights = folder / "teacher.safetensors"
        if weights.exists():
            network.load_state_dict(load_file(weights))
        else:
            part = self.part(fold).where(lambda case: bool(network.branches_for(case.volumes)))
            names = tuple(dict.fromkeys(n for b in settings.branches.values() for n in b))
            objective = TeacherObjective(
                network, self.settings.loss, settings.dosed, settings.branch_dropout
            )
            fitted = self._fit(
                objective,
                part,
                names,
                settings.optimisation,
                folder,
                f"{name} teacher, fold {fold}",
            )
            logits = self._logits(network, part.test, names)
            auc = macro_auc(np.array([c.label for c in part.test]), np.array(list(logits.values())))
            document = {"selected_epoch": fitted.selected, "history": fitted.history}
            document |= {"test_macro_auc": auc, "n": len(part.test), "simulated": self.simulated}
            folder_of_results = self.results / "teachers"
            folder_of_results.mkdir(parents=True, exist_ok=True)
            write_json(folder_of_results / f"{name}_fold{fold}.json", document, indent=None)
            save_file(network.state_dict(), weights)
        return TeacherEntry(network.eval(), settings.dosed)

    def run(self, unit: Unit) -> dict[str, Any]:
        """The document of a unit, trained and measured if it is not there yet."""
        done = self.result_of(unit)
        if done is not None:
            return done
        began = time.monotonic()
        student, fitted = self._train(unit)
        part = self.part(unit.fold)
        use_onednn(student)
        document = {
            "digest": self.configuration.method_digest(unit.method),
            "simulated": self.simulated,
            "method": unit.method,
            "seed": unit.seed,
            "fold": unit.fold,
            "selected_epoch": fitted.selected,
            "minutes": round((time.monotonic() - began) / 60, 2),
            "logits": self._all_logits(student, part),
            "explanation": self._explanation(student, part),
        }
        (self.results / "units").mkdir(parents=True, exist_ok=True)
        write_json(self.results / "units" / unit.file_name, document, indent=None)
        return document

    def _train(self, unit: Unit) -> tuple[Student, Fitted]:
        method = self.settings.methods[unit.method]
        teachers = [self.teacher(name, unit.fold) for name in method.teachers]
        part = self.part(unit.fold)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(unit.seed * 1009 + unit.fold)
            spec = dataclasses.replace(self.spec.network, cbam=method.cbam)
            student = Student(self.spec.modality_names, len(self.spec.classes), spec)
            distillation = make_distillation(
                method.distillation,
                method.settings,
                spec.fused_channels,
                [t.network.spec.fused_channels for t in teachers],
                len(self.spec.classes),
            )
        objective = StudentObjective(
            student.to(self.device),
            distillation.to(self.device),
            teachers,
            self.settings.loss,
            ModalityDropout(method.modality_sets or self.settings.student.modality_sets),
        )
        digest = self.configuration.method_digest(unit.method)
        folder = self.work / "students" / f"{unit.file_name[:-5]}_{digest}"
        title = f"{unit.method}, seed {unit.seed}, fold {unit.fold}"
        optimisation = self.settings.student.optimisation
        fitted = self._fit(objective, part, ("ct",), optimisation, folder, title, unit.seed)
        return student, fitted

    def _fit(
        self,
        objective: Objective,
        part: Part,
        select_on: tuple[str, ...],
        how: Optimisation,
        folder: Path,
        title: str,
        seed: int = 0,
    ) -> Fitted:
        size = min(how.batch_size, len(part.train))
        labels = np.array([case.label for case in part.selection])

        def select() -> float:
            logits = self._logits(objective.network, part.selection, select_on)  # type: ignore[arg-type]
            return macro_auc(labels, np.array(list(logits.values())))

        return fit(
            objective,
            lambda rng: crop_batches(
                part.train, self.settings.crop, self.spec, size, rng, self.device
            ),
            select,
            how,
            len(part.train) // size,
            seed,
            folder,
            title,
        )

    def _logits(
        self,
        network: Network,
        cases: Sequence[PreparedCase],
        names: tuple[str, ...],
        photons: float | None = None,
    ) -> dict[str, list[float]]:
        """Patient -> logits over the whole case, with those of ``names`` that it has."""
        return {
            case.patient: [round(float(v), 5) for v in view.logits[0]]
            for case, view in self._views(network, cases, names, photons)
        }

    def _views(
        self,
        network: Network,
        cases: Sequence[PreparedCase],
        names: tuple[str, ...],
        photons: float | None = None,
    ) -> Iterator[tuple[PreparedCase, Any]]:
        network.eval()
        with torch.inference_mode():
            for case in cases:
                batch = whole_case(case, self.spec, self.device, photons)
                yield case, view_of(network, batch, [batch.names(0, names)], dosed=True)

    def _all_logits(self, student: Student, part: Part) -> dict[str, dict[str, list[float]]]:
        found = {SELECTION: self._logits(student, part.selection, ("ct",))}
        for key in self.settings.evaluate:
            names = tuple(key.split("+"))
            complete = [case for case in part.test if set(names) <= set(case.volumes)]
            found[f"{INTERNAL} {key}"] = self._logits(student, complete, names)
        if self.external:
            found[EXTERNAL] = self._logits(student, self.external, ("ct",))
        for photons in self.settings.doses.photons if self.external else ():
            logits = self._logits(student, self.external, ("ct",), photons)
            found[f"{EXTERNAL} {photons!r}"] = logits
        return found

    def _explanation(self, student: Student, part: Part) -> dict[str, dict[str, float]]:
        """How well the CT-only explanation of the true class points at the responsible region.

        The map is the exact contribution of every cell, measured from the mean of the selection
        cases, in the region of interest. Empty for cases whose truth is not known."""
        pooled = [v.pooled[0] for _, v in self._views(student, part.selection, ("ct",))]
        reference = torch.stack(pooled).mean(dim=0)
        weight = student.head.weight.detach()
        spacing = [
            s * n
            for s, n in zip(
                self.spec.grid.spacing_mm[::-1], self.spec.network.total_stride, strict=True
            )
        ]
        mass, hit = {}, {}
        known = [case for case in part.test if case.responsible is not None]
        for case, view in self._views(student, known, ("ct",)):
            others = [c for c in range(len(weight)) if c != case.label]
            contrast = weight[case.label] - weight[others].mean(dim=0)
            density = torch.einsum(
                "c,ckji->kji", contrast, view.features[0] - reference[:, None, None, None]
            )
            share = (density * view.weights[0, 0]).cpu().numpy()
            truth = torch.tensor(np.asarray(case.responsible, dtype=np.float32))[None, None]
            region = student.cells(truth)[0, 0].numpy() > 0.5
            domain = view.weights[0, 0].cpu().numpy() > 0
            if region.any():
                mass[case.patient] = round(attention_mass(share, region & domain, domain=domain), 5)
                hit[case.patient] = pointing_game(
                    share, region & domain, (spacing[0], spacing[1], spacing[2]), domain=domain
                )
        return {"attention mass": mass, "pointing game": hit}


def run_units(study: Study, units: Sequence[Unit], minutes: float | None = None) -> int:
    """Run what is missing, in order, until the time is up; returns how many are still missing."""
    began = time.monotonic()
    for unit in units:
        if study.result_of(unit) is None:
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                break
            study.run(unit)
    return sum(study.result_of(unit) is None for unit in units)
