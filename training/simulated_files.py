"""A simulated cohort as files with a manifest: what any other cohort looks like on disk."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from REACTKDLib.errors import OutputError
from REACTKDLib.simulation import TRACERS, write_case

from .cohort import sample_case_parameters, simulate_cohort_case
from .manifest import write_manifest

MANIFEST = "simulated_cohort.csv"


def write_cohort(
    folder: Path, profile: str, indices: Sequence[int], seed: int, workers: int = 2
) -> Path:
    """Simulate cases of a cohort of :mod:`training.cohort` into ``folder``, a folder each with
    images, masks and truth, and a manifest of label schema ``grade3`` beside them.

    A case that is there already is kept: the same seed gives the same bytes, so an interrupted call
    goes on.

    Returns
    -------
    The manifest.

    Raises
    ------
    OptionError : no such profile, or a negative index.
    OutputError : there is a manifest already, or files cannot be written.
    """
    manifest = folder / MANIFEST
    if manifest.exists():
        raise OutputError(f"{manifest} exists.", "Choose a new folder.")
    for index in indices[:1]:
        sample_case_parameters(profile, index, seed)  # refuses before processes are started
    folder.mkdir(parents=True, exist_ok=True)
    one = partial(_write_one, folder, profile, seed)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        title = f"simulated {profile} cases"
        rows = list(tqdm(pool.map(one, indices), total=len(indices), desc=title, unit="case"))
    return write_manifest(rows, manifest)


def _write_one(folder: Path, profile: str, seed: int, index: int) -> dict[str, Any]:
    name = f"simulated-{profile}-{index:05d}"
    parameters = sample_case_parameters(profile, index, seed)
    case = simulate_cohort_case(parameters, profile, index, seed)
    target = folder / name
    if not target.exists():
        write_case(case, target)
    files = {
        what: target / f"simulated_{what}.nii.gz" for what in ("ct", "segmentation", *case.pet)
    }
    row: dict[str, Any] = {"patient": name, "label": case.truth.observed_grade}
    row |= {"ct": files["ct"], "segmentation": files["segmentation"]}
    row |= {"role_liver": "1", "role_lesion": "2"}
    for tracer in TRACERS:
        if tracer in case.pet:
            row |= {tracer: files[tracer], f"{tracer}_unit": "SUV"}
    return row
