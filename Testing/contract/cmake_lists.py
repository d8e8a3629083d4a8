"""What the CMake files list and what stands on disk."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: Folder -> name of the variable that lists its files, and which files must be listed.
ROOMS = {
    "REACTKD": ("MODULE_PYTHON_SCRIPTS", "*.py"),
    "REACTKDLib": ("MODULE_PYTHON_SCRIPTS", "*.py"),
    "Resources": ("RESOURCE_FILES", "*"),
    "docs": ("DOCUMENT_FILES", "*.md"),
}


def listed_files(room: str) -> list[str]:
    """Entries of the room's list, in order; relative to the room, ``/`` between folders."""
    text = (REPOSITORY / room / "CMakeLists.txt").read_text(encoding="utf-8")
    match = re.search(rf"^set\({ROOMS[room][0]}\n(.*?)^ *\)", text, flags=re.M | re.S)
    assert match is not None, f"{room}/CMakeLists.txt sets no {ROOMS[room][0]}"
    return match.group(1).split()


def files_on_disk(room: str) -> list[str]:
    """Files of the room that belong into the package."""
    folder = REPOSITORY / room
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob(ROOMS[room][1])
        if path.is_file() and "__pycache__" not in path.parts and path != folder / "CMakeLists.txt"
    )
