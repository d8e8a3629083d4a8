"""Installs Python packages into the running Slicer: through the PyTorch extension and Slicer's pip,
or, where a site has no network, from a folder of wheels. Main thread only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from slicer.i18n import tr as _

from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.resources import document_path

#: Where a site says which folder of wheels to install from; the environment variable comes first.
WHEELS_VARIABLE = "REACTKD_WHEELS"
WHEELS_SETTING = "REACTKD/WheelFolder"

#: What pip writes when it cannot reach an index.
_NETWORK_SIGNS = (
    "connection broken",
    "connection error",
    "connecting to",
    "Connection refused",
    "ConnectTimeout",
    "Failed to establish a new connection",
    "Max retries exceeded",
    "Name or service not known",
    "ProxyError",
    "Read timed out",
    "SSLError",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
)

#: A small package, asked for only to learn why an installation failed.
_PROBE = "safetensors"
_LONGEST_REASON = 300


def wheel_folder() -> Path | None:
    """The folder of wheels that replaces the network; None where no site has set one."""
    import slicer

    chosen = os.environ.get(WHEELS_VARIABLE) or slicer.app.settings().value(WHEELS_SETTING, "")
    return Path(str(chosen)) if chosen else None


def set_wheel_folder(folder: Path | None) -> None:
    """Install from a folder of wheels from now on, or from the network again (None).

    The environment variable, where a site has set it, still comes first.
    """
    import slicer

    settings = slicer.app.settings()
    if folder is None:
        settings.remove(WHEELS_SETTING)
    else:
        settings.setValue(WHEELS_SETTING, str(folder))


class SlicerInstaller:
    """The installer of the running Slicer; ``folder`` replaces the network."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or wheel_folder()
        self._last_arguments: list[str] = []

    @property
    def source(self) -> str:
        """A sentence for the question: where the packages come from."""
        if self.folder is not None:
            return _("They are installed from the folder {folder}, without a network.").format(
                folder=self.folder
            )
        return _(
            "They are downloaded from the Python package index into this Slicer; PyTorch comes"
            " through the extension PyTorch, which chooses the build for your computer."
        )

    def check(self, torch_is_missing: bool) -> None:
        """Find what would stop the installation, before anyone is asked.

        Raises
        ------
        EnvironmentProblem : no extension PyTorch, or nothing in the folder of wheels.
        """
        if self.folder is None:
            if torch_is_missing and importlib.util.find_spec("PyTorchUtils") is None:
                raise EnvironmentProblem(
                    _("The extension PyTorch is not installed in Slicer."),
                    _(
                        "Install it in the Extensions Manager, restart Slicer, press the button"
                        " again."
                    ),
                )
        elif not any(self.folder.glob("*.whl")):
            raise EnvironmentProblem(
                _("The wheel folder {folder} holds no wheels.").format(folder=self.folder),
                _(
                    "Choose another folder in the group Model, or correct REACTKD_WHEELS where it"
                    " is set."
                ),
            )

    def confirm(self, text: str) -> bool:
        """Ask in a dialog."""
        import slicer

        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Install packages")))

    def install_torch(self, version: str, constraints: Path) -> bool:
        """Install PyTorch, ``version`` as in ">=2.4"; False when the user declined after all."""
        if self.folder is not None:
            self.install([f"torch{version}"], constraints)
            return True
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        with _pip_constrained_by(constraints):  # the extension passes no constraints itself
            torch = logic.installTorch(askConfirmation=False, torchVersionRequirement=version)
        return torch is not None

    def install(self, specifiers: list[str], constraints: Path) -> None:
        """Install packages under the versions of a pip constraints file."""
        import slicer

        if self.folder is not None:
            self._last_arguments = folder_arguments(self.folder, specifiers, constraints)
            slicer.util.pip_install(self._last_arguments)
            return
        if importlib.util.find_spec("slicer.packaging") is None:  # before Slicer 5.12
            slicer.util.pip_install(["--constraint", str(constraints), *specifiers])
            return
        import slicer.packaging

        slicer.packaging.pip_ensure(
            specifiers,
            constraints=constraints,
            prompt_install=False,
            prompt_restart=False,
            requester="REACTKD",
        )

    def problem(self, error: Exception) -> EnvironmentProblem:
        """What to tell the user after ``error`` ended an installation.

        Slicer's pip says in its exception that it failed, not why: so pip is asked again.
        """
        said = [str(error), *_outputs(error), self._ask_pip_again()]
        lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
        if self.folder is not None:
            return EnvironmentProblem(
                _("Installing from the wheel folder {folder} failed: {reason}.").format(
                    folder=self.folder, reason=complaint(lines)
                ),
                _("Add the wheel, made for Slicer's Python and this system: {page}.").format(
                    page=document_path("installing.md")
                ),
            )
        unreachable = [line for line in lines if any(sign in line for sign in _NETWORK_SIGNS)]
        if unreachable:
            return EnvironmentProblem(
                _("pip cannot reach the Python package index: {reason}.").format(
                    reason=complaint([_without_objects(unreachable[-1])])
                ),
                _(
                    "Check network and proxy, or choose a wheel folder in the group Model: {page}."
                ).format(page=document_path("installing.md")),
            )
        return EnvironmentProblem(
            _("The installation failed: {reason}.").format(reason=complaint(lines)),
            _("Press the button again; the Python console shows what pip said."),
        )

    def import_problem(self, modules: Iterable[str]) -> str:
        """What importing says in a process of its own, where runs are done; empty if it works."""
        code, said = _run_python("-c", f"import {', '.join(modules)}")
        return complaint(said.splitlines()) if code else ""

    def _ask_pip_again(self) -> str:
        if self.folder is not None:
            return _run_python("-m", "pip", "install", "--dry-run", *self._last_arguments)[1]
        with tempfile.TemporaryDirectory() as scratch:
            options = ("--no-deps", "--no-cache-dir", "--retries", "1", "--timeout", "10")
            return _run_python("-m", "pip", "download", *options, "-d", scratch, _PROBE)[1]


