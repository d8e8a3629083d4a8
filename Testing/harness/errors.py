"""How the harness says no."""

from __future__ import annotations


class NotModelledError(NotImplementedError):
    """Slicer can do this, the harness cannot. Extend the harness before the test relies on it."""
