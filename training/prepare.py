"""Cases as the networks read them, cached on disk so that epochs cost no preprocessing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from REACTKDLib.checks import InputStatistics, check_ct
from REACTKDLib.dose import simulate_low_dose
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.normalise import (
    lesion_surroundings,
    normalise,
    occupancy,
    structure_occupancy,
)
from REACTKDLib.read import read_study
from REACTKDLib.regions import make_regions
from REACTKDLib.roi import locate_roi
from REACTKDLib.simulation import SimulatedCase
from REACTKDLib.types import Study

from .cohort import sample_case_parameters, simulate_cohort_case
from .manifest import Cohort, CohortCase, study_files
from .processes import agreed, first_writes

#: Label of a case that has none: fit for segmentation, not for a class.
UNLABELLED = -1


@dataclass(frozen=True)
class Preparation:
    """What is prepared of every case.

    ``spec`` gives grid and windows, ``scheme`` the regions of the graph, ``doses`` (photons) the
    low-dose copies of the CT, simulated by ``dose_method`` of :func:`simulate_low_dose`; ``seed``
    drives simulated patients and doses.
    """

    spec: ModelSpec
    seed: int
    scheme: str = "anatomical"
    doses: tuple[float, ...] = ()
    dose_method: str = "projection"

    @property
    def digest(self) -> str:
        """Digest of everything that determines a prepared case but the code."""
        spec = self.spec
        parts = [spec.modalities, spec.grid, spec.role_rules, spec.regions, spec.pooling]
        text = repr((parts, self.seed, self.scheme, self.doses, self.dose_method))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case on the model's grid; arrays (k, j, i), float16 unless said.

    ``patient`` names the patient, and the study where a manifest names it; cases that share
    ``unit`` (a patient, or a manifest's group) belong on one side of every split.
    ``volumes`` modality -> z-scored intensities; ``low_dose`` photons -> the CT at that dose.
    ``roi``, ``lesion``, ``near`` : how much of each voxel belongs to the region of interest, to
    lesions, to lesions and their surroundings, 0..1. ``regions`` uint8, the region that fills most
    of the voxel, 1.. for ``region_ids``, 0 none. ``responsible`` : where a simulated case shows its
    grade, or None. ``label`` index of the class, or :data:`UNLABELLED`. ``statistics`` for the
    model package's ranges.
    """

    patient: str
    unit: str
    volumes: Mapping[str, np.ndarray]
    roi: np.ndarray
    lesion: np.ndarray
    near: np.ndarray
    label: int
    statistics: InputStatistics
    low_dose: Mapping[float, np.ndarray] = field(default_factory=dict)
    regions: np.ndarray | None = None
    region_ids: tuple[str, ...] = ()
    responsible: np.ndarray | None = None

    @cached_property
    def crop_centres(self) -> np.ndarray:
        """Voxels (n, 3) around which crops are drawn: those that a lesion fills for the greater
        part; without one, those of the region of interest."""
        voxels = np.argwhere(self.lesion > 0.5)
        return voxels if len(voxels) else np.argwhere(self.roi > 0.5)


def prepare_simulated(
    preparation: Preparation, profile: str, indices: range, cache: Path, workers: int = 2
) -> list[PreparedCase]:
    """Simulate and prepare cases of a cohort of :mod:`training.cohort`, or take them from
    ``cache``."""
    names = {f"simulated_{profile}_{index:05d}": index for index in indices}
    one = partial(_prepare_simulated, preparation, profile)
    return _cached(names, one, preparation, cache, workers, f"simulated {profile} cases")


def prepare_cohort(
    preparation: Preparation, cohort: Cohort, cache: Path, workers: int = 2
) -> list[PreparedCase]:
    """Read and prepare the cases of a manifest, or take them from ``cache``. Those of a cohort that
    was read without a label schema have the label :data:`UNLABELLED`.

    Raises
    ------
    ReactKDError : as the stages of the pipeline, for the first case that cannot be used.
    """
    labels = [UNLABELLED] * len(cohort.cases) if cohort.schema is None else cohort.labels
    names = {
        f"{case.case_id.replace('/', '_')}_{_file_stamp(case, label)}": (case, label)
        for case, label in zip(cohort.cases, labels, strict=True)
    }
    one = partial(_prepare_listed, preparation)
    prepared = _cached(names, one, preparation, cache, workers, cohort.name)
    return [
        dataclasses.replace(there, unit=case.unit)
        for there, case in zip(prepared, cohort.cases, strict=True)
    ]


def _cached(
    names: Mapping[str, Any],
    prepare: Callable[[Any], dict[str, Any]],
    preparation: Preparation,
    cache: Path,
    workers: int,
    title: str,
) -> list[PreparedCase]:
    cache.mkdir(parents=True, exist_ok=True)
    paths = [cache / f"{name}_{preparation.digest}.npz" for name in names]
    absent = [n for n, path in zip(names, paths, strict=True) if not path.exists()]

    def prepare_absent() -> None:
        jobs = [(cache / f"{n}_{preparation.digest}.npz", names[n]) for n in absent]
        # Not forked: a process that has used torch's threads cannot be copied while they wait.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _one_thread) as pool:
            done = pool.map(partial(_store, prepare), jobs)
            for _ in tqdm(done, total=len(jobs), desc=title, unit="case"):
                pass

    if agreed(bool(absent)):
        first_writes(prepare_absent)
    return [_load(path) for path in paths]


