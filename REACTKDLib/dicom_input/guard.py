"""A look at a DICOM file before a library is let at it.

GDCM descends into sequences on the stack, so that a small file of sequences within sequences would
end the whole process; and a deflated file may be a thousand times larger than it looks. Both are
counted here, without parsing anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

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
