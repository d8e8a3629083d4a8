"""How much memory a case may need, told from headers before a voxel is read."""

from __future__ import annotations

import math
from pathlib import Path

from ..errors import InputError
from ..read_dicom import choose_series
from ..read_image import read_geometry
from .plan import Case

#: Of whole runs, rounded up: libraries and model; then bytes per voxel of each image. A CT whose
#: field of view is full of segmented liver needs most; others a third of it.
BASE_BYTES = 700 * 2**20
BYTES_PER_VOXEL = {"ct": 24, "segmentation": 5, "pet_fdg": 14, "pet_acetate": 14}

#: A DICOM file has at most this many voxels a byte, half of them if it is not compressed.
_VOXELS_PER_BYTE = 4


def memory_of(case: Case, root: Path, limit: int | None = None) -> int:
    """Bytes of memory that a run of the case needs at most, by the sizes of its images.

    A DICOM folder whose files are so small that it fits ``limit`` anyhow is not looked into.

    Raises
    ------
    InputError : a header that cannot be read.
    """
    need = BASE_BYTES
    for role, path in case.inputs:
        if not (root / path).is_dir():
            need += BYTES_PER_VOXEL[role] * math.prod(read_geometry(root / path, role).size)
    if (root / case.ct).is_dir():
        stored = sum(p.stat().st_size for p in (root / case.ct).rglob("*") if p.is_file())
        most = need + BYTES_PER_VOXEL["ct"] * _VOXELS_PER_BYTE * stored
        if limit is not None and most <= limit:
            return most
        series = choose_series(root / case.ct, case.series or None)
        voxels = sum(math.prod(s.geometry.size) * s.frames for s in series.slices)
        need += BYTES_PER_VOXEL["ct"] * voxels
    return need


def check_memory(case: Case, root: Path, limit: int | None) -> None:
    """Refuse a case that may need more memory than ``limit`` bytes.

    Raises
    ------
    InputError : it may need more; or as :func:`memory_of`.
    """
    if limit is None or (need := memory_of(case, root, limit)) <= limit:
        return
    raise InputError(
        f"The images are too large: {need / 2**30:.2f} GiB of memory may be needed, a worker has"
        f" {limit / 2**30:.2f} GiB.",
        "Give more with --memory (and fewer --workers), or crop or resample the images.",
    )
