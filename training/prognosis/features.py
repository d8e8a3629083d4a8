"""Radiomics of a cohort, measured once and kept.

What measures them is a callable (:class:`RadiomicsOf`), chosen in a configuration: a key of
:data:`RADIOMICS`, or a JSON file of radiomics settings.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings, read_settings
from REACTKDLib.prognosis.types import RadiomicsFeatures
from REACTKDLib.types import Study

from ..evaluation.results import write_json

__all__ = [
    "RADIOMICS",
    "FullRadiomics",
    "PlainFigures",
    "RadiomicsOf",
    "measure_radiomics",
    "radiomics_of",
]


class RadiomicsOf(Protocol):
    """Measures the radiomics of a patient; must be picklable.

    ``settings`` is a digest of everything that determines its figures.
    """

    @property
    def settings(self) -> str:
        """Digest of the settings."""
        ...

    def __call__(self, study: Study, roles: Sequence[str]) -> RadiomicsFeatures:
        """Features of the CT of ``study`` in its segments of these ``roles`` together."""
        ...


class PlainFigures:
    """The six figures of :func:`training.baselines.lesion_features` that need nothing but the CT;
    for studies without a radiomics library."""

    settings = "plain-figures-1"

    def __call__(self, study: Study, roles: Sequence[str]) -> RadiomicsFeatures:
        """Volume, mean, spread, percentiles and entropy of the CT in one role."""
        from ..baselines import CT_FEATURES, lesion_features

        if len(roles) != 1:
            raise OptionError(
                f"Plain figures are measured in one role, not in {list(roles)}.", "Give one."
            )
        alone = Study({"ct": study.ct}, study.segmentation, study.case_id)
        figures = lesion_features(alone, roles[0])
        return RadiomicsFeatures({f"plain_{n}": figures[n] for n in CT_FEATURES}, self.settings)


@dataclass(frozen=True)
class FullRadiomics:
    """The features of :mod:`REACTKDLib.prognosis.radiomics`, 1781 with the default settings; the
    roles of the call replace those of the settings."""

    how: RadiomicsSettings = field(default_factory=RadiomicsSettings)

    @property
    def settings(self) -> str:
        """Digest of the settings."""
        return self.how.digest

    def __call__(self, study: Study, roles: Sequence[str]) -> RadiomicsFeatures:
        """All features of the settings, in these roles together."""
        from REACTKDLib.prognosis.radiomics import radiomics_features
        from REACTKDLib.prognosis.radiomics_grid import region_of_interest

        settings = replace(self.how, roles=tuple(roles))
        mask = region_of_interest(study.segmentation, study.ct.geometry, settings)
        return radiomics_features(study.ct, mask, settings)


#: Name in a configuration -> what makes the callable.
RADIOMICS: dict[str, Callable[[], RadiomicsOf]] = {
    "full": FullRadiomics,
    "plain figures": PlainFigures,
}


def radiomics_of(name: str, folder: Path) -> RadiomicsOf:
    """The radiomics of a configuration: a key of :data:`RADIOMICS`, or settings in a ``.json``
    file, its path relative to ``folder``.

    Raises
    ------
    OptionError : no such radiomics, or settings that cannot be used.
    """
    if name.endswith(".json"):
        return FullRadiomics(read_settings(folder / name))
    if name not in RADIOMICS:
        raise OptionError(
            f"No radiomics {name!r}.", f"Choose from {sorted(RADIOMICS)}, or give a JSON file."
        )
    return RADIOMICS[name]()


def measure_radiomics(
    studies: Mapping[str, Callable[[], Study]],
    radiomics: RadiomicsOf,
    roles: Sequence[str],
    cache: Path,
    workers: int = 2,
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the features, and key -> values (features,) float64, NaN where there is none.

    Parameters
    ----------
    studies : key (of patient and files) -> what reads the study; picklable.
    cache : folder of one JSON file for each key, roles and settings; what is there is not measured
        again.

    Raises
    ------
    InputError : patients have different features. ReactKDError : as reader and radiomics.
    """
    stamp = hashlib.sha256("|".join((*roles, radiomics.settings)).encode()).hexdigest()[:12]
    paths = {key: cache / f"{key}_{stamp}.json" for key in studies}
    absent = [key for key, path in paths.items() if not path.exists()]
    one = partial(_measure, radiomics, tuple(roles))
    if absent:
        cache.mkdir(parents=True, exist_ok=True)
        jobs = [(paths[key], studies[key]) for key in absent]
        # Not forked: a process that has used threads cannot be copied while they wait.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max(1, workers), context) as pool:
            list(tqdm(pool.map(one, jobs), total=len(jobs), desc="radiomics", unit="case"))
    tables = {key: json.loads(path.read_text(encoding="utf-8")) for key, path in paths.items()}
    names: tuple[str, ...] = ()
    for key, table in tables.items():
        names = names or tuple(table)
        if tuple(table) != names:
            raise InputError(
                f"{key} has {len(table)} radiomics features, others {len(names)} or other ones.",
                f"Remove the folder {cache} and measure all anew.",
            )
    values = {
        key: np.array([np.nan if v is None else v for v in table.values()])
        for key, table in tables.items()
    }
    return names, values


def _measure(
    radiomics: RadiomicsOf, roles: tuple[str, ...], job: tuple[Path, Callable[[], Study]]
) -> None:
    path, read = job
    values = radiomics(read(), roles).values
    write_json(path, {name: v if math.isfinite(v) else None for name, v in values.items()})
