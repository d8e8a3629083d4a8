"""Names of cases: each becomes a folder, on every operating system."""

from __future__ import annotations

import unicodedata

MAX_BYTES = 100

#: No file name on Windows, or with a meaning in a shell, a path or a list.
_FORBIDDEN = frozenset('/\\:*?"<>|;')
#: Devices of Windows, whatever follows a dot.
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{device}{n}" for device in ("com", "lpt") for n in "0123456789¹²³"
}


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot be the folder of a case; None if it can."""
    if not name:
        return "the case has no name"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"the case name is longer than {MAX_BYTES} bytes"
    # Cc control, Cf invisible and direction marks, Cs surrogates, Zl and Zp line ends.
    unseen = [c for c in name if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    wrong = sorted({c for c in name if c in _FORBIDDEN} | set(unseen))
    if wrong:
        shown = ", ".join(ascii(c) for c in wrong[:5])
        return f"the case name {name!a} has characters that a folder cannot have: {shown}"
    if name[0] in ".-~" or name[0].isspace():
        return f"the case name {name!r} begins with {name[0]!r}"
    if name[-1] == "." or name[-1].isspace():
        return f"the case name {name!r} ends with {name[-1]!r}"
    if name.split(".")[0].rstrip().casefold() in _RESERVED:
        return f"the case name {name!r} is reserved on Windows"
    return None


def name_key(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
