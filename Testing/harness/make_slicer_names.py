"""Makes ``slicer_names.json``: the names of Slicer that the harness models, and nothing else.

    python Testing/harness/make_slicer_names.py NAMES.json

``NAMES.json`` lists what Python can reach in Slicer, read from the public headers and modules:
``classes`` (per class ``base``, ``properties`` as [name, type, writable], ``slots``, ``signals``,
``invokable``, of Slicer 5.12) and ``python`` (per version, module and name). Run this again after
adding a class to ``STAND_INS``; the tests read only its result.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

TARGET = Path(__file__).with_name("slicer_names.json")
VERSIONS = ("5.10", "5.12")

#: The real classes that have a stand-in here; their base classes come along.
STAND_INS = (
    "ctkCollapsibleButton",
    "ctkComboBox",
    "ctkDoubleRangeSlider",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkRangeWidget",
    "ctkSliderWidget",
    "qMRMLNodeComboBox",
    "qMRMLPlotWidget",
    "qMRMLSliceView",
    "qMRMLSliceWidget",
    "qMRMLTableWidget",
    "qMRMLThreeDView",
    "qMRMLThreeDWidget",
    "qMRMLWidget",
    "qSlicerApplication",
    "qSlicerLayoutManager",
    "qSlicerMainWindow",
    "qSlicerModuleFactoryManager",
    "qSlicerModuleManager",
    "qSlicerModuleSelectorToolBar",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
)

#: Methods that the list lacks. Slicer's own ``slicer.util`` calls each of them.
MORE_METHODS = {
    "qSlicerAbstractCoreModule": ("createNewWidgetRepresentation()", "widgetRepresentation()"),
    "qSlicerCoreApplication": ("testingEnabled()",),
}

#: Python modules whose names are kept.
PYTHON_MODULES = ("ScriptedLoadableModule", "i18n", "packaging", "util")

#: Documented names of a module that the list lacks; the same in both versions.
MORE_PYTHON = {
    "parameterNodeWrapper": (
        "Choice",
        "Default",
        "Maximum",
        "Minimum",
        "WithinRange",
        "parameterNodeWrapper",
        "parameterPack",
    )
}

#: What Slicer puts on the package ``slicer`` itself, next to the classes.
TOP_LEVEL = ("app", "modules", "mrmlScene")

#: Modules that every Slicer brings, as ``slicer.modules`` names them.
BUILT_IN_MODULES = (
    *("cameras", "colors", "cropvolume", "data", "dicom", "markups", "models", "plots"),
    *("sampledata", "segmenteditor", "segmentations", "sequences", "subjecthierarchy"),
    *("tables", "texts", "transforms", "units", "volumerendering", "volumes"),
)

_BUILT_IN_TYPES = {"bool", "char", "double", "float", "int", "long", "short"}


def signature(declaration: str) -> str:
    """Qt's normalised signature of a C++ declaration without its return type."""
    name, _, rest = declaration.partition("(")
    types = [_type(a) for a in re.split(r",(?![^<]*>)", rest.rpartition(")")[0]) if a.strip()]
    text = f"{name}({','.join(types)})"
    return bytes(QtCore.QMetaObject.normalizedSignature(text).data()).decode()


def _type(argument: str) -> str:
    """The type of an argument, without its name and default value."""
    argument = argument.partition("=")[0].strip()
    named = re.fullmatch(r"(.*[\s&*>])(\w+)", argument)
    if named is None or named[2] in _BUILT_IN_TYPES or named[1].strip() in ("const", "unsigned"):
        return argument
    return named[1]


def with_bases(names: Iterable[str], classes: dict[str, Any]) -> list[str]:
    """``names`` with all their base classes that are no plain Qt classes."""
    found: set[str] = set()
    for each in names:
        name = each
        while name in classes:
            found.add(name)
            name = classes[name]["base"]
    return sorted(found)


def kept_class(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What of a class is kept; ``properties`` that cannot be written stand in ``read_only``."""
    methods = [*entry.get("slots", ()), *entry.get("invokable", ()), *MORE_METHODS.get(name, ())]
    properties = entry.get("properties", ())
    kept = {
        "properties": sorted({p[0] for p in properties if p[2]}),
        "read_only": sorted({p[0] for p in properties if not p[2]}),
        "signals": sorted({signature(s) for s in entry.get("signals", ())}),
        "methods": sorted({signature(s) for s in methods}),
    }
    return {"base": entry["base"], **{kind: names for kind, names in kept.items() if names}}


def is_widget(name: str, classes: dict[str, Any]) -> bool:
    """Whether a class of Slicer or CTK is one that panels can use."""
    last = name
    while last in classes:
        last = classes[last]["base"]
    base = getattr(QtWidgets, last, None)
    is_public = re.fullmatch(r"(ctk|qMRML|qSlicer)\w+(?<!Private)", name) is not None
    return is_public and base is not None and issubclass(base, QtWidgets.QWidget)


def slicer_names(source: dict[str, Any]) -> dict[str, Any]:
    """The content of ``slicer_names.json``."""
    classes = source["classes"]
    kept = with_bases(STAND_INS, classes)
    python = {
        version: {
            **{
                module: sorted(n for n in source["python"][version][module] if n[0] != "_")
                for module in PYTHON_MODULES
                if module in source["python"][version]
            },
            **{module: sorted(names) for module, names in MORE_PYTHON.items()},
        }
        for version in VERSIONS
    }
    return {
        "classes": {name: kept_class(name, classes[name]) for name in kept},
        "other_widgets": sorted(n for n in classes if is_widget(n, classes) and n not in kept),
        "python": python,
        "top_level": sorted(TOP_LEVEL),
        "built_in_modules": sorted(BUILT_IN_MODULES),
    }


def main(source: Path) -> None:
    """Write the file; lists of names fill lines, so that it stays short."""
    names = slicer_names(json.loads(source.read_text(encoding="utf-8")))
    TARGET.write_text(_json(names) + "\n", encoding="utf-8")


def _json(value: Any, indent: int = 0) -> str:
    """JSON with wrapped lists, at most 100 characters a line where the names allow it."""
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(k)}: {_json(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    if not isinstance(value, list):
        return json.dumps(value)
    lines = [""]
    for item in map(json.dumps, value):
        if lines[-1] and len(inner) + len(lines[-1]) + len(item) > 98:
            lines.append("")
        lines[-1] += f"{item}, "
    body = "\n".join(f"{inner}{line.rstrip()}" for line in lines)
    return "[\n" + body.rstrip(",") + "\n" + " " * indent + "]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
