"""Puts the stand-ins in place: ``slicer.app``, ``slicer.modules``, ``slicer.mrmlScene``."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import NotModelledError

_MISSING = object()


class _ModuleParent:
    """What a scripted module's ``parent`` lets Python set; other names raise."""

    __slots__ = (
        "acknowledgementText",
        "associatedNodeTypes",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "index",
        "path",
        "title",
    )

    def __init__(self, path: str) -> None:
        self.path = path


class _Module:
    """A module as ``slicer.modules.<name>`` gives it."""

    def __init__(self, name: str, logic: Any = None, path: str = "") -> None:
        self.name, self.path, self._logic = name, path, logic
        self._representation: Any = None

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> Any:
        return self._representation


class _ModuleManager:
    """Modules by name."""

    def __init__(self, modules: Any) -> None:
        self._modules = modules

    def module(self, name: str) -> Any:
        return getattr(self._modules, name.lower(), None)


class _Application:
    """``slicer.app`` as it is with ``--no-main-window``."""

    applicationName = "Slicer"

    def __init__(self, qt_application: Any, logic: Any, modules: Any) -> None:
        self._qt, self._logic = qt_application, logic
        self._modules = _ModuleManager(modules)

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._logic.GetMRMLScene()

    def moduleManager(self) -> _ModuleManager:
        return self._modules

    def layoutManager(self) -> None:
        return None

    def testingEnabled(self) -> bool:
        return False

    def topLevelWidgets(self) -> list[Any]:
        return []

    def processEvents(self) -> None:
        self._qt.processEvents()

    def setOverrideCursor(self, shape: Any) -> None:
        self._qt.setOverrideCursor(shape)

    def restoreOverrideCursor(self) -> None:
        self._qt.restoreOverrideCursor()


@dataclass(frozen=True)
class Harness:
    """What a test drives: the scene, the application, its dialogs, and modules to load."""

    scene: Any
    app: _Application
    dialogs: Any

    def load_module(self, path: Path) -> Any:
        """Load a scripted module as Slicer does; its widget's Python object, not yet entered."""
        import slicer
        from PySide6 import QtWidgets

        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        python_module = importlib.util.module_from_spec(spec)
        sys.modules[name] = python_module
        spec.loader.exec_module(python_module)

        module = _Module(name, path=str(path))
        setattr(slicer.modules, name.lower(), module)
        getattr(python_module, name)(_ModuleParent(str(path)))

        host = slicer.qSlicerScriptedLoadableModuleWidget()
        module._representation = host
        host.setLayout(_qt_module().QVBoxLayout())
        host.setMRMLScene(self.scene)

        def make() -> Any:
            widget = getattr(sys.modules[name], f"{name}Widget")(host)
            widget.setup()
            setattr(slicer.modules, f"{name}Widget", widget)
            return widget

        qt_host: QtWidgets.QWidget = host._qt
        qt_host._make = make
        host.reload()
        return host.self()


