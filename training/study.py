"""A study: teachers and students of every method, fold and seed, one resumable unit each.

A finished unit leaves one small JSON file with the logits of every test case; figures are made from
these alone, so a study can be run in parts, on several machines, and be evaluated at any time.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.student import Student

from .answers import Answers, TeacherEntry, answers_of
from .baselines import feature_matrix, logistic_logits, modalities_of
from .batches import crop_batches
from .engine import Fitted, Objective, Optimisation, fit
from .evaluation.calibration import cautious_temperature
from .evaluation.discrimination import macro_auc, macro_auc_interval
from .evaluation.results import write_json
from .faithfulness import faithfulness_scores
from .forward import AnyStudent, Network
from .losses import make_distillation
from .measure import Table, explain_tests, logits_by_modalities, logits_of, mean_pooled, rounded
from .networks.lora import LoraSpec, merge_lora
from .networks.normalised import fold_projections, normalise_projections
from .networks.swin_student import SwinStudent, SwinStudentSpec
from .networks.teacher import Teacher, TeacherSpec
from .objectives import ModalityDropout, StudentObjective, TeacherObjective
from .prepare import PreparedCase
from .pretrained_encoder import load_encoder
from .processes import agreed, first_writes
from .segmentation_pretraining import pretrain_encoder
from .study_cases import EXTERNAL, INTERNAL, SELECTION, Part, StudyCases
from .study_configuration import LoraSettings, StudyConfiguration

WEIGHTS = "student.safetensors"


@dataclass(frozen=True)
class Unit:
    """One student: of a method, trained with ``seed`` on all folds but ``fold``."""

    method: str
    seed: int
    fold: int

    @property
    def file_name(self) -> str:
        """Name of its result file."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.method.lower()).strip("-")
        return f"{stem}_seed{self.seed}_fold{self.fold}.json"


