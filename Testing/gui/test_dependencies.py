"""Missing Python packages: asked once, never replacing Slicer's own, declined without harm."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import socket
import sys

import numpy as np
import pytest
from fakes import REPOSITORY
from harness.waiting import wait_until

from REACTKDLib.errors import EnvironmentProblem

#: Third-party packages that Slicer brings along.
BUNDLED = {"numpy", "scipy", "SimpleITK", "pydicom"}
#: Of packages whose module has another name.
MODULES = {"PyWavelets": "pywt", "scikit-image": "skimage"}


@pytest.fixture
def dependencies(slicer_harness):
    from REACTKDSlicer import dependencies

    return dependencies


class FakePython:
    """Which modules can be found; installing makes them so."""

    def __init__(self, *present: str) -> None:
        self.present = set(present)

    def find(self, name: str) -> object | None:
        return object() if name in self.present else None


class FakeInstaller:
    """Answers, and what it was asked to do."""

    source = "They come from nowhere."

    def __init__(self, python: FakePython, agree: bool = True, torch: bool = True) -> None:
        self.python, self.agree, self.torch = python, agree, torch
        self.questions: list[str] = []
        self.installed: list[str] = []
        self.constraints = ""
        self.error: Exception | None = None
        self.import_error = ""

    def check(self, torch_is_missing: bool) -> None:
        assert torch_is_missing == ("torch" not in self.python.present)

    def confirm(self, text: str) -> bool:
        self.questions.append(text)
        return self.agree

    def install_torch(self, version: str, constraints) -> bool:
        if self.torch:
            self.installed.append(f"torch{version}")
            self.python.present.add("torch")
        return self.torch

    def install(self, specifiers, constraints) -> None:
        if self.error is not None:
            raise self.error
        self.installed += specifiers
        self.constraints = constraints.read_text(encoding="utf-8")
        names = [specifier.partition(">")[0] for specifier in specifiers]
        self.python.present |= {MODULES.get(name, name) for name in names}

    def problem(self, error: Exception) -> EnvironmentProblem:
        return EnvironmentProblem(f"Because of {error}.", "Do something.")

    def import_problem(self, modules) -> str:
        return self.import_error


def ensure(dependencies, installer, *arguments, **keywords):
    """As Apply asks for the packages of a run."""
    return dependencies.ensure_dependencies(
        installer, dependencies.REQUIREMENTS, *arguments, **keywords
    )


def test_nothing_is_asked_when_nothing_is_missing(dependencies):
    python = FakePython("torch", "safetensors")
    installer = FakeInstaller(python)
    ensure(dependencies, installer, python.find)
    assert installer.questions == []


def test_one_question_names_all_that_is_installed(dependencies):
    python = FakePython()
    installer = FakeInstaller(python)
    ensure(dependencies, installer, python.find)
    (question,) = installer.questions
    assert installer.installed == [r.specifier for r in dependencies.REQUIREMENTS]
    assert installer.source in question
    assert all(r.specifier in question and r.size in question for r in dependencies.REQUIREMENTS)


def test_packages_that_slicer_relies_on_are_pinned(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    ensure(dependencies, installer, python.find)
    assert len(installer.installed) == 1
    pins = dict(line.split("==") for line in installer.constraints.splitlines())
    for name in ("numpy", "scipy", "SimpleITK", "torch", "pillow"):
        assert pins[name] == importlib.metadata.version(name)


def test_a_package_without_metadata_is_not_pinned(dependencies):
    def version(name: str) -> str:
        if name == "vtk":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2"

    assert "numpy==1.2" in dependencies.constraint_lines(version)
    assert not any(line.startswith("vtk") for line in dependencies.constraint_lines(version))


def test_a_package_that_is_too_old_is_installed_anew(dependencies):
    python, installed = FakePython("torch", "safetensors"), {"torch": "2.8.0", "safetensors": "0.3"}
    installer = FakeInstaller(python)
    install = installer.install

    def renew(specifiers, constraints):
        install(specifiers, constraints)
        installed["safetensors"] = "0.6"

    installer.install = renew
    assert ensure(dependencies, installer, python.find, version=installed.__getitem__)
    assert installer.installed == ["safetensors>=0.4"]
    assert "not new enough" in installer.questions[0]
    installed["safetensors"] = "0.3"
    installer.install = install  # pip did nothing
    with pytest.raises(EnvironmentProblem, match="safetensors"):
        ensure(dependencies, installer, python.find, version=installed.__getitem__)


@pytest.mark.parametrize("version", ["2.4.0", "2.4.1+cu124", "2.10.0.dev20260101", "3.0"])
def test_a_version_that_is_new_enough_is_left(dependencies, version):
    python, installer = FakePython("torch", "safetensors"), FakeInstaller(FakePython())
    versions = {"torch": version, "safetensors": "0.4"}
    assert not ensure(dependencies, installer, python.find, version=versions.__getitem__)
    assert installer.questions == []


def test_a_torch_that_is_too_old_is_told_with_what_to_do(dependencies):
    python = FakePython("torch", "safetensors")
    versions = {"torch": "2.3.1+cpu", "safetensors": "0.6"}
    installer = FakeInstaller(python)
    with pytest.raises(EnvironmentProblem, match=r"2\.3\.1\+cpu is too old") as caught:
        ensure(dependencies, installer, python.find, version=versions.__getitem__)
    assert "torch>=2.4" in caught.value.message
    assert "Uninstall it in the module of the extension PyTorch" in caught.value.advice
    assert installer.questions == []


def test_declining_installs_nothing(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python, agree=False)
    with pytest.raises(dependencies.InstallationDeclined, match="safetensors; nothing was"):
        ensure(dependencies, installer, python.find)
    assert installer.installed == []


def test_declining_torch_stops(dependencies):
    python = FakePython()
    installer = FakeInstaller(python, torch=False)
    with pytest.raises(dependencies.InstallationDeclined, match="PyTorch"):
        ensure(dependencies, installer, python.find)
    assert installer.installed == []


def test_an_installation_without_effect_is_told(dependencies):
    """As under ``--testing``, where Slicer's pip_ensure installs nothing and says nothing."""
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.install = lambda specifiers, constraints: None
    with pytest.raises(EnvironmentProblem, match=r"safetensors.*Restart Slicer"):
        ensure(dependencies, installer, python.find)