@contextlib.contextmanager
def installed() -> Iterator[Harness]:
    """A new scene with Slicer's names around it; everything is taken away again at the end."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer
    from PySide6 import QtCore, QtWidgets
    from REACTKDSlicer.offscreen import offscreen_context

    _refuse_broken_pyside(QtCore.qVersion())
    qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    qt, ctk = _qt_module(), _ctk_module()
    from . import ctk_widgets, mrml_widgets
    from .pythonqt import proxy_class

    context = offscreen_context()
    logic = context.application_logic
    modules = types.SimpleNamespace(
        colors=_Module("Colors", context.colors_logic),
        markups=_Module("Markups", context.markups_logic),
        segmentations=_Module(
            "Segmentations", _on_scene(slicer.vtkSlicerSegmentationsModuleLogic(), logic)
        ),
        volumes=_Module("Volumes", _on_scene(slicer.vtkSlicerVolumesLogic(), logic)),
    )
    attributes: dict[str, Any] = {
        "app": _Application(qt_application, logic, modules),
        "modules": modules,
        "mrmlScene": logic.GetMRMLScene(),
        **{name: proxy_class(c) for name, c in mrml_widgets.CLASSES.items()},
    }
    # slicer-core copies the names of slicer.util onto slicer; in Slicer they are not there.
    attributes.update({name: _MISSING for name in slicer.util.__all__})
    with (
        tempfile.TemporaryDirectory() as settings,
        _in_place(sys.modules, {"qt": qt, "ctk": ctk}),
        _in_place(vars(slicer), attributes),
        _slicer_python_modules(slicer),
    ):
        QtCore.QSettings.setPath(
            QtCore.QSettings.defaultFormat(), QtCore.QSettings.Scope.UserScope, settings
        )
        ctk_widgets.DIALOGS.clear()
        path, python_modules = list(sys.path), dict(sys.modules)
        try:
            with _errors_of_callbacks() as errors:
                yield Harness(slicer.mrmlScene, slicer.app, ctk_widgets.DIALOGS)
                _unload_modules(modules)
                slicer.mrmlScene.Clear(True)
        finally:
            sys.path[:] = path
            sys.modules.update(python_modules)  # a reload of the module has replaced some
    assert not errors, "".join(errors)


def _refuse_broken_pyside(version: str) -> None:
    if version == "6.12.0" and sys.version_info < (3, 12):
        raise RuntimeError(
            "PySide6 6.12.0 loses a reference to None at every slot call, which ends Python before"
            " 3.12 with a crash. Install another version: pip install 'PySide6-Essentials<6.12'"
        )


@contextlib.contextmanager
def _errors_of_callbacks() -> Iterator[list[str]]:
    """Tracebacks of exceptions in VTK observers and Qt slots, which nobody can catch."""
    errors: list[str] = []
    before = sys.excepthook

    def keep(*error: Any) -> None:
        errors.append("".join(traceback.format_exception(*error)))

    sys.excepthook = keep
    try:
        yield errors
    finally:
        sys.excepthook = before


def _unload_modules(modules: Any) -> None:
    """What Slicer does with scripted modules when it ends."""
    for name, widget in vars(modules).items():
        if name.endswith("Widget"):
            widget.cleanup()


def _on_scene(module_logic: Any, application_logic: Any) -> Any:
    module_logic.SetMRMLApplicationLogic(application_logic)
    module_logic.SetMRMLScene(application_logic.GetMRMLScene())
    return module_logic


@contextlib.contextmanager
def _in_place(namespace: dict[str, Any], names: dict[str, Any]) -> Iterator[None]:
    """Set names (or delete those that are ``_MISSING``) and put everything back at the end."""
    before = {name: namespace.get(name, _MISSING) for name in names}
    _assign(namespace, names)
    try:
        yield
    finally:
        _assign(namespace, before)


def _assign(namespace: dict[str, Any], names: dict[str, Any]) -> None:
    for name, value in names.items():
        if value is _MISSING:
            namespace.pop(name, None)
        else:
            namespace[name] = value


@functools.cache
def _qt_module() -> Any:
    from .pythonqt import QtModule
    from .ui_loader import QUiLoader

    qt = QtModule("qt")
    qt.QUiLoader = QUiLoader
    return qt


@functools.cache
def _ctk_module() -> Any:
    from . import ctk_widgets
    from .pythonqt import proxy_class

    ctk = types.ModuleType("ctk")
    for name, stand_in in ctk_widgets.CLASSES.items():
        setattr(ctk, name, proxy_class(stand_in))
    return ctk


def _slicer_python_modules(slicer: Any) -> contextlib.ExitStack:
    """``slicer.i18n``, ``packaging``, ``parameterNodeWrapper`` and ``ScriptedLoadableModule``."""
    from . import parameter_node_wrapper, scripted_module

    own = {
        "i18n": _module("slicer.i18n", tr=lambda text: text),
        "packaging": _module(
            "slicer.packaging", pip_ensure=_refuse, pip_install=_refuse, pip_uninstall=_refuse
        ),
        "parameterNodeWrapper": parameter_node_wrapper,
        "ScriptedLoadableModule": scripted_module,
    }
    stack = contextlib.ExitStack()
    stack.enter_context(_in_place(vars(slicer), own))
    stack.enter_context(_in_place(sys.modules, {f"slicer.{k}": v for k, v in own.items()}))
    return stack


def _module(name: str, **functions: Callable[..., Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(functions)
    return module


def _refuse(*arguments: Any, **keywords: Any) -> None:
    raise NotModelledError("installing packages")
