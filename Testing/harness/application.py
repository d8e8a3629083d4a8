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
from typing import TYPE_CHECKING, Any

from .errors import NotModelledError
from .surface import slicer_names

if TYPE_CHECKING:
    from .slicer_app import Application

_MISSING = object()


@dataclass(frozen=True)
class Harness:
    """What a test drives: the scene, the application, its dialogs, and modules to load.

    ``opened`` are the addresses that the module wanted to open outside Slicer.
    """

    scene: Any
    app: Application
    dialogs: Any
    opened: list[str]

    @property
    def requests(self) -> list[str]:
        """What the module asked the views to do that only drawing would show."""
        manager = self.app.layoutManager()
        assert manager is not None, "there are no views without a main window"
        requests: list[str] = manager._qt.requests
        return requests

    def add_module(self, name: str, logic: Any = None) -> None:
        """Make a module that no scripted file stands for, as of another extension."""
        import slicer

        from .slicer_app import Module

        setattr(slicer.modules, name.lower(), Module(name, logic))

    def load_module(self, path: Path) -> Any:
        """Load a scripted module as Slicer does; its widget's Python object, not yet entered."""
        import slicer
        from PySide6 import QtWidgets

        from .slicer_app import ModuleParent, ScriptedModule

        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        python_module = importlib.util.module_from_spec(spec)
        sys.modules[name] = python_module
        spec.loader.exec_module(python_module)

        module = ScriptedModule(name, path=str(path))
        setattr(slicer.modules, name.lower(), module)
        getattr(python_module, name)(ModuleParent(str(path)))

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
def installed(main_window: bool = False) -> Iterator[Harness]:
    """A new scene with Slicer's names around it; everything is taken away again at the end.

    With ``main_window`` there are also a main window, a module selector and a layout with views.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer
    from PySide6 import QtCore, QtWidgets
    from REACTKDSlicer.offscreen import offscreen_context

    _refuse_broken_pyside(QtCore.qVersion())
    qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    qt, ctk = _qt_module(), _ctk_module()
    from . import ctk_widgets, qt_module, sample_data, views
    from .slicer_app import Application, write_python_launcher

    context = offscreen_context()
    logic = context.application_logic
    modules = _modules(context)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "temporary").mkdir()
        binaries = write_python_launcher(folder / "home")
        app = Application(qt_application, logic, modules, folder)
        attributes = _attributes(app, modules)
        # slicer-core copies the names of slicer.util onto slicer; in Slicer they are not there.
        attributes.update({name: _MISSING for name in slicer.util.__all__})
        search = f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"
        for namespace, names in (
            (
                sys.modules,
                {"qt": qt, "ctk": ctk, "SampleData": sample_data.sample_data_module()},
            ),
            (vars(slicer), attributes),
            (os.environ, {"PATH": search}),
        ):
            stack.enter_context(_in_place(namespace, names))
        stack.enter_context(_slicer_python_modules(slicer))
        stack.enter_context(_settings(qt_application, folder))
        ctk_widgets.DIALOGS.clear()
        qt_module.OPENED.clear()
        if main_window:
            app.show_window(views.layout_manager(logic), views.main_window(modules))
        path, python_modules = list(sys.path), dict(sys.modules)
        try:
            with _errors_of_callbacks() as errors:
                yield Harness(slicer.mrmlScene, app, ctk_widgets.DIALOGS, qt_module.OPENED)
                _unload_modules(modules)
                app.close_window()
                slicer.mrmlScene.Clear(True)
        finally:
            sys.path[:] = path
            sys.modules.update(python_modules)  # a reload of the module has replaced some
    assert not errors, "".join(errors)


def _modules(context: Any) -> types.SimpleNamespace:
    """``slicer.modules``: the built-in modules whose logic slicer-core has."""
    import slicer

    from .slicer_app import Module

    logic = context.application_logic
    segmentations = _on_scene(slicer.vtkSlicerSegmentationsModuleLogic(), logic)
    volumes = _on_scene(slicer.vtkSlicerVolumesLogic(), logic)
    return types.SimpleNamespace(
        colors=Module("Colors", context.colors_logic),
        markups=Module("Markups", context.markups_logic),
        segmentations=Module("Segmentations", segmentations),
        volumes=Module("Volumes", volumes),
    )


def _attributes(app: Application, modules: Any) -> dict[str, Any]:
    """What the application puts onto the package ``slicer``."""
    from . import mrml_widgets, views
    from .pythonqt import proxy_class
    from .slicer_app import ScriptedModule

    return {
        "app": app,
        "modules": modules,
        "mrmlScene": app.mrmlScene(),
        "qSlicerScriptedLoadableModule": ScriptedModule,
        **{name: proxy_class(c) for name, c in mrml_widgets.CLASSES.items()},
        **{name: proxy_class(c) for name, c in views.CLASSES.items()},
    }


@contextlib.contextmanager
def _settings(application: Any, folder: Path) -> Iterator[None]:
    """``qt.QSettings()`` writes into ``folder`` under Slicer's names."""
    from PySide6 import QtCore

    before = application.applicationName(), application.organizationName()
    QtCore.QSettings.setPath(
        QtCore.QSettings.defaultFormat(), QtCore.QSettings.Scope.UserScope, str(folder)
    )
    application.setApplicationName("Slicer")
    application.setOrganizationName("slicer.org")
    try:
        yield
    finally:
        application.setApplicationName(before[0])
        application.setOrganizationName(before[1])


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
def _in_place(namespace: Any, names: dict[str, Any]) -> Iterator[None]:
    """Set names (or delete those that are ``_MISSING``) and put everything back at the end."""
    before = {name: namespace.get(name, _MISSING) for name in names}
    _assign(namespace, names)
    try:
        yield
    finally:
        _assign(namespace, before)


