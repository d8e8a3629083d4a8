"""Properties, signals and methods of PySide6's classes, read in a process of their own.

PySide6 replaces the metaobjects of classes that Python objects have been made of; what it keeps on
the class is a deleted one then. So a process that has made no object reads them.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class QtClass:
    """Names with those of the base classes; signals and methods as normalised signatures."""

    properties: frozenset[str]
    signals: frozenset[str]
    methods: frozenset[str]


@functools.cache
def qt_classes() -> dict[str, QtClass]:
    """All classes of the module ``qt`` that derive from QObject, by name."""
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, encoding="utf-8", check=True
    )
    return {
        name: QtClass(*(frozenset(names) for names in kinds))
        for name, kinds in json.loads(done.stdout).items()
    }


def _read() -> dict[str, list[list[str]]]:
    from PySide6 import QtCore, QtGui, QtPrintSupport, QtWidgets

    found = {}
    for library in (QtCore, QtGui, QtWidgets, QtPrintSupport):
        for name in dir(library):
            value = getattr(library, name)
            if not isinstance(value, type) or not issubclass(value, QtCore.QObject):
                continue
            meta = value.staticMetaObject
            methods = [meta.method(n) for n in range(meta.methodCount())]
            signatures = [bytes(m.methodSignature().data()).decode() for m in methods]
            is_signal = [m.methodType() == QtCore.QMetaMethod.MethodType.Signal for m in methods]
            found[name] = [
                [meta.property(n).name() for n in range(meta.propertyCount())],
                [s for s, signal in zip(signatures, is_signal, strict=True) if signal],
                signatures,
            ]
    return found


if __name__ == "__main__":
    print(json.dumps(_read()))
