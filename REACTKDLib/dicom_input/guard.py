"""A look at a DICOM file before a library is let at it.

GDCM descends into sequences on the stack, so that a small file of sequences within sequences would
end the whole process; it takes as much memory as an element claims to be long; and a deflated file
may be a thousand times larger than it looks. All of that is measured here first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..errors import InputError

#: A deflated dataset may not become larger, bytes.
MAX_INFLATED = 512 << 20
#: Items of sequences that a slice may have; CT and PET slices have some tens. Nesting is at most as
#: deep as there are items.
MAX_ITEMS = 500

DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
#: JPEG baseline, extended, lossless (twice), JPEG-LS and JPEG 2000, each lossless and lossy: what
#: GDCM decodes.
JPEG_FAMILY = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
#: The tag (FFFE,E000) of an item in little and in big endian.
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_CHUNK = 1 << 20
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = (0x7FE0, 0x0010)
#: Value representations with a length of four bytes (PS3.5, 7.1.2).
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
#: Those with a length of two bytes; GDCM takes two zero bytes, which some writers leave, for one.
_SHORT = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"\0\0",
)  # fmt: skip


def meta_uid(path: Path, element: bytes) -> str | None:
    """A UID (0002,00xx) of the file meta header, which is never compressed; None if cut off."""
    with open(path, "rb") as file:
        head = file.read(1024)
    at = head.find(b"\x02\x00" + element + b"\x00UI") + 8
    length = int.from_bytes(head[at - 2 : at], "little")
    value = head[at : at + length]
    complete = at > 8 and 0 < length == len(value)
    return value.rstrip(b" \0").decode("ascii", errors="replace") if complete else None


def media_storage_class(path: Path) -> str | None:
    """The SOP class in the file meta header; None if it is cut off."""
    return meta_uid(path, b"\x02")


def transfer_syntax(path: Path) -> str:
    """The transfer syntax UID in the file meta header; "" if it is cut off."""
    return meta_uid(path, b"\x10") or ""


def meta_length(path: Path) -> int:
    """Where the dataset begins: behind preamble and file meta header (PS3.10, 7.1).

    Raises
    ------
    InputError : the meta header does not begin with its length.
    """
    with open(path, "rb") as file:
        head = file.read(144)
    if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00" or len(head) < 144:
        raise InputError(f"{path} has no length of its meta header.", "Export it again.")
    return 144 + int.from_bytes(head[140:144], "little")


def inflated(path: Path) -> Iterator[bytes]:
    """The dataset of a deflated file, in pieces.

    Raises
    ------
    InputError : it is larger than ``MAX_INFLATED``, or its compression is damaged.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    with open(path, "rb") as file:
        file.seek(meta_length(path))
        data = file.read(_CHUNK)
        while data and not inflater.eof:
            try:
                piece = inflater.decompress(data, _CHUNK)
            except zlib.error as error:
                raise InputError(
                    f"{path} is deflated, and its compression is damaged ({error}).",
                    "Export it again.",
                ) from error
            size += len(piece)
            if size > MAX_INFLATED:
                raise InputError(
                    f"{path} is larger than {MAX_INFLATED >> 20} MiB when inflated.",
                    "Export it in another transfer syntax.",
                )
            yield piece
            data = inflater.unconsumed_tail or file.read(_CHUNK)
    if not inflater.eof:
        raise InputError(f"{path} is deflated, and ends early.", "Export it again.")


def has_too_many_items(path: Path) -> bool:
    """Whether a file may have sequences too deep for GDCM: more than ``MAX_ITEMS`` items.

    Raises
    ------
    InputError : as :func:`inflated`, for a deflated file.
    """
    count, before = 0, b""
    pieces = inflated(path) if transfer_syntax(path) == DEFLATED else _pieces(path)
    for piece in pieces:
        text = before + piece
        count += max(text.count(tag) for tag in _ITEMS)
        if count > MAX_ITEMS:
            return True
        before = text[-3:]
    return False


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def overlong_element(path: Path) -> str | None:
    """The first element that claims to be longer than the rest of its file, or None.

    The elements are walked one after the other (PS3.5, 7.1), also into sequences, which need no
    stack that way. Where a value representation is none that exists, the element is measured as
    GDCM measures it: with a length of four bytes.
    """
    syntax = transfer_syntax(path)
    content = path.read_bytes()
    at, in_meta, in_fragments = 132, True, False
    while at + 8 <= len(content):
        in_meta = in_meta and content[at : at + 2] == b"\x02\x00"
        if not in_meta and syntax == DEFLATED:  # its pieces are bounded as a whole
            return None
        if in_meta and content[at + 4 : at + 6] not in (*_LONG, *_SHORT):
            return "in the meta header has no value representation"
        element, start, length = _element(content, at, "" if in_meta else syntax)
        if length == _UNDEFINED:
            in_fragments = in_fragments or element == _PIXEL_DATA
            at = start
            continue
        if start + length > len(content):
            return f"({element[0]:04x},{element[1]:04x}) claims {length} bytes"
        is_item = element[0] == 0xFFFE
        if is_item and element[1] == 0xE0DD:
            in_fragments = False
        is_sequence = content[at + 4 : at + 6] == b"SQ" and syntax != _IMPLICIT
        descends = (is_sequence or (is_item and not in_fragments)) and element != _PIXEL_DATA
        at = start if descends else start + length
    return None


def _element(content: bytes, at: int, syntax: str) -> tuple[tuple[int, int], int, int]:
    """Tag, first byte of the value, and length of an element."""
    order: Literal["little", "big"] = "big" if syntax == _BIG_ENDIAN else "little"

    def number(start: int, size: int) -> int:
        return int.from_bytes(content[start : start + size], order)

    tag, vr = (number(at, 2), number(at + 2, 2)), content[at + 4 : at + 6]
    if tag[0] == 0xFFFE or syntax == _IMPLICIT:  # items have no value representation
        return tag, at + 8, number(at + 4, 4)
    if vr in _SHORT:
        return tag, at + 8, number(at + 6, 2)
    return tag, at + 12, number(at + 8, 4)
