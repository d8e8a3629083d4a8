"""How much memory a case may need, told from headers before a voxel is read."""

from __future__ import annotations

import math
from pathlib import Path

from ..dicom_input.files import list_series
from ..dicom_input.segmentation import is_dicom_segmentation
from ..errors import InputError
from ..read_image import read_geometry
from .plan import Case

#: Of whole runs, rounded up: libraries and model; then bytes per voxel of each image. A CT whose
#: field of view is full of segmented liver needs most; others a third of it.
BASE_BYTES = 700 * 2**20
BYTES_PER_VOXEL = {"ct": 24, "segmentation": 5, "pet_fdg": 14, "pet_acetate": 14}

#: A DICOM file has at most this many voxels a byte, half of them if it is not compressed.
_VOXELS_PER_BYTE = 4
#: A DICOM SEG has a bit a voxel.
_SEGMENTED_PER_BYTE = 8


def memory_of(case: Case, root: Path, limit: int | None = None) -> int:
    """Bytes of memory that a run of the case needs at most, by the sizes of its images.

    A DICOM folder whose files are so small that it fits ``limit`` anyhow is not looked into.

    Raises
    ------
    InputError : a header that cannot be read.
    """
    need, folders = BASE_BYTES, []
    for role, path in case.inputs:
        full = root / path
        if role not in BYTES_PER_VOXEL:
            continue  # no image
        if role == "segmentation" and is_dicom_segmentation(full):
            need += BYTES_PER_VOXEL[role] * _SEGMENTED_PER_BYTE * _stored(full)
        elif full.is_dir():
            folders.append((role, full))
        else:
            need += BYTES_PER_VOXEL[role] * math.prod(read_geometry(full, role).size)
    most = need + sum(BYTES_PER_VOXEL[r] * _VOXELS_PER_BYTE * _stored(f) for r, f in folders)
    if limit is not None and most <= limit:
        return most
    return need + sum(BYTES_PER_VOXEL[r] * _largest_series(f, case, r) for r, f in folders)


def _stored(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def _largest_series(folder: Path, case: Case, role: str) -> int:
    """Voxels of the largest series of a DICOM folder; of the CT series that the case names."""
    series = list_series(folder)
    named = [s for s in series if role == "ct" and s.uid == case.series]
    sizes = (sum(math.prod(o.geometry.size) for o in s.slices) for s in named or series)
    return max(sizes, default=0)


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
