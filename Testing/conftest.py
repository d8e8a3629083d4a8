"""Fixtures that several rooms share. Imports are inside, so that other tests need no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from REACTKDLib.model_package import ModelPackage
    from REACTKDLib.prognosis.package import PrognosisPackage
    from REACTKDLib.prognosis.types import PrognosisResult
    from REACTKDLib.types import CaseResult, Study


@pytest.fixture(scope="session")
def phantom_study() -> Study:
    """CT and both PET tracers, two different grids, segmentation on the CT's."""
    from phantoms import CT_GRID, PET_GRID, PHANTOM

    return PHANTOM.study(CT_GRID, pet=PET_GRID, tracers=("pet_fdg", "pet_acetate"))


@pytest.fixture(scope="session")
def ct_study() -> Study:
    """The phantom with CT alone."""
    from phantoms import CT_GRID, PHANTOM

    return PHANTOM.study(CT_GRID)


@pytest.fixture(scope="session")
def random_package(tmp_path_factory: pytest.TempPathFactory, phantom_study: Study) -> ModelPackage:
    """Three classes, CT and optional PET, random weights. Copy the folder before changing it."""
    from random_models import write_random_package

    return write_random_package(tmp_path_factory.mktemp("packages") / "random", study=phantom_study)


@pytest.fixture(scope="session")
def shipped_package() -> ModelPackage:
    """The default model that comes with REACTKD."""
    from REACTKDLib.model_package import load_package

    return load_package()


@pytest.fixture(scope="session")
def phantom_case(ct_study: Study, random_package: ModelPackage) -> CaseResult:
    """The result of the phantom: CT alone, scheme anatomical, most probable class."""
    from REACTKDLib.pipeline import run_case

    return run_case(ct_study, random_package)


@pytest.fixture(scope="session")
def random_prognosis(tmp_path_factory: pytest.TempPathFactory, ct_study: Study) -> PrognosisPackage:
    """A model of prognosis: CT, five clinical variables, radiomics; random weights."""
    from random_prognosis import write_random_prognosis

    return write_random_prognosis(tmp_path_factory.mktemp("packages") / "prognosis", ct_study)


@pytest.fixture(scope="session")
def phantom_prognosis(ct_study: Study, random_prognosis: PrognosisPackage) -> PrognosisResult:
    """The phantom's prognosis with all modalities."""
    from random_prognosis import RECORD

    from REACTKDLib.prognosis.pipeline import run_prognosis

    return run_prognosis(ct_study, RECORD, random_prognosis)


@pytest.fixture(scope="session")
def phantom_files(
    tmp_path_factory: pytest.TempPathFactory, phantom_study: Study
) -> dict[str, Path]:
    """NIfTI files by modality and ``segmentation``. Copy a file before changing it."""
    from phantoms import write_study

    return write_study(phantom_study, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def phantom_ct(tmp_path_factory: pytest.TempPathFactory, ct_study: Study) -> Path:
    """The phantom's CT as a DICOM folder. Read only."""
    from dicom_ct import write_ct

    folder = tmp_path_factory.mktemp("dicom") / "ct"
    write_ct(folder, ct_study.ct.array, ct_study.ct.geometry)
    return folder


@pytest.fixture(scope="session")
def phantom_dicom(
    tmp_path_factory: pytest.TempPathFactory, phantom_case: CaseResult, phantom_ct: Path
) -> Path:
    """The phantom's result as DICOM objects. Read only."""
    from REACTKDLib.dicom_output import write_dicom_output

    folder = tmp_path_factory.mktemp("dicom") / "objects"
    return write_dicom_output(phantom_case, phantom_ct, folder)


@pytest.fixture(scope="session")
def simulated_study() -> Study:
    """The demo's simulated patient on a coarse grid, CT and both tracers."""
    from REACTKDLib.simulation import Scanner, demo_parameters, simulate_case

    grid = Scanner(spacing_mm=(4.0, 4.0, 6.0)).geometry()
    return simulate_case(demo_parameters(), 1, grid=grid).study()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB: too small for a result."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
