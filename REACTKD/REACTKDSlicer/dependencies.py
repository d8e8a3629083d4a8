"""Makes the packages available that a run needs: asked for once, when it is begun.

PyTorch comes through the PyTorch extension, which knows the GPU; the others through Slicer's pip
with constraints, so that no package that Slicer itself relies on is replaced; where a site sets a
folder of wheels, all come from there. Afterwards it is looked whether that is what happened.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from REACTKDLib.errors import EnvironmentProblem

from .installer import SlicerInstaller
from .requirements import (
    REQUIREMENTS,
    TORCH,
    Requirement,
    installed_if_too_old,
    missing_requirements,
)

__all__ = ["InstallationDeclined", "SlicerInstaller", "ensure_dependencies", "note_after_restart"]


#: Never replaced: with another SimpleITK or numpy, Slicer itself may not start. Of what
#: scikit-image depends on, pillow is Slicer's own too.
KEPT = ("numpy", "scipy", "SimpleITK", "torch", "vtk", "pillow")

#: The process that asked for a restart, in Slicer's settings.
_RESTART_SETTING = "REACTKD/RestartAskedBy"


class InstallationDeclined(EnvironmentProblem):
    """The user does not want packages to be installed."""


class RestartNeeded(EnvironmentProblem):
    """Installed, but usable only after a restart of Slicer."""


class PackagesReplaced(EnvironmentProblem):
    """Installing has changed packages that Slicer relies on."""


class Installer(Protocol):
    """What installing needs from the application: :class:`~.installer.SlicerInstaller`."""

    @property
    def source(self) -> str:
        """A sentence for the question: where the packages come from."""

    def check(self, torch_is_missing: bool) -> None:
        """Raise EnvironmentProblem where the installation cannot succeed."""

    def confirm(self, text: str) -> bool:
        """True when the user agrees to ``text``."""

    def install_torch(self, version: str, constraints: Path) -> bool:
        """Install PyTorch; False when the user declined after all."""

    def install(self, specifiers: list[str], constraints: Path) -> None:
        """Install other packages under the versions of a pip constraints file."""

    def problem(self, error: Exception) -> EnvironmentProblem:
        """What to tell the user after ``error`` ended an installation; the constraints file is
        still there."""

    def import_problem(self, modules: Iterable[str]) -> str:
        """What is wrong with importing modules in a process of its own; empty if nothing."""


def _refuse_old_torch(find: Callable[[str], Any], version: Callable[[str], str]) -> None:
    """PyTorch is not replaced from here: other extensions may use it, and it may be loaded."""
    if find(TORCH.module) is not None and (installed := installed_if_too_old(TORCH, version)):
        raise EnvironmentProblem(
            _("PyTorch {installed} is too old: REACTKD needs {specifier}.").format(
                installed=installed, specifier=TORCH.specifier
            ),
            _(
                "Uninstall it in the module of the extension PyTorch, restart Slicer and press"
                " the button again."
            ),
        )


def installed_versions() -> dict[str, str]:
    """Version of every installed Python package, by name in small letters."""
    importlib.invalidate_caches()
    found = ((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())
    return {name.lower(): version for name, version in found if name}


def ensure_dependencies(
    installer: Installer,
    requirements: Collection[Requirement],
    find: Callable[[str], Any] = importlib.util.find_spec,
    versions: Callable[[], Mapping[str, str]] = installed_versions,
    version: Callable[[str], str] = importlib.metadata.version,
) -> bool:
    """Make the requirements of a run importable, asking once if something is to be installed.

    Returns whether something was installed.

    Raises
    ------
    InstallationDeclined : the user said no; nothing was installed.
    PackagesReplaced : a package that Slicer relies on has another version now.
    RestartNeeded : installed, but Slicer must be restarted.
    EnvironmentProblem : nothing can be installed, PyTorch is too old, or the installation failed.
    """
    missing = missing_requirements(requirements, find, version)
    if not missing:
        return False
    _refuse_old_torch(find, version)
    installer.check(TORCH in missing)
    if not installer.confirm(_question(missing, installer.source)):
        raise InstallationDeclined(
            _("REACTKD needs {names}; nothing was installed.").format(names=_names(missing)),
            _("Press the button again to install them."),
        )
    before = versions()
    try:
        _install(missing, installer)
    except EnvironmentProblem:
        _refuse_replaced(before, versions())  # worse than what failed, so it is told instead
        raise
    after = versions()
    _refuse_replaced(before, after)
    _require_importable(missing, installer, find, version)
    _refuse_outdated_modules(before, after)
    return True


def note_after_restart() -> str:
    """What to show once in the first session after a restart that an installation asked for."""
    import slicer

    settings = slicer.app.settings()
    asked_by = str(settings.value(_RESTART_SETTING, "") or "")
    if asked_by in ("", str(os.getpid())):
        return ""
    settings.remove(_RESTART_SETTING)
    if missing_requirements(REQUIREMENTS, importlib.util.find_spec):
        return ""
    return _("Installation finished; press Apply or Compute prognosis to go on.")


def constraint_lines(
    version: Callable[[str], str] = importlib.metadata.version,
) -> tuple[str, ...]:
    """pip constraints that pin the packages in ``KEPT`` to their installed versions."""
    lines = []
    for name in KEPT:
        try:
            lines.append(f"{name}=={version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # not a Python distribution here (Slicer's own VTK), so pip cannot replace it
    return tuple(lines)


def _names(requirements: Iterable[Requirement]) -> str:
    return ", ".join(r.name for r in requirements)


def _question(missing: tuple[Requirement, ...], source: str) -> str:
    lines = [_("REACTKD needs Python packages that Slicer does not have, or not new enough:"), ""]
    lines += [f"  {r.specifier}  ({r.size})" for r in missing]
    lines += ["", source, _("NumPy, SciPy and SimpleITK stay as they are. Install them now?")]
    return "\n".join(lines)


def _install(missing: tuple[Requirement, ...], installer: Installer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{c}\n" for c in constraint_lines()), encoding="utf-8")
        try:
            _install_under(constraints, missing, installer)
        except EnvironmentProblem:
            raise
        except Exception as error:  # pip and the PyTorch extension raise many kinds
            raise installer.problem(error) from error


def _install_under(
    constraints: Path, missing: tuple[Requirement, ...], installer: Installer
) -> None:
    version = TORCH.specifier.removeprefix("torch")
    if TORCH in missing and not installer.install_torch(version, constraints):
        raise InstallationDeclined(
            _("REACTKD needs PyTorch, which was not installed."),
            _("Press the button again to install it."),
        )
    others = [r.specifier for r in missing if r is not TORCH]
    if others:
        installer.install(others, constraints)


def _refuse_replaced(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    kept = [
        name for name in KEPT if before.get(name.lower()) not in (None, after.get(name.lower()))
    ]
    if kept:
        changes = (f"{n} {before[n.lower()]} -> {after.get(n.lower(), _('gone'))}" for n in kept)
        pins = " ".join(f"{n}=={before[n.lower()]}" for n in kept)
        raise PackagesReplaced(
            _("Installing has changed packages that Slicer relies on: {changes}.").format(
                changes=", ".join(changes)
            ),
            _(
                "Before you close Slicer, enter in its Python console:"
                " slicer.util.pip_install('{pins}')"
            ).format(pins=pins),
        )


def _require_importable(
    missing: tuple[Requirement, ...],
    installer: Installer,
    find: Callable[[str], Any],
    version: Callable[[str], str],
) -> None:
    importlib.invalidate_caches()
    absent = missing_requirements(missing, find, version)
    if absent:
        _ask_for_restart(
            _("Not importable after installation: {names}.").format(names=_names(absent)),
            _("Restart Slicer and press the button again; the Python console shows what pip said."),
        )
    problem = installer.import_problem(r.module for r in missing)
    if problem:
        _ask_for_restart(
            _("Installed, but importing fails: {reason}.").format(reason=problem),
            _(
                "Restart Slicer and press the button again. If that does not help, uninstall"
                " PyTorch in the module of the extension PyTorch and press the button again."
            ),
        )


def _refuse_outdated_modules(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Slicer holds the old code of a package in memory that is on disk in a newer version."""
    changed = {name for name in before if after.get(name) != before[name]}
    if not changed:
        return
    packages = importlib.metadata.packages_distributions()
    loaded = {d.lower() for module in packages if module in sys.modules for d in packages[module]}
    outdated = sorted(changed & loaded)
    if outdated:
        _ask_for_restart(
            _("Installed, but Slicer still uses the old version of {names}.").format(
                names=", ".join(outdated)
            ),
            _("Save the scene, restart Slicer, open the scene and press the button again."),
        )


def _ask_for_restart(message: str, advice: str) -> None:
    """Slicer is not restarted from here: that would lose a scene that is not saved."""
    import slicer

    slicer.app.settings().setValue(_RESTART_SETTING, str(os.getpid()))
    raise RestartNeeded(message, advice)