def _assign(namespace: Any, names: dict[str, Any]) -> None:
    for name, value in names.items():
        if value is _MISSING:
            namespace.pop(name, None)
        else:
            namespace[name] = value


@functools.cache
def _qt_module() -> Any:
    from .qt_module import make_qt_module

    return make_qt_module()


@functools.cache
def _ctk_module() -> Any:
    from . import ctk_widgets
    from .pythonqt import proxy_class

    ctk = NamedModule("ctk", _absent_from_ctk)
    for name, stand_in in ctk_widgets.CLASSES.items():
        setattr(ctk, name, proxy_class(stand_in))
    return ctk


def _absent_from_ctk(name: str) -> str:
    """What is wrong with a name that the module ``ctk`` lacks; empty where CTK lacks it too."""
    return f"widget class {name}" if name in slicer_names()["other_widgets"] else ""


def _slicer_python_modules(slicer: Any) -> contextlib.ExitStack:
    """``slicer.i18n``, ``packaging``, ``parameterNodeWrapper`` and ``ScriptedLoadableModule``."""
    from . import parameter_node_wrapper, scripted_module

    own = {
        "i18n": _module("i18n", tr=lambda text: text),
        "packaging": _module(
            "packaging", pip_ensure=_refuse, pip_install=_refuse, pip_uninstall=_refuse
        ),
        "parameterNodeWrapper": parameter_node_wrapper,
        "ScriptedLoadableModule": scripted_module,
    }
    stack = contextlib.ExitStack()
    stack.enter_context(_in_place(vars(slicer), own))
    stack.enter_context(_in_place(sys.modules, {f"slicer.{k}": v for k, v in own.items()}))
    return stack


class NamedModule(types.ModuleType):
    """A module that says of a missing name whether the real module has it."""

    def __init__(self, name: str, absent: Callable[[str], str]) -> None:
        super().__init__(name)
        self.__dict__["_absent"] = absent

    def __getattr__(self, name: str) -> Any:
        what = self.__dict__["_absent"](name)
        if what:
            raise NotModelledError(what)
        raise AttributeError(f"{self.__name__} has no name {name!r}")


def _module(name: str, **functions: Callable[..., Any]) -> types.ModuleType:
    real = slicer_names()["python"]["5.12"][name]
    module = NamedModule(f"slicer.{name}", lambda n: f"slicer.{name}.{n}" if n in real else "")
    module.__spec__ = importlib.machinery.ModuleSpec(f"slicer.{name}", None)
    vars(module).update(functions)
    return module


def _refuse(*arguments: Any, **keywords: Any) -> None:
    raise NotModelledError("installing packages")
