"""Images and radiomics of simulated patients, of one simulation each, kept on disk.

A simulated CT costs more than all that is made of it, so that the network's grid and the radiomics
are made together. Nothing of the outcome is kept here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from REACTKDLib.checks import InputStatistics, check_ct
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.normalise import normalise, structure_occupancy
from REACTKDLib.prognosis.types import PatientArrays
from REACTKDLib.roi import locate_roi
from REACTKDLib.types import Study

from ..cohort import sample_case_parameters, simulate_cohort_case
from .cohort import UNKNOWN, PrognosisCase
from .features import RadiomicsOf

__all__ = ["ImagesOf", "simulated_arrays", "simulated_study"]


@dataclass(frozen=True)
class ImagesOf:
    """What is made of a patient's CT: ``spec`` puts it on the network's grid, ``radiomics`` is
    measured in the segments of ``roles``; None leaves out either."""

    seed: int
    spec: ModelSpec | None
    radiomics: RadiomicsOf | None
    roles: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of everything that determines a patient's arrays but the code."""
        spec = self.spec
        grid = None if spec is None else (spec.modalities, spec.grid, spec.role_rules)
        stride = None if spec is None else spec.network.total_stride
        settings = None if self.radiomics is None else self.radiomics.settings
        text = repr((self.seed, grid, stride, settings, self.roles))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __call__(self, study: Study) -> dict[str, np.ndarray]:
        """Arrays by name, as :func:`numpy.savez` keeps them."""
        found: dict[str, np.ndarray] = {}
        if self.spec is not None:
            roi = locate_roi(study, self.spec)
            statistics = check_ct(study, roi, self.spec)
            own = normalise(study, roi, self.spec)
            found |= {"ct": own.volumes["ct"].astype(np.float16), "roi": own.roi.astype(np.float16)}
            found["lesion"] = structure_occupancy(roi, self.spec)[1].astype(np.float16)
            found["statistics"] = np.array(dataclasses.astuple(statistics))
        if self.radiomics is not None:
            values = self.radiomics(study, self.roles).values
            found |= {"names": np.array(list(values)), "values": np.array(list(values.values()))}
        return found


def simulated_arrays(
    indices: Sequence[int], images: ImagesOf, cache: Path, workers: int = 2
) -> tuple[tuple[str, ...], list[PrognosisCase]]:
    """Names of the radiomics features; and patients of the simulated internal cohort with images
    and radiomics, without outcome and clinical variables. From ``cache`` where it has them.

    Raises
    ------
    ReactKDError : as the stages of the pipeline.
    """
    if images.spec is None and images.radiomics is None:
        return (), [_named(index) for index in indices]
    cache.mkdir(parents=True, exist_ok=True)
    stem = f"simulated_internal_{images.seed}"
    paths = {n: cache / f"{stem}_{n:05d}_{images.digest}.npz" for n in indices}
    absent = [n for n, path in paths.items() if not path.exists()]
    if absent:
        one, jobs = partial(_store, images), [(paths[n], n) for n in absent]
        if workers < 2:
            done = list(map(one, tqdm(jobs, desc="simulated patients", unit="case")))
        else:
            # Not forked: a process that has used threads cannot be copied while they wait.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context) as pool:
                todo = pool.map(one, jobs)
                done = list(tqdm(todo, total=len(jobs), desc="simulated patients", unit="case"))
        assert len(done) == len(absent)
    names: tuple[str, ...] = ()
    patients = []
    for index, path in paths.items():
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        names = names or tuple(map(str, kept.get("names", ())))
        known = kept.get("statistics")
        patients.append(
            dataclasses.replace(
                _named(index),
                arrays=PatientArrays(
                    radiomics=kept.get("values"), ct=kept.get("ct"), roi=kept.get("roi")
                ),
                statistics=None if known is None else InputStatistics(*known.tolist()),
                lesion=kept.get("lesion"),
            )
        )
    return names, patients


def simulated_study(index: int, seed: int) -> Study:
    """The CT of a patient of the internal cohort, without PET."""
    parameters = sample_case_parameters("internal", index, seed)
    return simulate_cohort_case(parameters, "internal", index, seed, pet=False).study()


def _named(index: int) -> PrognosisCase:
    return PrognosisCase(f"simulated-internal-{index:05d}", UNKNOWN, PatientArrays())


def _store(images: ImagesOf, job: tuple[Path, int]) -> None:
    path, index = job
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    try:
        np.savez(temporary, **images(simulated_study(index, images.seed)))  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
