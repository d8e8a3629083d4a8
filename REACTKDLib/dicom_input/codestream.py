"""What compressed frames say of their own size, before anything is decoded.

A decoder of JPEG 2000 or JPEG believes the frame's own header and not DICOM's Rows and Columns: one
damaged byte there makes it ask for as much memory as there is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from .guard import DEFLATED, JPEG_FAMILY, RLE

#: A fragment (item tag, length) that begins with a codestream of JPEG 2000, or of JPEG or JPEG-LS.
_FRAGMENT = re.compile(rb"\xfe\xff\x00\xe0.{4}(\xff\x4f\xff\x51|\xff\xd8\xff)", re.DOTALL)
#: Start-of-frame markers of JPEG (ITU-T T.81, table B.1) and JPEG-LS (T.87).
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_MOST_COMPONENTS = 4
#: RLE makes at most 128 bytes of two; deflate at most 1032 of one.
_EXPANSION = {RLE: 64, DEFLATED: 1032}


def pixel_problem(path: Path, syntax: str, columns: int, rows: int, frames: int) -> str | None:
    """Why a file cannot hold ``frames`` of ``rows`` x ``columns`` in its transfer syntax, or None.

    A file without compression holds at most a pixel per byte (a SEG's bits are counted elsewhere);
    one with compressed frames has a codestream of exactly the header's size for each.
    """
    if syntax not in JPEG_FAMILY:
        most = path.stat().st_size * _EXPANSION.get(syntax, 1)
        if columns * rows * frames > most:
            return f"{columns} x {rows} x {frames} pixels do not fit into the file"
        return None
    content = path.read_bytes()
    count = 0
    for match in _FRAGMENT.finditer(content):
        sizes = _jpeg2000 if match.group(1)[:2] == b"\xff\x4f" else _jpeg
        for width, height, components in sizes(content, match.start(1)):
            if (width, height) != (columns, rows) or components > _MOST_COMPONENTS:
                return (
                    f"a compressed frame is {width} x {height} with {components} components, and"
                    f" the header says {columns} x {rows}"
                )
            count += 1
    if count < frames:
        return f"it holds {count} compressed frames of {frames}"
    return None


def _jpeg2000(content: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Width, height and components of the SIZ marker (ISO/IEC 15444-1, A.5.1) behind SOC."""
    if len(content) >= at + 42:
        width, height = struct.unpack_from(">II", content, at + 8)
        yield width, height, struct.unpack_from(">H", content, at + 40)[0]


def _jpeg(content: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Height, width and components of the frame headers in front of the first scan."""
    at += 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _START_OF_FRAME:
            height, width, components = struct.unpack_from(">HHB", content, at + 5)
            yield width, height, components
        if marker == 0xDA:  # start of scan: pixels follow
            return
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", content, at + 2)[0]
