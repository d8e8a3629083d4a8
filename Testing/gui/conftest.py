"""The module's panel on the harness: real scene, real ``.ui``, fake or real runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import MODULE, FakeRunner, FakeWorker, write_fake_package
from harness import Harness, installed

from REACTKDLib.geometry import geometry_from_ijk_to_ras
from REACTKDLib.types import Segment, Segmentation, Study, Volume


@pytest.fixture
def slicer_harness() -> Iterator[Harness]:
    with installed() as harness:
        yield harness


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_package(tmp_path_factory.mktemp("packages") / "fake-package")


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def worker(runner: FakeRunner) -> FakeWorker:
    return FakeWorker(runner)


@pytest.fixture
def widget(slicer_harness: Harness, worker: FakeWorker, package_folder: Path) -> Any:
    """The module's widget, entered, with a fake worker, a fake package and nothing to install."""
    loaded = slicer_harness.load_module(MODULE)
    loaded.panel.runs.worker, loaded.panel.ensure = worker, lambda needed: False
    loaded.parent.enter()
    loaded.panel.parameters.model_package = str(package_folder)
    return loaded


@pytest.fixture
def small_study() -> Study:
    """A small, oblique, anisotropic study with a lesion inside a liver, PET on another grid."""
    affine = np.array(
        [[-1.7, 0.4, 0.3, 40.0], [0.35, -1.9, 0.2, 20.0], [0.1, 0.25, 3.1, -30.0], [0, 0, 0, 1.0]]
    )
    rotation, _ = np.linalg.qr(affine[:3, :3])
    affine[:3, :3] = rotation * np.array([1.5, 1.9, 3.1])
    geometry = geometry_from_ijk_to_ras(affine, (16, 14, 12))
    k, j, i = np.indices(geometry.array_shape)
    labels = np.zeros(geometry.array_shape, np.uint8)
    labels[(i - 7) ** 2 + (j - 6) ** 2 + (k - 5) ** 2 < 25] = 1
    labels[(i - 8) ** 2 + (j - 6) ** 2 + (k - 5) ** 2 < 5] = 2
    ct = (i + 20 * j + 300 * k).astype(np.int16)
    pet_affine = affine.copy()
    pet_affine[:3, :3] *= 2.0
    pet_geometry = geometry_from_ijk_to_ras(pet_affine, (8, 7, 6))
    pet = np.arange(8 * 7 * 6, dtype=np.float32).reshape(pet_geometry.array_shape)
    return Study(
        {"ct": Volume(ct, geometry), "pet_fdg": Volume(pet, pet_geometry)},
        Segmentation(labels, geometry, (Segment(1, "Liver", "liver"), Segment(2, "HCC", "lesion"))),
        "case",
    )


@pytest.fixture
def nodes(slicer_harness: Harness, small_study: Study) -> Any:
    """``small_study`` as nodes of the scene."""
    from REACTKDSlicer.sample_case import add_study

    return add_study(small_study)


@pytest.fixture
def beside(package_folder: Path, runner: FakeRunner, small_study: Study) -> Iterator[Any]:
    """The panel with a main window, two studies in the scene, the worker and the harness."""
    with installed(main_window=True) as harness:
        from REACTKDSlicer.sample_case import add_study

        widget, worker = harness.load_module(MODULE), FakeWorker(runner)
        widget.panel.runs.worker, widget.panel.ensure = worker, lambda needed: False
        widget.parent.enter()
        widget.panel.parameters.model_package = str(package_folder)
        yield widget.panel, [add_study(small_study) for _ in range(2)], worker, harness
        widget.cleanup()
