"""Which names of Slicer, Qt, CTK and VTK a Python source uses, and what is wrong with them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import class_names
import slicer
import vtk
from harness.surface import slicer_names, surface_of

ROOTS = ("slicer", "qt", "ctk", "vtk")
VERSIONS = ("5.10", "5.12")

#: ``find_spec("slicer.packaging")``, ``hasattr(slicer.util, "name")``: the code asks first.
_QUESTIONS = ("find_spec", "hasattr", "getattr")


@dataclass(frozen=True)
class Use:
    """A dotted name at a line; ``asked`` are the names that the enclosing function asks for."""

    name: str
    line: int
    asked: frozenset[str] = frozenset()


def used_names(source: str) -> list[Use]:
    """All names that start at ``slicer``, ``qt``, ``ctk`` or ``vtk``, imported in any way."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    found: list[Use] = []

    def visit(node: ast.AST, asked: frozenset[str]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            asked |= frozenset(_asked(node, aliases))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.extend(Use(n, node.lineno, asked) for n in _imported(node))
        dotted = _dotted(node, aliases)
        if dotted:
            found.append(Use(dotted, node.lineno, asked))  # type: ignore[attr-defined]
            return
        for child in ast.iter_child_nodes(node):
            visit(child, asked)

    visit(tree, frozenset())
    return [use for use in found if "." in use.name]


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in ROOTS:
                    local = alias.asname or alias.name.split(".")[0]
                    found[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom) and _is_of_roots(node):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def _is_of_roots(node: ast.ImportFrom) -> bool:
    return not node.level and str(node.module).split(".")[0] in ROOTS


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.split(".")[0] in ROOTS)
    elif _is_of_roots(node):
        yield from (f"{node.module}.{a.name}" for a in node.names)