def folder_arguments(folder: Path, specifiers: Iterable[str], constraints: Path) -> list[str]:
    """Arguments of ``pip install`` that use a folder of wheels and never a network.

    ``--isolated`` also leaves out what pip's configuration adds, such as further indexes.
    """
    options = ("--isolated", "--no-index", "--find-links", str(folder))
    return [*options, "--constraint", str(constraints), *specifiers]


def complaint(lines: Iterable[str]) -> str:
    """The line that says why: pip's last error, else the last line."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    reason = (errors or said or [_("no reason given")])[-1].rstrip(".")
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


def _without_objects(line: str) -> str:
    """pip's warning about a connection without the representations of its objects."""
    reason = line.partition("connection broken by ")[2] or line
    return re.sub(r"<[^>]*>(: )?", "", reason).strip("'")


def _outputs(error: Exception) -> Iterator[str]:
    for name in ("output", "stderr"):
        value = getattr(error, name, None)
        if isinstance(value, str):
            yield value


def _run_python(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of Slicer's Python."""
    from .worker_process import python_executable

    try:
        done = subprocess.run(
            [str(python_executable()), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=300,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stderr


@contextlib.contextmanager
def _pip_constrained_by(constraints: Path) -> Iterator[None]:
    """Every pip that is started meanwhile keeps to a constraints file as well.

    As a URL: pip splits the variable at spaces, which a user's temporary folder may have.
    """
    before = os.environ.get("PIP_CONSTRAINT")
    os.environ["PIP_CONSTRAINT"] = f"{before or ''} {constraints.resolve().as_uri()}".strip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PIP_CONSTRAINT"]
        else:
            os.environ["PIP_CONSTRAINT"] = before