def _one_thread() -> None:
    """Workers share the cores: one thread each."""
    import torch

    torch.set_num_threads(1)


def _store(prepare: Callable[[Any], dict[str, Any]], job: tuple[Path, Any]) -> None:
    path, source = job
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    try:
        np.savez(temporary, **prepare(source))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _prepare_simulated(preparation: Preparation, profile: str, index: int) -> dict[str, Any]:
    parameters = sample_case_parameters(profile, index, preparation.seed)
    case = simulate_cohort_case(parameters, profile, index, preparation.seed)
    label = preparation.spec.class_names.index(case.truth.observed_grade)
    arrays = prepare_study(case.study(), preparation, index)
    arrays["responsible"] = _responsible(case, preparation.spec)
    return arrays | {"patient": f"simulated-{profile}-{index:05d}", "label": label}


def _prepare_listed(preparation: Preparation, source: tuple[CohortCase, int]) -> dict[str, Any]:
    case, label = source
    study = read_study(study_files(case), preparation.spec.role_rules)
    stable = int(hashlib.sha256(case.case_id.encode()).hexdigest()[:8], 16)
    arrays = prepare_study(study, preparation, stable)
    return arrays | {"patient": case.case_id, "label": label}


def prepare_study(study: Study, preparation: Preparation, number: int) -> dict[str, Any]:
    """Arrays of a :class:`PreparedCase` but for patient and label; ``number`` seeds the doses."""
    spec = preparation.spec
    roi = locate_roi(study, spec)
    statistics = check_ct(study, roi, spec)
    model_input = normalise(study, roi, spec)
    _, lesion = structure_occupancy(roi, spec)
    regions = make_regions(roi, study.ct, spec, preparation.scheme)
    parts = occupancy(
        regions.labels,
        regions.geometry,
        model_input.geometry,
        spec.grid.supersampling,
        max((r.label for r in regions.regions), default=0) + 1,
    )
    arrays = {f"volume_{name}": a.astype(np.float16) for name, a in model_input.volumes.items()}
    for level, photons in enumerate(preparation.doses):
        low = simulate_low_dose(
            study.ct,
            photons,
            seed=int(
                np.random.SeedSequence([preparation.seed, number, level]).generate_state(1)[0]
            ),
            method=preparation.dose_method,
        )
        noisy = dataclasses.replace(study, volumes={"ct": low})
        arrays[f"dose_{photons!r}"] = normalise(noisy, roi, spec).volumes["ct"].astype(np.float16)
    return {
        **arrays,
        "roi": model_input.roi.astype(np.float16),
        "lesion": lesion.astype(np.float16),
        "near": lesion_surroundings(model_input.roi, lesion, spec).astype(np.float16),
        "regions": parts.argmax(axis=0).astype(np.uint8),
        "region_ids": np.array([_id_of_label(regions.regions, n) for n in range(1, len(parts))]),
        "statistics": dataclasses.astuple(statistics),
    }


def _id_of_label(regions: Sequence[Any], label: int) -> str:
    return next((r.id for r in regions if r.label == label), "")


def _responsible(case: SimulatedCase, spec: ModelSpec) -> np.ndarray:
    """Occupancy of the regions in which a simulated case shows its grade, on the model's grid."""
    mask = np.zeros(case.ct.array.shape, dtype=np.uint8)
    masks = {"lesion": case.truth.lesion_ids.array, "rim": case.truth.rim_ids.array}
    for lesion in case.truth.lesions:
        for kind in lesion.evidence:
            mask[masks[kind] == lesion.id] = 1
    roi = locate_roi(case.study(), spec)
    grid, factor = roi.model_geometry, spec.grid.supersampling
    return occupancy(mask, case.ct.geometry, grid, factor, 2)[1].astype(np.float16)


def _file_stamp(case: CohortCase, label: int) -> str:
    """Digest of a case's name and label and of the paths, sizes and times of its files: what has
    changed is prepared anew."""
    files = study_files(case)
    paths = [files.ct, *files.segmentation, *files.pet.values()]
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    text = json.dumps([case.case_id, label, stamps])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _load(path: Path) -> PreparedCase:
    with np.load(path) as arrays:
        names = arrays.files
        return PreparedCase(
            patient=str(arrays["patient"]),
            unit=str(arrays["patient"]),  # a manifest may know better
            volumes={n[7:]: arrays[n] for n in names if n.startswith("volume_")},
            low_dose={float(n[5:]): arrays[n] for n in names if n.startswith("dose_")},
            roi=arrays["roi"],
            lesion=arrays["lesion"],
            near=arrays["near"],
            regions=arrays["regions"],
            region_ids=tuple(map(str, arrays["region_ids"])),
            responsible=arrays["responsible"] if "responsible" in names else None,
            label=int(arrays["label"]),
            statistics=InputStatistics(*map(float, arrays["statistics"])),
        )
