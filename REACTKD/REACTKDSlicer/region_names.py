"""Short names of regions, for narrow tables and for labels in views."""

from __future__ import annotations

#: Radiology's own abbreviations; the prefix says nothing beside another part's name.
_SHORT = {
    "superior": "sup.",
    "inferior": "inf.",
    "anterior": "ant.",
    "posterior": "post.",
}
_PREFIX = "Parenchyma "


def short_name(name: str) -> str:
    """``Parenchyma right inferior anterior`` as ``Right inf. ant.``; other names as they are.

    A part of the parenchyma keeps a name of its own: the long names differ in these words only.
    """
    if not name.startswith(_PREFIX):
        return name
    words = [_SHORT.get(word, word) for word in name.removeprefix(_PREFIX).split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]
