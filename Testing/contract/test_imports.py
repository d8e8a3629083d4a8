"""The arrows between rooms: REACTKD -> REACTKDLib <- training; Slicer only in REACTKD."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import REACTKDLib

REPOSITORY = Path(__file__).resolve().parents[2]
SLICER = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "PythonQt", "SegmentEditorEffects"}
#: What each room may not import. Tests see everything.
FORBIDDEN = {
    "REACTKDLib": SLICER | {"REACTKD", "REACTKDSlicer", "training", "Testing"},
    "training": SLICER | {"REACTKD", "REACTKDSlicer", "Testing"},
    "REACTKD": {"training", "Testing"},
}
FILES = [p for room in FORBIDDEN for p in sorted((REPOSITORY / room).rglob("*.py"))]

#: Needed at Slicer's start-up and by ``reactkd info``, before anything heavy is installed.
LIGHT = (
    *("types", "errors", "geometry", "roles", "model_package", "resources"),
    *("prognosis.types", "prognosis.schema", "prognosis.clinical_files"),
    *("prognosis.clinical_arrays", "prognosis.clinical_text"),
)
HEAVY = {"torch", "monai", "SimpleITK", "scipy", "safetensors", "tqdm", "sklearn"}
HEAVY |= {"transformers", "tokenizers"}


def imported(source: str) -> Iterator[str]:
    """Top-level names of all absolute imports of a module, wherever they stand in it.

    ``importlib.import_module("x")`` and ``__import__("x")`` count too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield str(argument.value).split(".")[0]


def test_the_reader_of_imports_sees_every_way():
    source = """
import vtk.util as u
from qt import QWidget
from . import sibling
def f():
    import slicer
    importlib.import_module("ctk.core")
    __import__("training")
    run(["-m", "REACTKDSlicer.scene"])
"""
    assert set(imported(source)) == {"vtk", "qt", "slicer", "ctk", "training"}


def test_all_rooms_are_there():
    rooms = {path.relative_to(REPOSITORY).parts[0] for path in FILES}
    assert rooms == set(FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_each_file_imports_only_along_the_arrows(path):
    room = path.relative_to(REPOSITORY).parts[0]
    found = set(imported(path.read_text(encoding="utf-8"))) & FORBIDDEN[room]
    assert not found, f"{path.name} imports {sorted(found)}"


def modules_of(package: Path) -> list[str]:
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


BLOCKED_IMPORTS = """
import importlib, importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(name + " is not here")

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Refuse())
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
present = BLOCKED & {name.split(".")[0] for name in sys.modules}
assert not present, present
"""


def import_without(blocked: set[str], modules: list[str], then: str = "") -> str:
    """Imports modules in a process of its own that has none of ``blocked``; returns its output."""
    command = [sys.executable, "-c", BLOCKED_IMPORTS + then, json.dumps(sorted(blocked))]
    finished = subprocess.run(
        [*command, json.dumps(modules)],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_blocking_works():
    with pytest.raises(AssertionError, match="sqlite3 is not here"):
        import_without({"sqlite3"}, ["sqlite3"])


def test_every_module_of_the_library_imports_without_slicer_and_training():
    modules = modules_of(Path(REACTKDLib.__file__).parent)
    assert {"REACTKDLib", "REACTKDLib.cli", "REACTKDLib.networks.student"} <= set(modules)
    import_without(FORBIDDEN["REACTKDLib"], modules)


def test_start_up_needs_nothing_heavy():
    """Types, model packages and their list, in a process without torch and the rest."""
    modules = ["REACTKDLib", *(f"REACTKDLib.{name}" for name in LIGHT)]
    then = """
from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.model_package import shipped_packages, spec_from_section
section = json.load(open("training/configs/hcc_grade3.json", encoding="utf-8"))["spec"]
print(spec_from_section(section).name)
print(len(shipped_packages()))
"""
    name, count = import_without(HEAVY | SLICER, modules, then).split()
    assert name == "hcc-grade3-simulated"
    assert int(count) >= 0


def test_one_version_everywhere():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    (cited,) = re.findall(r"^version: (\S+)$", citation, re.MULTILINE)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert cited == REACTKDLib.__version__
    assert 'version = { attr = "REACTKDLib.__version__" }' in project
    assert re.fullmatch(r"\d+\.\d+\.\d+", REACTKDLib.__version__)
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert REACTKDLib.__version__ in changes
