"""A simulated case as files. Every name says that it is simulated."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from ..errors import OutputError
from ..geometry import Geometry, image_from_array
from .case import SimulatedCase

_PREFIX = "simulated_"


def write_case(case: SimulatedCase, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write a simulated case into the new folder ``folder``, completely or not at all.

    Files: ``simulated_ct.nii.gz``, ``simulated_segmentation.nii.gz`` (1 liver, 2 lesion),
    ``simulated_pet_*.nii.gz`` per tracer, ``simulated_lesion_ids.nii.gz`` and
    ``simulated_rim_ids.nii.gz`` (where the evidence lies) and ``simulated_truth.json``.

    Returns
    -------
    Paths by what they hold: ct, segmentation, the tracers, lesion_ids, rim_ids, truth.

    Raises
    ------
    OutputError : the folder exists and is not empty, or cannot be written.
    """
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise OutputError(f"The folder {target} is not empty.", "Choose a new folder.")
    arrays: dict[str, tuple[np.ndarray, Geometry]] = {
        "ct": (case.ct.array, case.ct.geometry),
        "segmentation": (case.segmentation.labels, case.segmentation.geometry),
        **{tracer: (volume.array, volume.geometry) for tracer, volume in case.pet.items()},
        "lesion_ids": (case.truth.lesion_ids.array, case.truth.lesion_ids.geometry),
        "rim_ids": (case.truth.rim_ids.array, case.truth.rim_ids.geometry),
    }
    names = {what: f"{_PREFIX}{what}.nii.gz" for what in arrays} | {"truth": f"{_PREFIX}truth.json"}
    try:
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        try:
            _write_all(arrays, case, partial, names)
            if target.is_dir():
                target.rmdir()
            partial.replace(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"The simulated case cannot be written to {target}: {error}",
            "Check free space and permissions, or choose another folder.",
        ) from error
    return {what: target / name for what, name in names.items()}


def _write_all(
    arrays: dict[str, tuple[np.ndarray, Geometry]],
    case: SimulatedCase,
    folder: Path,
    names: dict[str, str],
) -> None:
    import SimpleITK

    for what, (array, geometry) in arrays.items():
        SimpleITK.WriteImage(image_from_array(array, geometry), str(folder / names[what]))
    text = json.dumps(case.truth.as_dict(), indent=1)
    (folder / names["truth"]).write_text(text + "\n", encoding="utf-8")