def _dotted(node: ast.AST, aliases: Mapping[str, str]) -> str:
    """``slicer.util.loadUI`` of an attribute or name that stands for it; else empty."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in aliases:
        return ".".join([aliases[node.id], *reversed(parts)])
    return ""


def _asked(function: ast.AST, aliases: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        strings = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if name not in _QUESTIONS or not strings:
            continue
        owner = _dotted(node.args[0], aliases)
        yield f"{owner}.{strings[0]}" if owner else str(strings[0])


def problem(use: Use, newer: Iterable[str] = ()) -> str:
    """What is wrong with a name; empty if nothing.

    ``newer`` are the names that the oldest Slicer may lack: their use is right where the function
    asks for them first.
    """
    root, *parts = use.name.split(".")
    if root == "qt":
        return class_names.problem_of_qt_name(parts)
    if root == "ctk":
        return class_names.problem_of_ctk_name(parts)
    if root == "vtk":
        return _problem_of_object(vtk, parts, "vtk") if parts[0] != "util" else ""
    lacking = [v for v in VERSIONS if _problem_of_slicer_name(parts, v)]
    if not lacking:
        return ""
    if lacking == [VERSIONS[0]]:
        for name in newer:
            if f"{use.name}.".startswith(f"{name}."):
                return "" if name in use.asked else f"used without asking whether {name} is there"
    return f"{_problem_of_slicer_name(parts, lacking[-1])} (Slicer {' and '.join(lacking)})"


def _problem_of_slicer_name(parts: list[str], version: str) -> str:
    names = slicer_names()
    first, rest = parts[0], parts[1:]
    python = names["python"][version]
    if any(first in names["python"][v] for v in VERSIONS):
        if first not in python:
            return f"there is no slicer.{first}"
        if rest and rest[0] not in python[first]:
            return f"slicer.{first} has no {rest[0]}"
        return ""
    if first == "app" and rest:
        known = class_names.has_attribute("qSlicerApplication", rest[0])
        return "" if known else f"slicer.app has no {rest[0]}"
    if first == "modules" and rest:
        return _problem_of_module(rest)
    if first == "mrmlScene":
        return _problem_of_object(slicer.vtkMRMLScene, rest, "vtkMRMLScene")
    if first.startswith("vtk"):
        return _problem_of_object(slicer, parts, "slicer")
    if first in names["top_level"] or surface_of(first) is not None:
        return ""
    return class_names.problem_of_class(first) if first[:1] == "q" else f"slicer has no {first}"


def _problem_of_module(parts: list[str]) -> str:
    if parts[0] not in slicer_names()["built_in_modules"]:
        return f"not every Slicer has slicer.modules.{parts[0]}"
    known = len(parts) == 1 or class_names.has_attribute("qSlicerScriptedLoadableModule", parts[1])
    return "" if known else f"a module has no {parts[1]}"


def _problem_of_object(owner: object, parts: Iterable[str], name: str) -> str:
    """Follow attributes of what is really there."""
    for part in parts:
        if not hasattr(owner, part):
            return f"{name} has no {part}"
        owner, name = getattr(owner, part), part
    return ""


def unknown_class_strings(source: str) -> list[str]:
    """Strings such as "vtkMRMLTextNode" that name no class; IDs of nodes may follow a class."""
    strings = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    named = (s for s in strings if isinstance(s, str) and re.fullmatch(r"vtk(MRML|Slicer)\w+", s))
    return sorted(s for s in named if not hasattr(slicer, s) and not _is_node_id(s))


def _is_node_id(text: str) -> bool:
    classes = (text[:n] for n in range(len(text), 0, -1))
    return any(c.endswith("Node") and hasattr(slicer, c) for c in classes)


def widget_problems(source: str, widgets: Mapping[str, str]) -> list[str]:
    """Wrong uses of widgets: ``ui.name.attribute`` and ``connect("signal(...)")``.

    ``widgets`` are those of the ``.ui`` files, by name. An object made in the same source, such as
    ``self.timer = qt.QTimer()``, is known too; elsewhere any class may have the signal.
    """
    tree = ast.parse(source)
    made = _made_objects(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.append((node.lineno, _widget_problem(node, widgets)))
        if isinstance(node, ast.Call):
            found.append((node.lineno, _called_property(node, widgets)))
            found.append((node.lineno, _connect_problem(node, widgets, made)))
    return [f"line {line}: {text}" for line, text in sorted(set(found)) if text]


def _made_objects(tree: ast.AST) -> dict[str, str]:
    """Source text of a variable -> the one widget class that is assigned to it."""
    aliases, found = _aliases(tree), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            root, _, name = _dotted(node.value.func, aliases).partition(".")
            if root in ROOTS and name and not class_names.problem_of_class(name):
                for target in node.targets:
                    found.setdefault(ast.unparse(target), set()).add(name)
    return {target: names.pop() for target, names in found.items() if len(names) == 1}


def _after_ui(node: ast.AST) -> list[str]:
    """["applyButton", "text"] of ``self.ui.applyButton.text``; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return []
    parts.insert(0, node.id)
    return parts[parts.index("ui") + 1 :] if "ui" in parts[:2] else []


def _widget_problem(node: ast.Attribute, widgets: Mapping[str, str]) -> str:
    parts = _after_ui(node)
    if not parts:
        return ""
    if parts[0] not in widgets:
        return f"no .ui file has {parts[0]}"
    if len(parts) > 1 and not class_names.has_attribute(widgets[parts[0]], parts[1]):
        return f"{parts[0]}: {widgets[parts[0]]} has no {parts[1]}"
    return ""


def _called_property(node: ast.Call, widgets: Mapping[str, str]) -> str:
    parts = _after_ui(node.func)
    if len(parts) != 2 or parts[0] not in widgets:
        return ""
    is_property = class_names.has_property(widgets[parts[0]], parts[1])
    return f"{parts[0]}: {parts[1]} is a property, which is not called" if is_property else ""


def _connect_problem(node: ast.Call, widgets: Mapping[str, str], made: Mapping[str, str]) -> str:
    is_connect = isinstance(node.func, ast.Attribute) and node.func.attr in (
        "connect",
        "disconnect",
    )
    if not is_connect or not node.args or not isinstance(node.args[0], ast.Constant):
        return ""
    signal, sender = str(node.args[0].value), node.func.value  # type: ignore[attr-defined]
    parts = _after_ui(sender)
    class_name = widgets.get(parts[0]) if len(parts) == 1 else made.get(ast.unparse(sender))
    if class_name is None:
        return "" if class_names.any_class_has_signal(signal) else f"no class has signal {signal}"
    known = class_names.has_signal(class_name, signal)
    return "" if known else f"{class_name} has no signal {signal}"
