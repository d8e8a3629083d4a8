"""How the harness says no."""

from __future__ import annotations


class NotModelledError(NotImplementedError):
    """Slicer can do this, the harness cannot. Extend the harness before the test relies on it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not modelled: {what}")
