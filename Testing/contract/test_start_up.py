"""At Slicer's start-up and when the panel opens, only what Slicer brings is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from cmake_lists import REPOSITORY

#: What Slicer's Python has without installing anything.
BUNDLED = {"SimpleITK", "ctk", "numpy", "pydicom", "qt", "scipy", "slicer", "vtk"}
OWN = {"REACTKDLib": REPOSITORY, "REACTKDSlicer": REPOSITORY / "REACTKD"}
#: Run by ``reactkd scene`` outside Slicer, never by the module.
OUTSIDE_SLICER = {"drawing.py", "offscreen.py", "pictures.py", "scene_command.py"}


def at_file_scope(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the file is imported: not those inside functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child
            waiting.append(child)


def imported(path: Path, package: str) -> set[str]:
    """Dotted names that a file imports at file scope; of ``from a import b`` both a and a.b."""
    names = set()
    for node in at_file_scope(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def file_of(name: str) -> tuple[Path, str] | None:
    """File and package of one of REACTKD's own modules; None for anything else."""
    root = OWN.get(name.partition(".")[0])
    if root is None:
        return None
    place = root.joinpath(*name.split("."))
    if (place / "__init__.py").is_file():
        return place / "__init__.py", name
    if place.with_suffix(".py").is_file():
        return place.with_suffix(".py"), name.rpartition(".")[0]
    return None


def outside_imports(start: Path, package: str) -> dict[str, str]:
    """Top-level names of others that importing a file imports, each with the file that does it."""
    found: dict[str, str] = {}
    seen, waiting = set(), [(start, package)]
    while waiting:
        path, package = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path, package):
            own = file_of(name)
            if own is not None:
                waiting.append(own)
            elif name.partition(".")[0] not in OWN:
                found.setdefault(name.partition(".")[0], path.name)
    return found


def test_the_module_imports_only_what_slicer_brings():
    allowed = BUNDLED | set(sys.stdlib_module_names)
    for path in sorted((REPOSITORY / "REACTKD").rglob("*.py")):
        if path.name in OUTSIDE_SLICER:
            continue
        package = "REACTKDSlicer" if path.parent.name == "REACTKDSlicer" else ""
        found = outside_imports(path, package)
        wrong = {name: by for name, by in found.items() if name not in allowed}
        assert not wrong, f"{path.name}: {wrong}"


def test_slicers_start_imports_almost_nothing():
    """``REACTKD.py`` itself, which Slicer reads at every start."""
    found = set(outside_imports(REPOSITORY / "REACTKD" / "REACTKD.py", ""))
    assert found <= {"slicer"} | set(sys.stdlib_module_names)


def test_the_reader_follows_imports_and_skips_functions(tmp_path, monkeypatch):
    package = tmp_path / "REACTKDLib"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "heavy.py").write_text("try:\n    import torch\nfinally:\n    pass\n", "utf-8")
    start = package / "start.py"
    start.write_text("from . import heavy\ndef f():\n    import monai\n", encoding="utf-8")
    monkeypatch.setitem(OWN, "REACTKDLib", tmp_path)
    assert outside_imports(start, "REACTKDLib") == {"torch": "heavy.py"}
