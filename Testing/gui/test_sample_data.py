"""Sample Data offers cases to try: registered at start-up, made or fetched on a click."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK
from fakes import MODULE
from harness.sample_data import click

from REACTKDLib import example_data

SIMULATED, NATIVE, CONTRAST, CT_LIVER = (
    "Simulated patient (CT, PET)",
    "Native CT (38 MB)",
    "Contrast CT (38 MB)",
    "Slicer's CTLiver (not segmented)",
)


@pytest.fixture
def registered(slicer_harness):
    """REACTKD loaded, start-up complete; the sources of its category."""
    import slicer

    slicer_harness.load_module(MODULE)
    assert not hasattr(slicer.modules, "sampleDataSources"), "registered before start-up ended"
    slicer_harness.app.complete_startup()
    return slicer.modules.sampleDataSources["REACT-KD"]


@pytest.fixture
def cached_cases(monkeypatch, tmp_path):
    """In the place of the download: a small CT and a label map with the real one's values."""
    monkeypatch.setenv("REACTKD_CACHE", str(tmp_path))
    folder = tmp_path / f"{example_data.PACKAGE}-{example_data.VERSION}"
    folder.mkdir()
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:4, 1:5, 1:6], labels[0, 0, 0] = 5, 1
    for name, array in (
        ("example_ct.nii.gz", (labels * 10).astype(np.int16)),
        ("example_seg_fast_force_split.nii.gz", labels),
    ):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / name))
    return folder


def test_the_samples_are_registered_once(registered, slicer_harness):
    names = [SIMULATED, NATIVE, CONTRAST, CT_LIVER]
    assert [source.sampleName for source in registered] == names
    assert all(source.uris == [] for source in registered)
    slicer_harness.app.complete_startup()
    assert len(registered) == 4


def test_registering_imports_nothing_heavy():
    """Loading the module and completing start-up, in a process of its own."""
    program = f"""
import sys
from pathlib import Path
from harness import installed
with installed() as harness:
    before = set(sys.modules)
    harness.load_module(Path({str(MODULE)!r}))
    harness.app.complete_startup()
    import slicer
    assert slicer.modules.sampleDataSources["REACT-KD"]
    heavy = {{"torch", "monai", "scipy", "SimpleITK", "safetensors", "sklearn"}}
    loaded = heavy & {{n.partition(".")[0] for n in set(sys.modules) - before}}
    assert not loaded, loaded
"""
    environment_path = [
        str(MODULE.parent),
        str(MODULE.parents[1]),
        str(MODULE.parents[1] / "Testing"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {environment_path!r}\n{program}"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_without_sample_data_the_module_loads(slicer_harness, monkeypatch):
    import slicer

    monkeypatch.setitem(sys.modules, "SampleData", None)  # as if the module were not there
    slicer_harness.load_module(MODULE)
    slicer_harness.app.complete_startup()
    assert not hasattr(slicer.modules, "sampleDataSources")


def test_a_simulated_patient_is_made_on_the_spot(registered, small_study, monkeypatch):
    import slicer
    from REACTKDSlicer import sample_case

    monkeypatch.setattr(sample_case, "simulated_study", lambda: small_study)
    nodes = click(SIMULATED)
    assert nodes.ct.GetScene() is slicer.mrmlScene
    assert [nodes.pet[name].GetName() for name in nodes.pet] == ["case pet_fdg"]
    assert nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 2


def test_a_sample_can_be_run_at_once(registered, small_study, monkeypatch):
    """The names of the segments are those that the module's table understands."""
    from REACTKDSlicer import sample_case
    from REACTKDSlicer.logic import package_of, segments_used, stored_package_name

    from REACTKDLib.model_package import shipped_packages

    monkeypatch.setattr(sample_case, "simulated_study", lambda: small_study)
    package = package_of(stored_package_name(shipped_packages()[0]))
    used = segments_used(click(SIMULATED).segmentation, package)
    assert {segment.role for segment in used} == {"liver", "lesion"}


def test_a_real_ct_comes_with_its_liver(registered, cached_cases):
    import slicer
    from REACTKDSlicer.logic import package_of, segments_used, stored_package_name

    from REACTKDLib.model_package import shipped_packages

    nodes = click(NATIVE)
    assert nodes.ct.GetName() == "native_ct_nifti CT"
    assert slicer.util.arrayFromVolume(nodes.ct).max() == 50
    package = package_of(stored_package_name(shipped_packages()[0]))
    (liver,) = segments_used(nodes.segmentation, package)
    assert (liver.name, liver.role) == ("liver", "liver")


def test_a_download_that_fails_is_told_and_adds_nothing(registered, monkeypatch, tmp_path, caplog):
    import slicer

    monkeypatch.setenv("REACTKD_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    before = slicer.mrmlScene.GetNumberOfNodes()
    assert click(CONTRAST) is None
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert "could not fetch" in caplog.text  # without a window, Slicer logs what it would show
    assert "proxy" in caplog.text


def test_ct_liver_is_slicer_s_own_by_its_name(registered, small_study, monkeypatch):
    """Neither address nor checksum is ours: Slicer's list has them."""
    import SampleData
    from harness import sample_data
    from REACTKDSlicer.sample_case import _add_volume

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        "BuiltIn", "CTLiver", "https://slicer.invalid/CTLiver.nrrd", "CTLiver.nrrd", "CTLiver"
    )
    monkeypatch.setitem(
        sample_data.downloads, "CTLiver", lambda: [_add_volume(small_study.ct, "CTLiver")]
    )
    assert click(CT_LIVER).GetName() == "CTLiver"


def test_a_slicer_without_ct_liver_says_so(registered, caplog):
    assert click(CT_LIVER) is None
    assert "no sample CTLiver" in caplog.text
