"""How packages come into Slicer: the PyTorch extension, Slicer's pip, a folder of wheels."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from REACTKDLib.errors import EnvironmentProblem


@pytest.fixture
def installer(slicer_harness):
    from REACTKDSlicer import installer

    return installer


@pytest.fixture
def closed_port(monkeypatch):
    """pip asks an index at a port of this machine where nobody listens."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pytorch_extension(monkeypatch):
    """The extension PyTorch; a test sets ``install``."""

    class Logic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            return module.install(askConfirmation, torchVersionRequirement)

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = Logic
    module.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return module


def write_wheel(
    folder: Path, name: str, version: str, requires: str = "", module: str = ""
) -> Path:
    """A wheel with one module, ``<name>.py`` or another."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{module or name}.py": f"tiny = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


def tiny_wheels(folder: Path) -> Path:
    """torch and safetensors as wheels of a few bytes, in the versions that are pinned here."""
    for name in ("torch", "safetensors"):
        write_wheel(folder, name, importlib.metadata.version(name))
    return folder


def real_pip(target: Path):
    """``slicer.util.pip_install`` as in Slicer, but into a folder of the test."""

    def pip_install(requirements: list[str]) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
        # As in Slicer, the exception does not say why.
        done = subprocess.run([*command, *requirements], capture_output=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "pip install")

    return pip_install


def test_without_the_pytorch_extension_the_advice_is_to_install_it(installer):
    with pytest.raises(EnvironmentProblem, match=r"PyTorch.*Extensions Manager"):
        installer.SlicerInstaller().check(True)
    installer.SlicerInstaller().check(False)


def test_torch_comes_through_the_pytorch_extension(installer, pytorch_extension, tmp_path):
    asked = []

    def install(*arguments):
        asked.append(arguments)
        return object()

    pytorch_extension.install = install
    of_slicer = installer.SlicerInstaller()
    of_slicer.check(True)
    assert of_slicer.install_torch(">=2", tmp_path / "constraints.txt")
    assert asked == [(False, ">=2")]
    pytorch_extension.install = lambda *arguments: None
    assert not of_slicer.install_torch(">=2", tmp_path / "constraints.txt"), "declined"


def test_the_pytorch_extensions_pip_keeps_to_the_constraints(
    installer, pytorch_extension, tmp_path, closed_port
):
    """Also where the temporary folder has a space, which pip would take for two files."""
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "bundled", version)
    write_wheel(wheels, "torch", "3.0", requires="bundled")
    constraints = tmp_path / "Jane Doe" / "constraints.txt"
    constraints.parent.mkdir()
    constraints.write_text("bundled==1.0\n", encoding="utf-8")

    def install(ask, version):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
        command += ["--find-links", str(wheels), "--target", str(target), f"torch{version}"]
        subprocess.run(command, check=True)
        return object()

    pytorch_extension.install = install
    assert installer.SlicerInstaller().install_torch(">=2", constraints)
    assert (target / "bundled.py").read_text(encoding="utf-8") == "tiny = '1.0'\n"
    assert "PIP_CONSTRAINT" not in os.environ


def test_slicer_asks_in_a_dialog(installer, slicer_harness):
    import qt

    slicer_harness.dialogs.answers += [qt.QMessageBox.Cancel, qt.QMessageBox.Ok]
    of_slicer = installer.SlicerInstaller()
    assert [of_slicer.confirm("Install?"), of_slicer.confirm("Really?")] == [False, True]
    assert slicer_harness.dialogs.texts == ["Install?", "Really?"]


def test_other_packages_come_through_slicers_pip(installer, monkeypatch, tmp_path):
    import slicer

    calls = []
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda *a, **k: calls.append((a, k)))
    installer.SlicerInstaller().install(["safetensors>=1"], tmp_path)
    ((arguments, keywords),) = calls
    assert arguments == (["safetensors>=1"],)
    assert keywords == {
        "constraints": tmp_path,
        "prompt_install": False,
        "prompt_restart": False,
        "requester": "REACTKD",
    }


def test_before_slicer_5_12_pip_gets_the_constraints_as_arguments(installer, monkeypatch, tmp_path):
    import slicer

    calls = []
    monkeypatch.delitem(sys.modules, "slicer.packaging")
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    installer.SlicerInstaller().install(["safetensors>=1"], tmp_path)
    assert calls == [["--constraint", str(tmp_path), "safetensors>=1"]]


def test_the_wheel_folder_is_a_setting_and_the_environment_comes_first(
    installer, monkeypatch, tmp_path
):
    import slicer

    monkeypatch.delenv("REACTKD_WHEELS", raising=False)
    assert installer.wheel_folder() is None
    slicer.app.settings().setValue("REACTKD/WheelFolder", str(tmp_path))
    assert installer.wheel_folder() == tmp_path
    assert installer.SlicerInstaller().folder == tmp_path
    monkeypatch.setenv("REACTKD_WHEELS", str(tmp_path / "other"))
    assert installer.wheel_folder() == tmp_path / "other"


def test_a_wheel_folder_without_wheels_is_told_before_anything_is_asked(installer, tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(EnvironmentProblem, match="holds no wheels"):
            installer.SlicerInstaller(folder).check(True)


def test_all_is_installed_from_a_wheel_folder_without_a_network(
    installer, monkeypatch, tmp_path, slicer_harness, closed_port
):
    """The real pip with the real command line, into a folder of the test."""
    import qt
    import slicer
    from REACTKDSlicer.dependencies import REQUIREMENTS, ensure_dependencies

    target = tmp_path / "target"
    monkeypatch.setenv("REACTKD_WHEELS", str(tiny_wheels(tmp_path / "our wheels")))
    monkeypatch.setenv("PYTHONPATH", str(target))  # for the process that tries to import
    monkeypatch.setattr(slicer.util, "pip_install", real_pip(target))
    slicer_harness.dialogs.answers.append(qt.QMessageBox.Ok)

    def find(name: str):
        return importlib.machinery.PathFinder.find_spec(name, [str(target)])

    assert ensure_dependencies(installer.SlicerInstaller(), REQUIREMENTS, find)
    assert (target / "torch.py").is_file()
    assert (target / "safetensors.py").is_file()
    (question,) = slicer_harness.dialogs.texts
    assert f"from the folder {tmp_path / 'our wheels'}, without a network" in question
    assert "package index" not in question


def test_a_wheel_that_is_missing_is_named(installer, monkeypatch, tmp_path, closed_port):
    import slicer

    write_wheel(tmp_path / "wheels", "tiny", "1.0", requires="surely_absent")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("", encoding="utf-8")
    monkeypatch.setattr(slicer.util, "pip_install", real_pip(tmp_path / "target"))
    of_slicer = installer.SlicerInstaller(tmp_path / "wheels")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        of_slicer.install(["tiny>=1"], constraints)
    problem = of_slicer.problem(caught.value)
    assert f"wheel folder {tmp_path / 'wheels'} failed" in problem.message
    assert "No matching distribution found for surely" in problem.message
    assert "docs/installing.md" in problem.advice


def test_offline_is_told_as_such(installer, closed_port):
    """Slicer's pip says only that it failed; the reason comes from asking pip again."""
    problem = installer.SlicerInstaller().problem(subprocess.CalledProcessError(1, "pip install"))
    assert "pip cannot reach the Python package index" in problem.message
    assert "Connection refused" in problem.message
    assert "object at 0x" not in problem.message
    assert "wheel folder" in problem.advice


