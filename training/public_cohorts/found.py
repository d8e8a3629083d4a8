"""What an adapter found in a tree: rows for the manifest, problems, and what it left out."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

#: Cells of a manifest, as :func:`training.manifest_file.write_manifest` takes them.
Cells = dict[str, Any]


class Found:
    """Collects while an adapter goes through a tree, so that all problems show at once.

    ``exclude`` : patients that the user does not want. They cause no problem, whatever they lack.
    """

    def __init__(self, exclude: Collection[str] = ()) -> None:
        self._exclude = frozenset([exclude] if isinstance(exclude, str) else exclude)
        self._met: set[str] = set()
        self.rows: list[Cells] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []

    def wants(self, patient: str) -> bool:
        """Whether to go on with a patient; one that is excluded is noted once."""
        if patient in self._exclude and patient not in self._met:
            self.left_out.append(f"{patient}: excluded by the options")
        self._met.add(patient)
        return patient not in self._exclude

    @property
    def unmet(self) -> list[str]:
        """Excluded patients that the tree does not have."""
        return sorted(self._exclude - self._met)


def numbers_first(text: str | Path) -> tuple[Any, ...]:
    """Sort key in which 2 comes before 10."""
    parts = re.split(r"(\d+)", str(text))
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p)
