"""Missing Python packages: asked once, never replacing Slicer's own, declined without harm."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import types

import pytest
from fakes import REPOSITORY

from REACTKDLib.errors import EnvironmentProblem

#: Third-party packages that Slicer brings along.
BUNDLED = {"numpy", "scipy", "SimpleITK", "pydicom"}


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

    def __init__(self, python: FakePython, agree: bool = True, torch: bool = True) -> None:
        self.python, self.agree, self.torch = python, agree, torch
        self.questions: list[str] = []
        self.installed: list[str] = []
        self.constraints = ""

    def confirm(self, text: str) -> bool:
        self.questions.append(text)
        return self.agree

    def install_torch(self, specifier: str) -> bool:
        if self.torch:
            self.installed.append(f"torch{specifier}")
            self.python.present.add("torch")
        return self.torch

    def install(self, specifiers, constraints) -> None:
        self.installed += specifiers
        self.constraints = constraints.read_text(encoding="utf-8")
        self.python.present |= {s.partition(">")[0] for s in specifiers}


def test_nothing_is_asked_when_nothing_is_missing(dependencies):
    python = FakePython("torch", "safetensors")
    installer = FakeInstaller(python)
    dependencies.ensure_dependencies(installer, python.find)
    assert installer.questions == []


def test_one_question_names_all_that_is_installed(dependencies):
    python = FakePython()
    installer = FakeInstaller(python)
    dependencies.ensure_dependencies(installer, python.find)
    (question,) = installer.questions
    assert installer.installed == [r.specifier for r in dependencies.REQUIREMENTS]
    assert all(r.specifier in question and r.size in question for r in dependencies.REQUIREMENTS)


def test_packages_that_slicer_relies_on_are_pinned(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python)
    dependencies.ensure_dependencies(installer, python.find)
    assert len(installer.installed) == 1
    pins = dict(line.split("==") for line in installer.constraints.splitlines())
    for name in ("numpy", "scipy", "SimpleITK", "torch"):
        assert pins[name] == importlib.metadata.version(name)


def test_a_package_without_metadata_is_not_pinned(dependencies):
    def version(name: str) -> str:
        if name == "vtk":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2"

    assert "numpy==1.2" in dependencies.constraint_lines(version)
    assert not any(line.startswith("vtk") for line in dependencies.constraint_lines(version))


def test_declining_installs_nothing(dependencies):
    python = FakePython("torch")
    installer = FakeInstaller(python, agree=False)
    with pytest.raises(dependencies.InstallationDeclined, match="safetensors; nothing was"):
        dependencies.ensure_dependencies(installer, python.find)
    assert installer.installed == []


def test_declining_torch_stops(dependencies):
    python = FakePython()
    installer = FakeInstaller(python, torch=False)
    with pytest.raises(dependencies.InstallationDeclined, match="PyTorch"):
        dependencies.ensure_dependencies(installer, python.find)
    assert installer.installed == []


def test_an_installation_without_effect_is_told(dependencies):
    """As under ``--testing``, where Slicer's pip_ensure installs nothing and says nothing."""
    python = FakePython("torch")
    installer = FakeInstaller(python)
    installer.install = lambda specifiers, constraints: None
    with pytest.raises(EnvironmentProblem, match=r"safetensors.*Restart Slicer"):
        dependencies.ensure_dependencies(installer, python.find)


def test_without_the_pytorch_extension_the_advice_is_to_install_it(dependencies):
    with pytest.raises(EnvironmentProblem, match=r"PyTorch.*Extensions Manager"):
        dependencies.SlicerInstaller().install_torch(">=2")


def test_torch_comes_through_the_pytorch_extension(dependencies, monkeypatch):
    asked = []

    class Logic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            asked.append((askConfirmation, torchVersionRequirement))
            return object()

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = Logic
    module.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    assert dependencies.SlicerInstaller().install_torch(">=2")
    assert asked == [(False, ">=2")]


def test_slicer_asks_in_a_dialog(dependencies, slicer_harness):
    import qt

    slicer_harness.dialogs.answers += [qt.QMessageBox.Cancel, qt.QMessageBox.Ok]
    installer = dependencies.SlicerInstaller()
    assert [installer.confirm("Install?"), installer.confirm("Really?")] == [False, True]
    assert slicer_harness.dialogs.texts == ["Install?", "Really?"]


def test_other_packages_come_through_slicers_pip(dependencies, monkeypatch, tmp_path):
    import slicer

    calls = []
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda *a, **k: calls.append((a, k)))
    dependencies.SlicerInstaller().install(["monai>=1"], tmp_path)
    assert calls == [
        (
            (["monai>=1"],),
            {"constraints": tmp_path, "prompt_install": False, "requester": "REACTKD"},
        )
    ]


def test_before_slicer_5_12_pip_gets_the_constraints_as_arguments(
    dependencies, monkeypatch, tmp_path
):
    import slicer

    calls = []
    monkeypatch.delitem(sys.modules, "slicer.packaging")
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    dependencies.SlicerInstaller().install(["monai>=1"], tmp_path)
    assert calls == [["--constraint", str(tmp_path), "monai>=1"]]


def test_the_library_imports_only_what_is_bundled_or_asked_for(dependencies):
    """What a run imports; the command line's own extras (tqdm) are not part of a run."""
    faster_where_installed = {"zlib_ng"}
    allowed = BUNDLED | faster_where_installed | {r.module for r in dependencies.REQUIREMENTS}
    for path in (REPOSITORY / "REACTKDLib").rglob("*.py"):
        if path.name in ("cli.py", "cli_progress.py"):
            continue
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
        assert names - set(sys.stdlib_module_names) <= allowed, path
