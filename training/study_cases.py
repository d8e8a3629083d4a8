"""The cases of a study, prepared, and which of them train, select and test in each fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from REACTKDLib.errors import InputError

from .baselines import cohort_features
from .folds import split_units
from .label_schema import SCHEMAS
from .manifest import Cohort, read_manifest
from .prepare import Preparation, PreparedCase, prepare_cohort, prepare_simulated
from .study_configuration import StudyConfiguration

INTERNAL, EXTERNAL, SELECTION = "internal", "external", "selection"


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


class StudyCases:
    """The cases of a configuration; ``work`` keeps them prepared, ``workers`` processes do it."""

    def __init__(self, configuration: StudyConfiguration, work: Path, workers: int = 2) -> None:
        self.configuration = configuration
        self.settings, self.spec = configuration.settings, configuration.spec
        self.work, self.workers = work, workers

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
        if getattr(self.settings.listed, which) is None:
            return []
        cohort = self._listed(which)
        if which == EXTERNAL:
            _refuse_shared(self._listed(INTERNAL), cohort)
        return prepare_cohort(preparation, cohort, cache, self.workers)

    def unlabelled(self, manifest: str) -> list[PreparedCase]:
        """Prepared cases of a manifest whose labels are not looked at."""
        cohort = read_manifest(self.configuration.folder / manifest, spec=self.spec)
        preparation = Preparation(self.spec, self.settings.seed)
        return prepare_cohort(preparation, cohort, self.work / "cases", self.workers)

    def _listed(self, which: str) -> Cohort:
        listed = self.settings.listed
        assert listed is not None  # asked for listed patients only
        return read_manifest(
            self.configuration.folder / getattr(listed, which),
            SCHEMAS[listed.schema],
            folds=self.settings.folds if which == INTERNAL else None,
            spec=self.spec,
        )

    def part(self, fold: int) -> Part:
        """The cases of one fold; no patient, and no group of a manifest, is on two sides.

        Raises
        ------
        OptionError : as :func:`split_units`.
        """
        repeat, fold = divmod(fold, self.settings.folds)
        cases, seed = self.internal, self.settings.seed + repeat
        units = [case.unit for case in cases]
        labels = [case.label for case in cases]
        classes = self.spec.class_names
        outer = split_units(units, labels, self.settings.folds, seed, classes)[fold]
        inner = split_units(
            [units[n] for n in outer.train],
            [labels[n] for n in outer.train],
            self.settings.inner_parts,
            seed,
            classes,
        )[0]
        return Part(
            train=[cases[outer.train[n]] for n in inner.train],
            selection=[cases[outer.train[n]] for n in inner.held_out],
            test=[cases[n] for n in outer.held_out],
        )

    @cached_property
    def lesion_features(self) -> dict[str, dict[str, float]]:
        """Features of :mod:`training.baselines` of every listed case."""
        return cohort_features(self._listed(INTERNAL), self.spec)


def _refuse_shared(internal: Cohort, external: Cohort) -> None:
    """Raises InputError where a patient or group is in both: the external test would be none."""
    patients = {case.patient for case in internal.cases} & {c.patient for c in external.cases}
    units = {case.unit for case in internal.cases} & {case.unit for case in external.cases}
    if shared := sorted(patients) or sorted(units):
        raise InputError(
            f"{len(shared)} patients or groups are in both manifests, {internal.name} and"
            f" {external.name}: {', '.join(shared[:5])}.",
            "Take them out of one of the two; give patients of other sites other names.",
        )
