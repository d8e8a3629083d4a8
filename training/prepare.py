"""Cases as the network reads them, cached on disk so that epochs cost no preprocessing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from REACTKDLib.checks import InputStatistics, check_ct
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.normalise import (
    lesion_surroundings,
    normalise,
    pooling_weights,
    structure_occupancy,
)
from REACTKDLib.roi import locate_roi

from .cohort import sample_case_parameters, simulate_cohort_case


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One simulated case. ``volumes`` modality -> float16 (k, j, i); ``roi`` and
    ``lesion`` float16 (k, j, i), 0..1, how much of each voxel they fill; ``weights`` float32
    (k, j, i), sum 1, of the pooling;
    ``label`` index of the observed class; ``statistics`` for the ranges in the model package."""

    volumes: Mapping[str, np.ndarray]
    roi: np.ndarray
    lesion: np.ndarray
    weights: np.ndarray
    label: int
    statistics: InputStatistics


def prepare_simulated(
    spec: ModelSpec, profile: str, indices: range, seed: int, cache: Path, workers: int = 2
) -> list[PreparedCase]:
    """Simulate and normalise the cases of a cohort, or take them from ``cache``.

    The file name carries a digest of everything that determines the case but the code, so a changed
    grid or window never meets old tensors.
    """
    cache.mkdir(parents=True, exist_ok=True)
    one = partial(_prepare_one, spec, profile, seed, cache)
    with ProcessPoolExecutor(workers) as pool:
        paths = list(
            tqdm(
                pool.map(one, indices),
                total=len(indices),
                desc=f"simulated {profile} cases",
                unit="case",
            )
        )
    return [_load(path, spec) for path in paths]


def _digest(spec: ModelSpec, profile: str, seed: int) -> str:
    parts = [repr(spec.modalities), repr(spec.grid), repr(spec.role_rules), profile, str(seed)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _prepare_one(spec: ModelSpec, profile: str, seed: int, cache: Path, index: int) -> Path:
    path = cache / f"simulated_{profile}_{index:05d}_{_digest(spec, profile, seed)}.npz"
    if path.exists():
        return path
    parameters = sample_case_parameters(profile, index, seed)
    case = simulate_cohort_case(parameters, profile, index, seed)
    study = case.study()
    roi = locate_roi(study, spec)
    statistics = check_ct(study, roi, spec)
    model_input = normalise(study, roi, spec)
    _, lesion = structure_occupancy(roi, spec)
    arrays: dict[str, Any] = {
        f"volume_{name}": array.astype(np.float16) for name, array in model_input.volumes.items()
    }
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(
        temporary,
        roi=model_input.roi.astype(np.float16),
        lesion=lesion.astype(np.float16),
        label=spec.class_names.index(case.truth.observed_grade),
        statistics=dataclasses.astuple(statistics),
        **arrays,
    )
    temporary.replace(path)
    return path


def _load(path: Path, spec: ModelSpec) -> PreparedCase:
    with np.load(path) as arrays:
        roi, lesion = arrays["roi"], arrays["lesion"]
        return PreparedCase(
            volumes={n[7:]: arrays[n] for n in arrays.files if n.startswith("volume_")},
            roi=roi,
            lesion=lesion,
            weights=pooling_weights(roi, lesion_surroundings(roi, lesion, spec), spec),
            label=int(arrays["label"]),
            statistics=InputStatistics(*map(float, arrays["statistics"])),
        )