def test_a_failed_installation_ends_in_what_the_installer_says_of_it(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.error = RuntimeError("pip")
    with pytest.raises(EnvironmentProblem, match=r"Because of pip\. Do something"):
        ensure(dependencies, installer, python.find)


def test_a_replaced_package_of_slicer_is_told_with_the_way_back(dependencies):
    python = FakePython("torch")
    versions = iter([{"numpy": "2.4.6", "simpleitk": "2.5.5"}, {"numpy": "2.5.0"}])
    with pytest.raises(dependencies.PackagesReplaced) as caught:
        ensure(dependencies, FakeInstaller(python), python.find, lambda: next(versions))
    assert "numpy 2.4.6 -> 2.5.0, SimpleITK 2.5.5 -> gone" in caught.value.message
    assert "pip_install('numpy==2.4.6 SimpleITK==2.5.5')" in caught.value.advice


def test_a_replaced_package_is_told_even_when_the_installation_failed(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.error = RuntimeError("pip")
    versions = iter([{"numpy": "2.4.6"}, {"numpy": "1.26"}])
    with pytest.raises(dependencies.PackagesReplaced, match=r"2\.4\.6 -> 1\.26"):
        ensure(dependencies, installer, python.find, lambda: next(versions))


def test_versions_are_those_of_the_installed_packages(dependencies):
    versions = dependencies.installed_versions()
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert versions["simpleitk"] == importlib.metadata.version("SimpleITK")


def test_a_restart_is_asked_for_when_a_loaded_package_was_replaced(dependencies, slicer_harness):
    python = FakePython("torch")
    assert "pytest" in sys.modules
    versions = iter([{"pytest": "1.0", "never-imported": "1.0"}, {"pytest": "2.0"}])
    with pytest.raises(dependencies.RestartNeeded, match=r"old version of pytest\. Save the scene"):
        ensure(dependencies, FakeInstaller(python), python.find, lambda: next(versions))


def test_no_restart_when_nothing_that_is_loaded_was_replaced(dependencies, slicer_harness):
    python = FakePython("torch")
    versions = iter([{"never-imported": "1.0"}, {"never-imported": "2.0", "pytest": "1.0"}])
    installer = FakeInstaller(python)
    assert ensure(dependencies, installer, python.find, lambda: next(versions))
    assert dependencies.note_after_restart() == ""


def test_a_restart_is_asked_for_when_importing_still_fails(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.import_error = "OSError: c10.dll"
    with pytest.raises(dependencies.RestartNeeded, match=r"importing fails: OSError: c10\.dll\."):
        ensure(dependencies, installer, python.find)


def test_after_the_restart_the_panel_can_say_so_once(dependencies, monkeypatch):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.import_error = "OSError"
    with pytest.raises(dependencies.RestartNeeded):
        ensure(dependencies, installer, python.find)
    assert dependencies.note_after_restart() == "", "still the session that asked"
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)  # as after a restart
    monkeypatch.setattr(dependencies, "missing_requirements", lambda *arguments: ())
    assert (
        dependencies.note_after_restart()
        == "Installation finished; press Apply or Compute prognosis to go on."
    )
    assert dependencies.note_after_restart() == ""


def test_the_panel_tells_of_a_failed_installation_and_works_on(widget, nodes, dependencies):
    """What ``apply`` calls is the real function; the panel stays usable after each ending."""
    import slicer

    python = FakePython("torch")
    installer = FakeInstaller(python, agree=False)
    panel = widget.panel
    panel.ensure = lambda needed: dependencies.ensure_dependencies(installer, needed, python.find)
    panel.parameters.ct, panel.parameters.segmentation = nodes.ct, nodes.segmentation
    panel.apply()
    assert "nothing was installed" in panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled
    installer.agree, installer.error = True, RuntimeError("no disk")
    panel.apply()
    assert "Because of no disk." in panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled
    installer.error = None
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel.apply()
    assert slicer.mrmlScene.GetNumberOfNodes() > before, "the run was done"


def test_a_broken_torch_ends_a_run_with_its_reason(widget, nodes, monkeypatch, tmp_path):
    """It breaks in the worker process, never in Slicer; the panel works on."""
    import slicer
    from REACTKDSlicer.worker_process import WorkerProcess

    from REACTKDLib.model_package import load_package

    hu = slicer.util.arrayFromVolume(nodes.ct)
    hu[:] = 60 + 20 * np.sin(np.arange(hu.size)).reshape(hu.shape)  # like a liver
    hu[0] = -900

    (tmp_path / "torch").mkdir()
    code = "raise OSError('c10 cannot be loaded')"
    (tmp_path / "torch" / "__init__.py").write_text(code, encoding="utf-8")
    # As in Slicer, where nothing but torch could run the network.
    code = "import sys; sys.modules['onnx'] = None"
    (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    panel = widget.panel
    panel.runs.worker = WorkerProcess()
    panel.parameters.model_package = str(load_package().path)  # its weights are read before torch
    panel.parameters.ct, panel.parameters.segmentation = nodes.ct, nodes.segmentation
    panel.apply()
    wait_until(lambda: not panel.runs.busy, 300)
    assert "c10 cannot be loaded" in panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled


def test_a_model_package_from_a_folder_needs_no_network(widget, nodes, package_folder, monkeypatch):
    """Choosing a folder, verifying and running: not one socket is opened."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    parameters = widget.panel.parameters
    parameters.model_package = str(package_folder)
    parameters.ct, parameters.segmentation = nodes.ct, nodes.segmentation
    widget.panel.apply()
    assert widget.panel.runs.worker.jobs[0].package == str(package_folder)


def test_the_library_imports_only_what_is_bundled_or_asked_for(dependencies):
    """What a run imports; what only the command line does, with its extras, is no part of a run."""
    from REACTKDSlicer import requirements

    commands = re.compile(r"REACTKDLib/(cli|push|batch|dicom_output)")
    faster_where_installed = {"zlib_ng", "onnx", "onnxruntime", "openvino"}
    asked_for = (*dependencies.REQUIREMENTS, *requirements.OF_SOME_MODELS)
    allowed = BUNDLED | faster_where_installed | {r.module for r in asked_for}
    for path in (REPOSITORY / "REACTKDLib").rglob("*.py"):
        if commands.match(path.relative_to(REPOSITORY).as_posix()):
            continue
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
        assert names - set(sys.stdlib_module_names) <= allowed, path
