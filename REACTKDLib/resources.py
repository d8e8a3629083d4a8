"""Finds shipped resources wherever REACTKD runs from.

``Resources`` stands at the top of the source tree, inside the package in a pip install, and beside
the module in the flat folder of an Extension Manager install.
"""

from __future__ import annotations

from pathlib import Path

from .errors import EnvironmentProblem

_PACKAGE = Path(__file__).resolve().parent
_CANDIDATES = (_PACKAGE / "Resources", _PACKAGE.parent / "Resources")


def resource_path(name: str = "") -> Path:
    """Absolute path of ``Resources/<name>`` (``/`` separates folders).

    Raises
    ------
    EnvironmentProblem : the resource is not there; the installation is incomplete.
    """
    for folder in _CANDIDATES:
        path = folder / name
        if path.exists():
            return path
    raise EnvironmentProblem(
        f"The resource {name!r} is missing; looked in {', '.join(str(c) for c in _CANDIDATES)}.",
        "Install REACTKD again.",
    )


def document_path(name: str) -> Path:
    """Absolute path of a page of the documentation, such as ``installing.md``.

    Raises
    ------
    EnvironmentProblem : it is not there, as in a pip install.
    """
    in_source_tree = _PACKAGE.parent / "docs" / name
    return in_source_tree if in_source_tree.is_file() else resource_path(f"Documents/{name}")