def test_another_failure_is_told_with_pips_last_error(installer, monkeypatch):
    monkeypatch.setattr(installer, "_run_python", lambda *arguments: (0, ""))
    error = subprocess.CalledProcessError(1, "pip", output="a\nERROR: No space left on device.\nb")
    problem = installer.SlicerInstaller().problem(error)
    assert problem.message == "The installation failed: No space left on device."


def test_importing_is_tried_in_a_process_of_its_own(installer):
    of_slicer = installer.SlicerInstaller()
    assert of_slicer.import_problem(["json", "math"]) == ""
    assert "No module named 'not_there'" in of_slicer.import_problem(["json", "not_there"])


def test_a_slicer_without_its_python_is_told(installer, slicer_harness, tmp_path):
    slicer_harness.app.slicerHome = str(tmp_path)
    assert "PythonSlicer" in installer.SlicerInstaller().import_problem(["json"])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "no reason given"),
        (["WARNING: x", "last."], "last"),
        (["ERROR: first", "ERROR: second.", "hint"], "second"),
        (["x" * 1000], "x" * 300 + "..."),
    ],
)
def test_the_reason_is_one_line(installer, lines, reason):
    assert installer.complaint(lines) == reason


def test_a_wheel_folder_is_chosen_in_the_panel(widget, installer, monkeypatch, tmp_path):
    import qt

    ui = widget.panel.ui
    assert ui.wheelFolderValue.text == "the network"
    assert not ui.wheelClearButton.enabled
    answers = iter(["", str(tmp_path)])
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: next(answers))
    ui.wheelFolderButton.click()  # and Cancel
    assert installer.wheel_folder() is None
    ui.wheelFolderButton.click()
    assert installer.wheel_folder() == tmp_path
    assert installer.SlicerInstaller().folder == tmp_path
    assert ui.wheelFolderValue.text == tmp_path.name
    assert ui.wheelFolderValue.toolTip == str(tmp_path)
    ui.wheelClearButton.click()
    assert installer.wheel_folder() is None
    assert ui.wheelFolderValue.text == "the network"
