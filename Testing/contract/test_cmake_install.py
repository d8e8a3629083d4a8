"""The extension, built and installed by CMake against a stub of Slicer, works where it lands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cmake_lists import REPOSITORY, files_on_disk

STUB = Path(__file__).parent / "stub_slicer"
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")


def run(*command: str, cwd: Path | None = None) -> str:
    # No path of the source tree may help the installed one.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flat folder of modules after configure, build and install."""
    cmake = shutil.which(
        "cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert cmake is not None, "cmake is missing; install the development requirements"
    folder = tmp_path_factory.mktemp("extension")
    build, prefix = folder / "build", folder / "installed"
    run(cmake, "-S", str(REPOSITORY), "-B", str(build), f"-DSlicer_DIR={STUB}")
    run(cmake, "--build", str(build))
    run(cmake, "--install", str(build), "--prefix", str(prefix))
    return prefix / MODULES


def test_installs_what_the_lists_name_and_nothing_else(installed):
    expected = {
        *files_on_disk("REACTKD"),
        *(f"REACTKDLib/{name}" for name in files_on_disk("REACTKDLib")),
        *(f"Resources/{name}" for name in files_on_disk("Resources")),
    }
    found = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    assert found == expected


def test_library_and_resources_work_from_the_installed_tree(installed):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import REACTKDLib, REACTKDLib.pipeline\n"
        "from REACTKDLib.model_package import load_package\n"
        "from REACTKDLib.resources import resource_path\n"
        "print(REACTKDLib.__file__)\n"
        "print(resource_path('UI/REACTKD.ui'))\n"
        "print(load_package().path)\n"
        "assert 'torch' not in sys.modules\n"
    )
    out = run(sys.executable, "-c", program, str(installed), cwd=installed.parent).splitlines()
    assert out[0] == str(installed / "REACTKDLib" / "__init__.py")
    assert out[1] == str(installed / "Resources" / "UI" / "REACTKD.ui")
    assert out[2].startswith(str(installed / "Resources" / "Models"))
