"""Stand-ins for ``slicer.app``, its module manager and the modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore

from .pythonqt import wrap
from .qt_module import OPENED
from .surface import Modelled, surface_of


class ModuleParent(Modelled):
    """What Slicer gives to a scripted module's Python class as ``parent``."""

    _real = "qSlicerScriptedLoadableModule"

    def __init__(self, path: str) -> None:
        object.__setattr__(self, "path", path)

    def __setattr__(self, name: str, value: Any) -> None:
        surface = surface_of(self._real)
        assert surface is not None
        if name not in surface.properties:
            raise AttributeError(f"{self._real} has no attribute {name!r} that can be set")
        object.__setattr__(self, name, value)


class Module(Modelled):
    """A module as ``slicer.modules.<name>`` gives it."""

    _real = "qSlicerScriptedLoadableModule"

    def __init__(self, name: str, logic: Any = None, path: str = "") -> None:
        self.name, self.path, self._logic = name, path, logic
        self._representation: Any = None

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> Any:
        return self._representation


class ScriptedModule(Module):
    """A scripted module; ``slicer.util`` asks for this class."""


class _FactoryManager(Modelled):
    """Which modules are loaded."""

    _real = "qSlicerModuleFactoryManager"

    def __init__(self, modules: Any) -> None:
        self._modules = modules

    def loadedModuleNames(self) -> list[str]:
        return sorted(m.name for m in vars(self._modules).values() if isinstance(m, Module))

    def isLoaded(self, name: str) -> bool:
        return name in self.loadedModuleNames()


class _ModuleManager(Modelled):
    """Modules by name."""

    _real = "qSlicerModuleManager"

    def __init__(self, modules: Any) -> None:
        self._modules = modules

    def module(self, name: str) -> Any:
        return getattr(self._modules, name.lower(), None)

    def modulesNames(self) -> list[str]:
        return self.factoryManager().loadedModuleNames()

    def factoryManager(self) -> _FactoryManager:
        return _FactoryManager(self._modules)


class Application(Modelled):
    """``slicer.app``. Without a window it is as with ``--no-main-window``.

    What Slicer's application class does not add comes from Qt's application.
    """

    _real = "qSlicerApplication"

    def __init__(self, qt_application: Any, logic: Any, modules: Any, folder: Path) -> None:
        self._qt, self._logic = wrap(qt_application), logic
        self._modules = _ModuleManager(modules)
        self._layout_manager: Any = None
        self._window: Any = None
        self._startup: list[Callable[[], Any]] = []
        self.temporaryPath = str(folder / "temporary")
        self.slicerHome = str(folder / "home")

    def __getattr__(self, name: str) -> Any:
        surface = surface_of(self._real)
        if name.startswith("_") or surface is None or name in surface.names:
            return super().__getattr__(name)
        return getattr(self._qt, name)

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._logic.GetMRMLScene()

    def moduleManager(self) -> _ModuleManager:
        return self._modules

    def moduleLogic(self, name: str) -> Any:
        module = self._modules.module(name)
        return module.logic() if module is not None else None

    def layoutManager(self) -> Any:
        return self._layout_manager

    def show_window(self, layout_manager: Any, window: Any) -> None:
        """Be an application with a window; for the harness."""
        self._layout_manager, self._window = layout_manager, window

    def close_window(self) -> None:
        """Let the views go; for the harness."""
        if self._layout_manager is not None:
            self._layout_manager._qt.close()
        self._layout_manager = self._window = None

    def connect(self, signature: str, function: Callable[..., Any]) -> bool:
        """Signals of Qt's application are Qt's; Slicer's own is kept for the harness."""
        if signature == "startupCompleted()":
            self._startup.append(function)
            return True
        return bool(self._qt.connect(signature, function))

    def complete_startup(self) -> None:
        """All modules are loaded; for the harness."""
        for function in self._startup:
            function()

    def testingEnabled(self) -> bool:
        return False

    def topLevelWidgets(self) -> list[Any]:
        """Slicer's windows; not the widgets that tests make without a parent."""
        return [self._window] if self._window is not None else []

    def settings(self) -> Any:
        return wrap(QtCore.QSettings())

    def userSettings(self) -> Any:
        return self.settings()

    def environment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def startupEnvironment(self) -> Any:
        return self.environment()

    def openUrl(self, url: str) -> None:
        OPENED.append(url)


def write_python_launcher(home: Path) -> Path:
    """``bin/PythonSlicer`` of Slicer's folder: this Python under Slicer's name; its folder."""
    folder = home / "bin"
    folder.mkdir(parents=True)
    launcher = folder / "PythonSlicer"
    launcher.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n", encoding="utf-8")
    launcher.chmod(0o755)
    return folder
