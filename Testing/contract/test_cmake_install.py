"""The extension, built and installed by CMake against a stub of Slicer, works where it lands."""

from __future__ import annotations

import ast
import json
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
        command, capture_output=True, encoding="utf-8", cwd=cwd, env=environment, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found is not None, f"{name} is missing; install the development requirements"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder after configure and build."""
    build = tmp_path_factory.mktemp("extension") / "build"
    run(tool("cmake"), "-S", str(REPOSITORY), "-B", str(build), f"-DSlicer_DIR={STUB}")
    run(tool("cmake"), "--build", str(build))
    return build


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """The flat folder of modules after the install."""
    prefix = built.parent / "installed"
    run(tool("cmake"), "--install", str(built), "--prefix", str(prefix))
    return prefix / MODULES


def test_the_self_test_is_registered_with_ctest(built):
    listed = json.loads(run(tool("ctest"), "--show-only=json-v1", cwd=built))["tests"]
    assert [test["name"] for test in listed] == ["py_REACTKD"]
    assert listed[0]["command"][-1] == str(REPOSITORY / "REACTKD" / "REACTKD.py")


def test_installs_what_the_lists_name_and_nothing_else(installed):
    expected = {
        *files_on_disk("REACTKD"),
        *(f"REACTKDLib/{name}" for name in files_on_disk("REACTKDLib")),
        *(f"Resources/{name}" for name in files_on_disk("Resources")),
        *(f"Resources/Documents/{name}" for name in files_on_disk("docs")),
    }
    found = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    assert found == expected


def test_library_and_resources_work_from_the_installed_tree(installed):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import REACTKDLib, REACTKDLib.pipeline\n"
        "from REACTKDLib.model_package import load_package\n"
        "from REACTKDLib.resources import document_path, resource_path\n"
        "print(REACTKDLib.__file__)\n"
        "print(resource_path('UI/REACTKD.ui'))\n"
        "print(load_package().path)\n"
        "print(document_path('installing.md'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    out = run(sys.executable, "-c", program, str(installed), cwd=installed.parent).splitlines()
    assert out[0] == str(installed / "REACTKDLib" / "__init__.py")
    assert out[1] == str(installed / "Resources" / "UI" / "REACTKD.ui")
    assert out[2].startswith(str(installed / "Resources" / "Models"))
    assert out[3] == str(installed / "Resources" / "Documents" / "installing.md")


#: Only the folder ``sys.argv[1]`` has REACTKD's modules: no editable install may help out.
ONLY_HERE = """
import importlib, sys
from pathlib import Path
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
here = Path(sys.argv[1])
sys.path.insert(0, str(here))
"""

FROM_HERE = """
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] in ("REACTKD", "REACTKDLib", "REACTKDSlicer"):
        assert here in Path(module.__file__).parents, (name, module.__file__)
"""


def test_a_simulated_patient_runs_through_the_shipped_model(installed):
    program = """
import dataclasses
from REACTKDLib.model_package import load_package
from REACTKDLib.pipeline import RunOptions, no_progress, run_case
from REACTKDLib.simulation import demo_parameters, simulate_case
parameters = demo_parameters()
scanner = dataclasses.replace(parameters.scanner, spacing_mm=(4.0, 4.0, 6.0))
case = simulate_case(dataclasses.replace(parameters, scanner=scanner), seed=1)
options = RunOptions(None, "anatomical", "cpu")
result = run_case(case.study("simulated"), load_package(), options, no_progress)
print(sum(result.probabilities.values()), len(result.regions))
"""
    out = run(
        sys.executable, "-c", ONLY_HERE + program + FROM_HERE, str(installed), cwd=installed.parent
    )
    total, regions = out.split()[-2:]
    assert abs(float(total) - 1) < 1e-6
    assert int(regions) > 2


LOAD_IN_HARNESS = """
sys.path.append(sys.argv[2])  # the harness
from harness import installed
with installed() as harness:
    widget = harness.load_module(here / "REACTKD.py")
    widget.parent.enter()
    assert widget.panel.parameters.model_package
    assert widget.panel.ui.applyButton.text == "Apply"
    harness.app.complete_startup()
    import slicer
    assert slicer.modules.sampleDataSources
"""

IMPORT_ALL = """
    for path in sorted((here / "REACTKDSlicer").rglob("*.py")):
        importlib.import_module(f"REACTKDSlicer.{path.stem}".removesuffix(".__init__"))
"""


def in_harness(installed: Path, program: str, start: str = "") -> None:
    pytest.importorskip("PySide6")
    pytest.importorskip("slicer")
    harness = str(REPOSITORY / "Testing")
    program = ONLY_HERE + start + program + FROM_HERE
    run(sys.executable, "-c", program, str(installed), harness, cwd=installed.parent)


def test_the_panel_loads_from_the_flat_folder(installed):
    in_harness(installed, LOAD_IN_HARNESS + IMPORT_ALL)


def test_the_panel_loads_where_torch_is_broken(installed, tmp_path):
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('c10 cannot be loaded')", encoding="utf-8")
    start = f"sys.path.insert(0, {str(tmp_path)!r})\n"
    check = """
try:
    import torch
except OSError:
    pass
else:
    raise AssertionError("torch is not broken")
"""
    in_harness(installed, LOAD_IN_HARNESS + check, start)


IN_SLICER = """
import runpy, types
codes = []
for name in ("slicer", "slicer.i18n", "slicer.util", "qt"):
    sys.modules[name] = types.ModuleType(name)
slicer = sys.modules["slicer"]
slicer.app, slicer.util = types.SimpleNamespace(slicerHome="nowhere"), sys.modules["slicer.util"]
slicer.util.exit, sys.modules["slicer.i18n"].tr = codes.append, str
script = here / "REACTKDSlicer" / "reactkd_batch.py"
sys.path.remove(str(here))
sys.argv = [str(script), "--", "--help"]
runpy.run_path(str(script), run_name="__main__")
assert codes == [0], codes
assert "REACTKDLib.batch_command" in sys.modules
"""


def test_the_batch_script_finds_its_library_in_the_flat_folder(installed):
    program = ONLY_HERE + IN_SLICER + FROM_HERE
    text = run(sys.executable, "-c", program, str(installed), cwd=installed.parent)
    assert "--resume" in text


def own_imports(path: Path, package: str) -> set[str]:
    """REACTKD's modules that a file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            if node.module:
                found.add(".".join([*base, node.module]))
            else:  # "from . import sibling"
                names = (alias.name for alias in node.names)
                found |= {".".join([*base, n]) for n in names if not n.startswith("__")}
    return {name for name in found if name.partition(".")[0] in ("REACTKDLib", "REACTKDSlicer")}


def unresolved_imports(folder: Path) -> list[str]:
    """Imports of REACTKD's own modules, also those inside functions, that have no file."""
    problems = []
    for path in sorted(folder.rglob("*.py")):
        package = ".".join(path.relative_to(folder).parts[:-1])
        for name in own_imports(path, package):
            target = folder.joinpath(*name.split("."))
            if not (target.with_suffix(".py").is_file() or (target / "__init__.py").is_file()):
                problems.append(f"{path.name} imports {name}")
    return problems


def test_every_import_finds_its_file_in_the_installed_tree(installed):
    assert unresolved_imports(installed) == []


@pytest.mark.parametrize(
    "name", ["REACTKDLib/errors.py", "REACTKDLib/dose/__init__.py", "REACTKDSlicer/sample_data.py"]
)
def test_a_file_that_is_missing_is_noticed(installed, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("Models"))
    (copy / name).unlink()
    assert unresolved_imports(copy)
