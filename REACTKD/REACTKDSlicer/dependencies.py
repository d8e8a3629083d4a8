"""The Python packages that a run needs and Slicer does not bring: asked for once, at Apply.

PyTorch comes through the PyTorch extension, which knows the GPU; the others through Slicer's pip
with constraints, so that no package that Slicer itself relies on is replaced.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from REACTKDLib.errors import EnvironmentProblem


@dataclass(frozen=True)
class Requirement:
    """``module`` is imported, ``specifier`` installed; ``size`` is that of the download."""

    module: str
    specifier: str
    size: str


TORCH = Requirement("torch", "torch>=2.2", "200 MB to 3 GB")
REQUIREMENTS = (
    TORCH,
    Requirement("safetensors", "safetensors>=0.4", "1 MB"),
)

#: Never replaced: with another SimpleITK or numpy, Slicer itself may not start.
KEPT = ("numpy", "scipy", "SimpleITK", "torch", "vtk")


class InstallationDeclined(EnvironmentProblem):
    """The user does not want packages to be installed."""


class Installer(Protocol):
    """What installing needs from the application."""

    def confirm(self, text: str) -> bool:
        """True when the user agrees to ``text``."""

    def install_torch(self, specifier: str) -> bool:
        """Install PyTorch; False when the user declined after all."""

    def install(self, specifiers: list[str], constraints: Path) -> None:
        """Install other packages under the versions of a pip constraints file."""


def missing_requirements(find: Callable[[str], Any]) -> tuple[Requirement, ...]:
    """The requirements whose module ``find`` (as ``importlib.util.find_spec``) does not find."""
    return tuple(r for r in REQUIREMENTS if find(r.module) is None)


def ensure_dependencies(
    installer: Installer, find: Callable[[str], Any] = importlib.util.find_spec
) -> None:
    """Make all requirements importable, asking once if something is to be installed.

    Raises
    ------
    InstallationDeclined : the user said no; nothing was installed.
    EnvironmentProblem : something is still missing afterwards.
    """
    missing = missing_requirements(find)
    if not missing:
        return
    names = ", ".join(r.module for r in missing)
    if not installer.confirm(_question(missing)):
        raise InstallationDeclined(
            _("REACTKD needs {names}; nothing was installed.").format(names=names),
            _("Press Apply again to install them."),
        )
    if TORCH in missing and not installer.install_torch(TORCH.specifier.removeprefix("torch")):
        raise InstallationDeclined(
            _("REACTKD needs PyTorch, which was not installed."),
            _("Press Apply again to install it."),
        )
    others = [r.specifier for r in missing if r is not TORCH]
    if others:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{c}\n" for c in constraint_lines()), encoding="utf-8")
            installer.install(others, constraints)
    importlib.invalidate_caches()
    still_missing = missing_requirements(find)
    if still_missing:
        raise EnvironmentProblem(
            _("Not importable after installation: {names}.").format(
                names=", ".join(r.module for r in still_missing)
            ),
            _("Restart Slicer and press Apply again; the Python console shows what pip said."),
        )


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


def _question(missing: tuple[Requirement, ...]) -> str:
    lines = [_("REACTKD needs Python packages that are not installed in Slicer yet:"), ""]
    lines += [f"  {r.specifier}  ({r.size})" for r in missing]
    lines += [
        "",
        _("They are downloaded from the Python package index into this Slicer."),
        _("NumPy, SciPy and SimpleITK stay as they are. Install them now?"),
    ]
    return "\n".join(lines)


class SlicerInstaller:
    """The installer of the running Slicer application; main thread only."""

    def confirm(self, text: str) -> bool:
        """Ask in a dialog."""
        import slicer

        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Install packages")))

    def install_torch(self, specifier: str) -> bool:
        """Install through the PyTorch extension, which chooses the build for the GPU."""
        if importlib.util.find_spec("PyTorchUtils") is None:
            raise EnvironmentProblem(
                _("The extension PyTorch is not installed in Slicer."),
                _("Install it in the Extensions Manager, restart Slicer and press Apply again."),
            )
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        torch = logic.installTorch(askConfirmation=False, torchVersionRequirement=specifier)
        return torch is not None

    def install(self, specifiers: list[str], constraints: Path) -> None:
        """Install through Slicer's pip."""
        import slicer

        if importlib.util.find_spec("slicer.packaging") is None:  # before Slicer 5.12
            slicer.util.pip_install(["--constraint", str(constraints), *specifiers])
            return
        import slicer.packaging

        slicer.packaging.pip_ensure(
            specifiers, constraints=constraints, prompt_install=False, requester="REACTKD"
        )
