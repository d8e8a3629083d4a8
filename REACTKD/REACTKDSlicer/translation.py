"""Texts of nodes in the user's language, also on slicer-core, which has no translations."""

from __future__ import annotations


def tr(text: str) -> str:
    """``text`` as ``slicer.i18n.tr`` gives it, or as it is outside the Slicer application."""
    try:
        from slicer.i18n import tr as translate
    except ImportError:
        return text
    return str(translate(text))