class Study(StudyCases):
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
        super().__init__(configuration, work, workers)
        self.results, self.device = results, device

    def units(self, methods: Sequence[str] = ()) -> Iterator[Unit]:
        """All units, or those of some methods; the first seed and fold of every method first, so
        that a study that is stopped early has compared them all on the same patients."""
        seeds_of = self.settings.seeds
        chosen = methods or list(seeds_of)
        most = max(len(seeds_of[name]) for name in chosen)
        for place in range(most):
            for fold in self.settings.fold_numbers:
                for name in chosen:
                    if place < len(seeds_of[name]):
                        yield Unit(name, seeds_of[name][place], fold)

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
        folder = self._teacher_folder(name, fold)
        weights, kept = folder / "teacher.safetensors", folder / "teacher.json"
        if agreed(weights.exists()):
            network.load_state_dict(load_file(weights))
            temperature = float(json.loads(kept.read_text(encoding="utf-8"))["temperature"])
            return TeacherEntry(network.eval(), settings.dosed, temperature)
        if self.settings.normalise:
            normalise_projections(network)
        part = self.part(fold).where(lambda case: bool(network.branches_for(case.volumes)))
        names = network.modalities_of(settings.branches)
        objective = TeacherObjective(
            network, self.settings.loss, settings.dosed, settings.branch_dropout, settings.cells
        )
        title = f"{name} teacher, fold {fold}"
        fitted = self._fit(objective, part, names, settings.optimisation, folder, title)
        fold_projections(network)
        labels, logits = self._tested(network, part.selection, names)
        temperature = cautious_temperature(labels, logits)
        labels, logits = self._tested(network, part.test, names)
        document = {
            "selected_epoch": fitted.selected,
            "history": fitted.history,
            "temperature": temperature,
            "test_macro_auc": vars(macro_auc_interval(labels, logits, self.settings.seed)),
            "simulated": self.simulated,
        }

        def write() -> None:
            folder_of_results = self.results / "teachers"
            folder_of_results.mkdir(parents=True, exist_ok=True)
            write_json(folder_of_results / f"{name}_fold{fold}.json", document, indent=None)
            write_json(kept, document)
            save_file(network.state_dict(), weights)

        first_writes(write)
        return TeacherEntry(network.eval(), settings.dosed, temperature)

    def _tested(
        self, network: Network, cases: Sequence[PreparedCase], names: tuple[str, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels (cases,) and logits (cases, classes)."""
        logits = self._logits(network, cases, names)
        return np.array([c.label for c in cases]), np.array([logits[c.patient] for c in cases])

    def answers(self, name: str, fold: int) -> Answers:
        """What a teacher of one fold says of the fold's training cases."""
        kept = self._teacher_folder(name, fold) / "answers.safetensors"
        train = self.part(fold).train
        return answers_of(self.teacher(name, fold), train, self.spec, self.device, kept)

    def _teacher_folder(self, name: str, fold: int) -> Path:
        return (
            self.work / "teachers" / f"{name}_fold{fold}_{self.configuration.teacher_digest(name)}"
        )

    def encoder(self, fold: int) -> Path | None:
        """File of the CT encoder that students of a fold begin with, pretrained if it is not there
        yet; None in a study without pretraining."""
        how = self.settings.pretraining
        if how is None:
            return None
        name = "listed" if how.manifest is not None else f"fold{fold}"
        folder = self.work / "encoders"
        kept = folder / f"{name}_{self.configuration.pretraining_digest()}.safetensors"
        if not agreed(kept.exists()):
            cases = self.part(fold).train if how.manifest is None else self.unlabelled(how.manifest)
            folder.mkdir(parents=True, exist_ok=True)
            result = pretrain_encoder(
                cases, how.segmentation, self.spec, self.settings.seed, folder, self.device
            )
            first_writes(lambda: result.save_encoder(kept))
        return kept

    def run(self, unit: Unit) -> dict[str, Any]:
        """The document of a unit, trained and measured if it is not there yet."""
        if agreed((done := self.result_of(unit)) is not None):
            assert done is not None  # process 0 has written it before any goes on
            return done
        if unit.method in self.settings.baselines:
            document = self._baseline(unit)
        else:
            document = self._student(unit)
        document |= {
            "digest": self.configuration.method_digest(unit.method),
            "simulated": self.simulated,
            "method": unit.method,
            "seed": unit.seed,
            "fold": unit.fold,
        }
        path = self.results / "units" / unit.file_name

        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, document, indent=None)

        first_writes(write)
        return document

    def _baseline(self, unit: Unit) -> dict[str, Any]:
        """Logits of a logistic regression, under the modalities that its features need."""
        names = self.settings.baselines[unit.method]
        part = self.part(unit.fold)
        key = modalities_of(names, self.spec.modality_names)
        rows = {
            which: feature_matrix(
                {c.patient: self.lesion_features[c.patient] for c in cases}, names
            )
            for which, cases in vars(part).items()
        }
        labels = np.array([case.label for case in part.train])
        classes = len(self.spec.classes)

        def table(which: str) -> Table:
            logits = logistic_logits(rows["train"], labels, rows[which], classes)
            cases = vars(part)[which]
            return {c.patient: rounded(row) for c, row in zip(cases, logits, strict=True)}

        return {"logits": {SELECTION: table("selection"), f"{INTERNAL} {key}": table("test")}}

    def _student(self, unit: Unit) -> dict[str, Any]:
        began = time.monotonic()
        student, fitted = self._train(unit)
        part = self.part(unit.fold)
        reference = mean_pooled(student, part.selection, self.spec, self.device)
        pooled, explanation = explain_tests(student, part.test, reference, self.spec, self.device)
        # The first seed's alone are drawn and tested for faithfulness: files and time stay small.
        first = unit.seed == self.settings.methods[unit.method].seeds[0]
        if first:
            explanation |= faithfulness_scores(
                student,
                part.test[: self.settings.faithful_cases],
                reference,
                self.spec,
                self.device,
                self.settings.seed,
            )
        return {
            "selected_epoch": fitted.selected,
            "minutes": round((time.monotonic() - began) / 60, 2),
            "logits": self._all_logits(student, part),
            "pooled": pooled if first else {},
            "explanation": explanation,
        }

    def trained(self, unit: Unit) -> AnyStudent | None:
        """A finished unit's student, if ``work`` still has its weights."""
        weights = self._student_folder(unit) / WEIGHTS
        if not weights.exists():
            return None
        student = self._new_student(unit)
        if isinstance(student, SwinStudent):
            merge_lora(student)
        student.load_state_dict(load_file(weights))
        use_onednn(student)
        return student.eval()

    def _student_folder(self, unit: Unit) -> Path:
        digest = self.configuration.method_digest(unit.method)
        return self.work / "students" / f"{unit.file_name[:-5]}_{digest}"

    def _new_student(self, unit: Unit) -> AnyStudent:
        """The student of a unit before its training."""
        method = self.settings.methods[unit.method]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(unit.seed * 1009 + unit.fold)
            if method.lora is not None:
                return self._lora_student(method.lora, unit.fold)
            spec = dataclasses.replace(self.spec.network, cbam=method.cbam)
            student = Student(self.spec.modality_names, len(self.spec.classes), spec)
        if (encoder := self.encoder(unit.fold)) is not None:
            load_encoder(student, encoder, self.spec)
        return student.to(self.device)

    def _lora_student(self, lora: LoraSettings, fold: int) -> SwinStudent:
        network = self.spec.network
        student = SwinStudent(
            self.spec.modality_names,
            len(self.spec.classes),
            SwinStudentSpec(
                self.settings.teachers[lora.teacher].swin,
                network.fused_channels,
                network.attention_ratio,
                network.attention_kernel,
                network.dropout,
            ),
        )
        teacher = self.teacher(lora.teacher, fold).network
        student.load_encoder("ct", teacher.encoders[lora.branch].state_dict())
        student.freeze_with_lora(LoraSpec(lora.rank, lora.alpha), ["ct"])
        return student.to(self.device)

    def _train(self, unit: Unit) -> tuple[AnyStudent, Fitted]:
        method = self.settings.methods[unit.method]
        teachers = [self.answers(name, unit.fold) for name in method.teachers]
        part = self.part(unit.fold)
        student = self._new_student(unit)
        if self.settings.normalise:
            normalise_projections(student)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(unit.seed * 1009 + unit.fold + 1)
            distillation = make_distillation(
                method.distillation,
                method.settings,
                student.head.in_features,
                [t.channels for t in teachers],
                len(self.spec.classes),
            )
        objective = StudentObjective(
            student,
            distillation.to(self.device),
            teachers,
            self.settings.loss,
            ModalityDropout(method.modality_sets or self.settings.student.modality_sets),
            method.cells,
        )
        folder = self._student_folder(unit)
        title = f"{unit.method}, seed {unit.seed}, fold {unit.fold}"
        optimisation = self.settings.student.optimisation
        fitted = self._fit(objective, part, ("ct",), optimisation, folder, title, unit.seed)
        fold_projections(student)
        if isinstance(student, SwinStudent):
            merge_lora(student)
        use_onednn(student)
        first_writes(lambda: save_file(student.state_dict(), folder / WEIGHTS))
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

        def select() -> float:
            return macro_auc(*self._tested(objective.network, part.selection, select_on))  # type: ignore[arg-type]

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
    ) -> Table:
        return logits_of(network, cases, names, self.spec, self.device, photons)

    def _all_logits(self, student: AnyStudent, part: Part) -> dict[str, Table]:
        found = {SELECTION: self._logits(student, part.selection, ("ct",))}
        sets = [tuple(key.split("+")) for key in self.settings.evaluate]
        by_set = logits_by_modalities(student, part.test, sets, self.spec, self.device)
        found |= {f"{INTERNAL} {'+'.join(names)}": table for names, table in by_set.items()}
        if self.external:
            found[EXTERNAL] = self._logits(student, self.external, ("ct",))
        for photons in self.settings.doses.photons if self.external else ():
            logits = self._logits(student, self.external, ("ct",), photons)
            found[f"{EXTERNAL} {photons!r}"] = logits
        return found


def run_units(study: Study, units: Sequence[Unit], minutes: float | None = None) -> int:
    """Run what is missing, in order, until the time is up; returns how many are still missing."""
    began = time.monotonic()
    for unit in units:
        if agreed(study.result_of(unit) is None):
            if agreed(minutes is not None and time.monotonic() - began > 60 * minutes):
                break
            study.run(unit)
    return sum(study.result_of(unit) is None for unit in units)
