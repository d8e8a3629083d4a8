"""What a prognosis needs beyond a grade: asked for at "Compute prognosis", and not at Apply."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.metadata

import pytest
from fakes import REPOSITORY
from prognosis_fakes import fake_metadata, with_text, write_fake_prognosis
from test_clinical_table import type_into
from test_dependencies import FakeInstaller, FakePython
from test_installer import real_pip, tiny_wheels, write_wheel
from test_panel import choose

from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings
from REACTKDLib.prognosis.types import CLINICAL, CT

RUN = ["torch", "safetensors"]


@pytest.fixture
def names(slicer_harness):
    """Of the packages that a model needs with some inputs."""
    from REACTKDSlicer.requirements import prognosis_requirements

    def names_of(metadata, images=True, text=False):
        return [r.name for r in prognosis_requirements(metadata, images, text)]

    return names_of


def with_wavelets(metadata):
    """The same model with features of filtered images."""
    settings = RadiomicsSettings(image_types=("original", "wavelet"), spacing_mm=(6.0, 6.0, 6.0))
    return dataclasses.replace(metadata, radiomics=settings)


def test_radiomics_need_more_than_a_grade(names):
    metadata = fake_metadata()
    assert names(metadata) == [*RUN, "scikit-image"]
    assert names(with_wavelets(metadata)) == [*RUN, "scikit-image", "PyWavelets"]
    assert names(with_wavelets(metadata), images=False) == RUN
    textures = dataclasses.replace(metadata.radiomics, classes=("glcm",))
    assert names(dataclasses.replace(metadata, radiomics=textures)) == RUN
    network = dataclasses.replace(metadata.network, modalities=(CT, CLINICAL))
    assert names(with_wavelets(dataclasses.replace(metadata, network=network))) == RUN


def test_a_language_model_is_needed_where_there_is_a_text(names):
    metadata = with_text(fake_metadata())
    assert names(metadata, images=False) == RUN
    assert names(metadata, images=False, text=True) == [*RUN, "transformers"]
    spec = dataclasses.replace(metadata.text, reads="record")
    record = dataclasses.replace(metadata, text=spec)
    assert names(record, images=False) == [*RUN, "transformers"]
    assert names(fake_metadata(), images=False, text=True) == RUN


def test_versions_are_those_of_the_library(slicer_harness):
    """What Slicer is asked for is what pip installs elsewhere."""
    from REACTKDSlicer import requirements

    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in (*requirements.REQUIREMENTS, *requirements.OF_SOME_MODELS):
        assert f'"{requirement.specifier}"' in project


@pytest.fixture
def asking(widget, nodes, tmp_path):
    """The panel with a model that reads wavelets, a Slicer that has only what grades need, and
    the installer."""
    from REACTKDSlicer.dependencies import ensure_dependencies

    python = FakePython(*RUN)
    installer = FakeInstaller(python)
    panel = widget.panel
    panel.ensure = lambda needed: ensure_dependencies(installer, needed, python.find)
    folder = write_fake_prognosis(tmp_path / "fake", with_wavelets(fake_metadata()))
    panel.parameters.prognosis_package = str(folder)
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    return panel, installer


def test_apply_does_not_ask_for_what_a_prognosis_needs(asking):
    panel, installer = asking
    panel.ui.applyButton.click()
    assert panel.results.shown is not None
    assert installer.questions == []


def test_one_question_at_compute_prognosis(asking):
    panel, installer = asking
    installer.python.present.remove("safetensors")
    closed = panel.runs.worker.closed
    panel.ui.prognosisButton.click()
    (question,) = installer.questions
    for line in ("safetensors>=0.4  (1 MB)", "scikit-image>=0.24  (", "PyWavelets>=1.6  ("):
        assert line in question
    assert installer.installed == ["safetensors>=0.4", "scikit-image>=0.24", "PyWavelets>=1.6"]
    assert panel.prognosis.view.shown is not None
    assert panel.runs.worker.closed == closed + 1, "a worker that runs sees nothing of them"


def test_without_the_ct_nothing_more_is_asked(asking):
    panel, installer = asking
    panel.ui.prognosisImageCheckBox.checked = False
    panel.ui.prognosisButton.click()
    assert panel.prognosis.view.shown is not None
    assert installer.questions == []


def test_declining_leaves_all_as_it_was(asking, slicer_harness):
    panel, installer = asking
    installer.agree = False
    before = slicer_harness.scene.GetNumberOfNodes()
    panel.ui.prognosisButton.click()
    assert panel.ui.prognosisStatusLabel.text.startswith(
        "REACTKD needs scikit-image, PyWavelets; nothing was installed."
    )
    assert slicer_harness.scene.GetNumberOfNodes() == before
    assert panel.runs.worker.jobs == []
    assert panel.ui.prognosisButton.enabled
    installer.agree = True
    panel.ui.prognosisButton.click()
    assert panel.prognosis.view.shown is not None


def test_they_come_from_a_wheel_folder_and_keep_slicers_pillow(
    monkeypatch, tmp_path, slicer_harness
):
    """The real pip; scikit-image depends on pillow, and the folder has a newer one."""
    import qt
    import slicer
    from REACTKDSlicer.dependencies import ensure_dependencies
    from REACTKDSlicer.installer import SlicerInstaller
    from REACTKDSlicer.requirements import prognosis_requirements

    wheels, target = tiny_wheels(tmp_path / "wheels"), tmp_path / "target"
    pillow = importlib.metadata.version("pillow")
    write_wheel(wheels, "scikit_image", "0.25", requires="pillow>=10.1", module="skimage")
    write_wheel(wheels, "pywavelets", "1.8", module="pywt")
    for version in (pillow, "99.0"):
        write_wheel(wheels, "pillow", version, module="PIL")
    monkeypatch.setenv("PYTHONPATH", str(target))  # for the process that tries to import
    monkeypatch.setattr(slicer.util, "pip_install", real_pip(target))
    slicer_harness.dialogs.answers.append(qt.QMessageBox.Ok)

    def find(name: str):
        return importlib.machinery.PathFinder.find_spec(name, [str(target)])

    needed = prognosis_requirements(with_wavelets(fake_metadata()), images=True, text=False)
    assert ensure_dependencies(SlicerInstaller(wheels), needed, find)
    for name in ("torch", "safetensors", "skimage", "pywt"):
        assert (target / f"{name}.py").is_file()
    assert (target / "PIL.py").read_text(encoding="utf-8") == f"tiny = {pillow!r}\n"
    (question,) = slicer_harness.dialogs.texts
    assert "scikit-image>=0.24" in question
    assert f"from the folder {wheels}" in question
