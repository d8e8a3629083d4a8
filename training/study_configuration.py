"""The configuration of a study: cohort, teachers, student, methods; JSON, every key checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.typed_json import FieldError, build

from .baselines import feature_names
from .batches import CropSettings
from .engine import Optimisation
from .label_schema import SCHEMAS
from .losses import DISTILLATIONS
from .networks.swin import SwinSpec
from .objectives import LabelLoss
from .segmentation_pretraining import SegmentationSettings


@dataclass(frozen=True)
class SimulatedCohorts:
    """Numbers of simulated cases: ``internal`` with PET/CT, ``external`` with CT alone."""

    internal: int
    external: int


@dataclass(frozen=True)
class ListedCohorts:
    """Manifests of the internal and, if there is one, the external cohort (paths relative to the
    configuration), and the label schema that reads them (see :mod:`training.label_schema`)."""

    internal: str
    schema: str
    external: str | None = None


@dataclass(frozen=True)
class DoseSettings:
    """``photons`` of the low-dose copies of every CT. ``internal`` and ``external`` name the method
    of :func:`REACTKDLib.dose.simulate_low_dose`: augmentation can do with the quick one."""

    photons: tuple[float, ...]
    internal: str
    external: str


@dataclass(frozen=True)
class TeacherSettings:
    """Shape and training of one teacher (see ``networks.teacher`` and ``objectives``).

    ``cells`` weighs the supervision of single cells by the lesion masks beside the case's label.
    """

    branches: Mapping[str, tuple[str, ...]]
    swin: SwinSpec
    fused_channels: int
    dropout: float
    dosed: bool
    branch_dropout: float
    optimisation: Optimisation
    cells: float = 0.0


@dataclass(frozen=True)
class StudentSettings:
    """``modality_sets`` : modalities joined by "+" -> how often a batch shows just these."""

    modality_sets: Mapping[str, float]
    optimisation: Optimisation


@dataclass(frozen=True)
class PretrainingSettings:
    """The CT encoder of students first learns to segment organ and lesions (``segmentation``): on
    the training cases of the fold, or on those of ``manifest`` (relative to the configuration),
    such as LiTS17, which needs no labels."""

    segmentation: SegmentationSettings
    manifest: str | None = None


@dataclass(frozen=True)
class LoraSettings:
    """``teacher`` and ``branch`` whose encoder is taken; ``rank`` and ``alpha`` of the updates."""

    teacher: str
    branch: str
    rank: int = 4
    alpha: float = 16.0


@dataclass(frozen=True)
class MethodSettings:
    """One line of the comparison: a distillation with its settings, its teachers, its seeds.

    ``modality_sets`` replaces those of the student (an ablation of modality dropout); without
    ``cbam`` the student has no attention block. ``cells`` weighs the supervision of single cells by
    the lesion masks, which no method but a control has. ``lora`` names a teacher's branch that
    reads the CT alone: the student then has Swin encoders of that teacher's shape, its CT encoder
    is that branch's, frozen but for low-rank updates; encoders of other modalities are trained
    whole.
    """

    distillation: str
    teachers: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    modality_sets: Mapping[str, float] | None = None
    cbam: bool = True
    cells: float = 0.0
    lora: LoraSettings | None = None


@dataclass(frozen=True)
class StudySettings:
    """All of a study but the model's specification.

    The cases are either ``simulated`` or ``listed`` in manifests.
    ``folds`` of the internal cohort, split ``repeats`` times; within the training part of each, one
    of ``inner_parts`` parts selects the epoch and fits the temperature. The test part is never
    selected on. ``evaluate`` lists the modality sets that the internal test measures. ``baselines``
    : name -> features of :mod:`training.baselines` for a logistic regression, of listed cohorts.
    ``normalise`` : projections are followed by batch norm while teachers and students train (see
    :mod:`training.networks.normalised`).
    ``faithful_cases`` : on how many test cases of a method's first seed the explanation is tested
    for faithfulness; each takes about thirty passes.
    """

    name: str
    seed: int
    doses: DoseSettings
    folds: int
    inner_parts: int
    crop: CropSettings
    loss: LabelLoss
    teachers: Mapping[str, TeacherSettings]
    student: StudentSettings
    evaluate: tuple[str, ...]
    methods: Mapping[str, MethodSettings]
    simulated: SimulatedCohorts | None = None
    listed: ListedCohorts | None = None
    repeats: int = 1
    baselines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    normalise: bool = False
    faithful_cases: int = 6
    pretraining: PretrainingSettings | None = None

    @property
    def fold_numbers(self) -> range:
        """Folds of all repeats: number ``repeat * folds + fold``."""
        return range(self.folds * self.repeats)

    @property
    def seeds(self) -> Mapping[str, tuple[int, ...]]:
        """Seeds of every method; a baseline has one, it draws nothing."""
        methods = {name: method.seeds for name, method in self.methods.items()}
        return methods | dict.fromkeys(self.baselines, (0,))


#: Parts of a configuration that change no teacher.
_STUDENTS_ONLY = ("student", "evaluate", "methods", "baselines", "pretraining", "faithful_cases")
_NOT_OF_TEACHERS = ("name", "teachers", *_STUDENTS_ONLY)


@dataclass(frozen=True)
class StudyConfiguration:
    """``settings`` and ``spec`` as read from ``document``; ``folder`` is where it stands."""

    folder: Path
    settings: StudySettings
    spec: ModelSpec
    document: Mapping[str, Any]

    def digest(self, *parts: str) -> str:
        """Digest of the document without the methods, and of ``parts``: what a result rests on."""
        common = {k: v for k, v in self.document.items() if k not in ("methods", "baselines")}
        text = json.dumps([common, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def teacher_digest(self, name: str) -> str:
        """Digest of what the teacher ``name`` rests on; students and methods do not count."""
        common = {k: v for k, v in self.document.items() if k not in _NOT_OF_TEACHERS}
        text = json.dumps([common, self.document["teachers"][name]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pretraining_digest(self) -> str:
        """Digest of what a pretrained encoder rests on."""
        keys = ("seed", "spec", "simulated", "listed", "folds", "inner_parts", "pretraining")
        text = json.dumps([self.document.get(key) for key in keys], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def method_digest(self, name: str) -> str:
        """As :meth:`digest` for the results of one method or baseline; its list of seeds does not
        count."""
        if name in self.settings.baselines:
            return self.digest(json.dumps(self.document["baselines"][name]))
        method = {k: v for k, v in self.document["methods"][name].items() if k != "seeds"}
        return self.digest(json.dumps(method, sort_keys=True))


def read_study(path: Path | str) -> StudyConfiguration:
    """Read a study's configuration. Its ``spec`` is a model specification, or the name of a file
    beside it whose key ``spec`` holds one.

    Raises
    ------
    OptionError : not JSON; a key missing, unknown or of the wrong type; a method, teacher or
        modality that does not exist.
    ModelPackageError : the specification is not valid.
    """
    path = Path(path)
    document = _json(path)
    section = document.pop("spec", None)
    if isinstance(section, str):
        section = _json(path.parent / section).get("spec")
    try:
        settings: StudySettings = build(StudySettings, document, "the study")
    except FieldError as error:
        raise OptionError(f"{path.name}: {error}", "Correct the configuration.") from error
    if not isinstance(section, dict):
        raise OptionError(f"{path.name} has no model specification.", 'Give the key "spec".')
    spec = spec_from_section(section)
    _check(settings, spec, path.name)
    return StudyConfiguration(path.parent, settings, spec, {**document, "spec": section})


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{path} cannot be read: {error}.", "Give a JSON configuration."
        ) from error
    if not isinstance(document, dict):
        raise OptionError(f"{path} is no JSON object.", "Give a JSON configuration.")
    return document


def _check(settings: StudySettings, spec: ModelSpec, where: str) -> None:
    def refuse(problem: str) -> None:
        raise OptionError(f"{where}: {problem}", "Correct the configuration.")

    if (settings.simulated is None) == (settings.listed is None):
        refuse('give either "simulated" or "listed" cohorts.')
    if settings.listed is not None and settings.listed.schema not in SCHEMAS:
        refuse(f"no label schema {settings.listed.schema!r}; there are {sorted(SCHEMAS)}.")
    if settings.baselines and settings.listed is None:
        refuse("baselines are measured on listed patients.")
    if twice := sorted(set(settings.baselines) & set(settings.methods)):
        refuse(f"{twice} are methods and baselines.")
    for name, features in settings.baselines.items():
        if unknown := sorted(set(features) - set(feature_names(spec.modality_names))):
            refuse(f"baseline {name}: unknown features {unknown}.")
    known = set(spec.modality_names)
    for name, teacher in settings.teachers.items():
        for branch, modalities in teacher.branches.items():
            if unknown := sorted(set(modalities) - known):
                refuse(f"teacher {name}, branch {branch}: unknown modalities {unknown}.")
    sets = [settings.student.modality_sets, dict.fromkeys(settings.evaluate, 1.0)]
    for method_name, method in settings.methods.items():
        if method.distillation not in DISTILLATIONS:
            refuse(f"method {method_name}: no distillation {method.distillation!r}.")
        if unknown := sorted(set(method.teachers) - set(settings.teachers)):
            refuse(f"method {method_name}: unknown teachers {unknown}.")
        if not method.seeds or len(set(method.seeds)) < len(method.seeds):
            refuse(f"method {method_name}: seeds {method.seeds}.")
        sets.append(method.modality_sets or {})
        if method.lora is not None:
            source = settings.teachers.get(method.lora.teacher)
            if source is None or source.branches.get(method.lora.branch) != ("ct",):
                refuse(
                    f"method {method_name}: {method.lora.teacher!r} has no branch "
                    f"{method.lora.branch!r} that reads the CT alone."
                )
    for each in sets:
        for key in each:
            if unknown := sorted(set(key.split("+")) - known):
                refuse(f"unknown modalities {unknown} in {key!r}.")
