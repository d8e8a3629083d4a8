"""Where an image file keeps its voxels, and the voxels themselves, checked to the last byte.

SimpleITK reads the geometry of every format (see ``read_image``), but its voxel readers forgive
damage: a truncated NIfTI file comes back padded with zeros, a damaged MetaImage or NRRD stream
comes back partly decoded, and ``x.nii.gz`` beside ``x.nii`` gives the voxels of the other file.
A CT with silent zeros would be analysed as if it were real. So the voxel block is located here
from the header's few storage fields, and decompressed with its checksum.

Formats: NIfTI-1 single file (``.nii``, ``.nii.gz``), NRRD 1-5 (``.nrrd``, ``.nhdr``; raw or gzip)
and MetaImage (``.mha``, ``.mhd``; raw or zlib).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import InputError

try:
    from zlib_ng import zlib_ng as zlib  # the same interface and checks, twice as fast
except ImportError:  # Slicer does not bring it
    import zlib  # type: ignore[no-redef]

#: zlib window setting that accepts both the gzip and the zlib wrapper, and checks their checksum.
_ANY_WRAPPER = 47
_CHUNK = 1 << 16
#: Bytes read and decompressed at a time. Large, because each step ends with a wait for Python's
#: global lock, which other threads hold (torch being imported); bounded, because a small file can
#: expand a thousandfold.
_READ, _EXPANDED = 1 << 20, 1 << 23
#: Deflate cannot expand a byte into more than this many.
_MAX_EXPANSION = 1032
_MAX_HEADER_LINE = 1 << 22

_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_NIFTI_COLOUR = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex"}

_NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,"
        "int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}

#: Kinds of an axis along which voxels lie; the others hold components. Unknown counts as space.
_NRRD_SPACE_KINDS = ("domain", "space", "time", "none", "???")

_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class VoxelLayout:
    """The place and form of a voxel block.

    ``file`` : file that holds it. ``start`` : byte where the (compressed) stream begins, or
    ``None`` when the block is the end of the file. ``skip`` : bytes of the decompressed stream
    before the first voxel. ``dtype`` : with byte order. Value = stored * ``slope`` + ``intercept``.
    ``metadata`` : the header's free key/value pairs (NRRD only).
    """

    file: Path
    dtype: np.dtype
    start: int | None = 0
    skip: int = 0
    compressed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    metadata: Mapping[str, str] = field(default_factory=dict)


def damaged(path: Path, why: str) -> InputError:
    """The error for a file whose content cannot be used."""
    return InputError(f"{path} is damaged or incomplete: {why}.", "Copy or export the file again.")


def unsupported(path: Path, what: str) -> InputError:
    """The error for a legal file in a variant that is not read."""
    return InputError(
        f"{path} {what}, which is not read.",
        "Open it in 3D Slicer and save it as .nii.gz or .nrrd.",
    )


def nifti_layout(path: Path) -> VoxelLayout:
    """Layout of a NIfTI-1 single file (NIfTI-1 header, 348 bytes).

    Raises
    ------
    InputError : not NIfTI-1, a header/image pair, colour, complex or vector voxels, a spacing that
        is not positive, an orientation that is not finite (ITK would silently repair both).
    """
    with open(path, "rb") as file:
        head = file.read(_CHUNK)
    compressed = head[:2] == b"\x1f\x8b"
    if compressed:
        try:
            head = zlib.decompressobj(_ANY_WRAPPER).decompress(head)
        except zlib.error as error:  # type: ignore[misc]
            raise damaged(path, f"its compression is invalid ({error})") from error
    if len(head) < 352:
        raise damaged(path, f"it ends after {len(head)} bytes of a 352-byte NIfTI header")
    order = next((o for o in "<>" if struct.unpack_from(o + "i", head)[0] == 348), None)
    if order is None:
        raise unsupported(path, "has no NIfTI-1 header")
    if head[344:347] != b"n+1":
        raise unsupported(path, f"is NIfTI of kind {head[344:347]!r} (header and image apart)")

    dimensions = struct.unpack_from(order + "8h", head, 40)
    used = dimensions[1 : 1 + dimensions[0]] if 1 <= dimensions[0] <= 7 else ()
    if not used or min(used) < 1:
        raise damaged(path, f"its header gives the dimensions {dimensions}")
    if any(n > 1 for n in used[4:]):
        raise unsupported(path, f"has {math.prod(used[4:])} values per voxel")
    spacing = struct.unpack_from(order + "3f", head, 80)[: len(used)]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(
            f"{path}: the voxel spacing {spacing} mm is not positive.",
            "Repair the image header, or export the image again.",
        )
    qform_code, sform_code = struct.unpack_from(order + "2h", head, 252)
    orientation = (
        *(struct.unpack_from(order + "6f", head, 256) if qform_code > 0 else ()),
        *(struct.unpack_from(order + "12f", head, 280) if sform_code > 0 else ()),
    )
    if not all(math.isfinite(v) for v in orientation):
        raise damaged(path, f"its orientation is not finite: {orientation}")

    code = struct.unpack_from(order + "h", head, 70)[0]
    if code in _NIFTI_COLOUR:
        raise unsupported(path, f"has {_NIFTI_COLOUR[code]} voxels")
    if code not in _NIFTI_TYPES:
        raise damaged(path, f"its header gives the unknown voxel type {code}")
    offset, slope, intercept = struct.unpack_from(order + "3f", head, 108)
    if not (math.isfinite(offset) and 348 <= offset < 2**31):
        raise damaged(path, f"its header puts the voxels at byte {offset}")
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        slope, intercept = 1.0, 0.0  # how some writers say "unset"
    if slope == 0:
        if intercept != 0:
            # The standard says "no scaling", ITK adds the intercept: 1000 HU may hang on it.
            raise damaged(path, f"its scaling is ambiguous: slope 0 with intercept {intercept}")
        slope = 1.0
    return VoxelLayout(
        file=path,
        dtype=np.dtype(order + _NIFTI_TYPES[code]),
        skip=int(offset),
        compressed=compressed,
        slope=slope,
        intercept=intercept,
    )


def _header_line(file: BinaryIO, path: Path) -> str:
    line = file.readline(_MAX_HEADER_LINE)
    if len(line) == _MAX_HEADER_LINE:
        raise damaged(path, "its header has no line ends")
    return line.decode("utf-8", errors="replace").rstrip("\r\n")


def nrrd_layout(path: Path) -> VoxelLayout:
    """Layout of an NRRD file, attached or detached (NRRD format, teem).

    Raises
    ------
    InputError : not NRRD, an encoding other than raw and gzip, data spread over several files,
        bytes or lines to skip, a component axis that is not the fastest.
    """
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    with open(path, "rb") as file:
        if file.read(4) != b"NRRD":
            raise damaged(path, "it does not begin with NRRD")
        _header_line(file, path)
        while line := _header_line(file, path):
            if line.startswith("#"):
                continue
            key, separator, value = line.partition(":=")
            # A field is "key: value"; its value may itself hold ":=".
            if separator and ": " not in key:
                metadata[key] = value
            else:
                key, _, value = line.partition(":")
                fields[key.strip().lower()] = value.strip()
        attached_at = file.tell()

    if not {"type", "encoding", "sizes"} <= fields.keys():
        raise damaged(path, "its header ends early")
    kind = fields["type"].lower()
    if kind not in _NRRD_TYPES:
        raise unsupported(path, f"has voxels of type {kind!r}")
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise unsupported(path, f"has the encoding {encoding!r}")
    for key in ("line skip", "lineskip", "byte skip", "byteskip"):
        if fields.get(key, "0") != "0":
            raise unsupported(path, f"has {key} {fields[key]}")
    axes = fields.get("kinds", "").lower().split()
    components = [n for n, axis in enumerate(axes) if axis not in _NRRD_SPACE_KINDS]
    if components and components != [0]:
        raise unsupported(path, f"has axes of kinds {' '.join(axes)} (components not first)")
    dtype = np.dtype(_NRRD_TYPES[kind])
    if dtype.itemsize > 1:
        endian = fields.get("endian", "").lower()
        if endian not in ("little", "big"):
            raise damaged(path, f"its header gives the byte order {endian!r}")
        dtype = dtype.newbyteorder("<" if endian == "little" else ">")
    name = fields.get("data file", fields.get("datafile"))
    return VoxelLayout(
        file=path if name is None else _data_file(path, name),
        dtype=dtype,
        start=attached_at if name is None else 0,
        compressed=encoding != "raw",
        metadata=metadata,
    )


def meta_layout(path: Path) -> VoxelLayout:
    """Layout of a MetaImage, attached or detached.

    Raises
    ------
    InputError : not MetaImage, text voxels, data spread over several files, an unknown voxel type,
        an intensity function (ITK ignores it).
    """
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while "elementdatafile" not in fields:
            key, separator, value = _header_line(file, path).partition("=")
            if not separator:
                raise damaged(path, f"its header line {key[:40]!r} is not 'name = value'")
            fields[key.strip().lower()] = value.strip()
        attached_at = file.tell()

    def flag(key: str) -> bool:
        return fields.get(key, "").lower() in ("true", "1")

    kind = fields.get("elementtype", "")
    if kind not in _META_TYPES:
        raise unsupported(path, f"has voxels of type {kind!r}")
    if "binarydata" in fields and not flag("binarydata"):
        raise unsupported(path, "has voxels written as text")
    slope = fields.get("elementtointensityfunctionslope", "1")
    intercept = fields.get("elementtointensityfunctionoffset", "0")
    if (float(slope), float(intercept)) != (1.0, 0.0):
        raise unsupported(path, f"has an intensity function (slope {slope}, offset {intercept})")
    big = flag("binarydatabyteordermsb") or flag("elementbyteordermsb")
    name = fields["elementdatafile"]
    attached = name.upper() == "LOCAL"
    header_size = int(fields.get("headersize", "0"))
    start = attached_at if attached else None if header_size < 0 else header_size
    return VoxelLayout(
        file=path if attached else _data_file(path, name),
        dtype=np.dtype((">" if big else "<") + _META_TYPES[kind]),
        start=start,
        compressed=flag("compresseddata"),
    )


def _data_file(header: Path, name: str) -> Path:
    """The voxel file that a detached header names."""
    if name.upper().startswith("LIST") or "%" in name:
        raise unsupported(header, f"spreads its voxels over several files ({name})")
    file = header.parent / name
    if not file.is_file():
        raise InputError(
            f"{header} keeps its voxels in {name}, and that file is not there.",
            "Put both files into one folder.",
        )
    return file


def read_voxels(layout: VoxelLayout, count: int) -> np.ndarray:
    """The ``count`` stored values of a voxel block, in file order, shape (count,), native order.

    Raises
    ------
    InputError : the file ends early, its compressed stream is invalid or fails its checksum.
    """
    needed = layout.skip + count * layout.dtype.itemsize
    size = os.path.getsize(layout.file)
    start = layout.start if layout.start is not None else max(size - needed, 0)
    if needed > (size - start) * (_MAX_EXPANSION if layout.compressed else 1):
        raise damaged(
            layout.file, f"its header needs {needed} bytes of voxels, the file has {size - start}"
        )
    if layout.compressed:
        stream = _inflate(layout.file, start, needed)
        values = np.frombuffer(stream, layout.dtype, count, layout.skip)
    else:
        values = np.fromfile(layout.file, layout.dtype, count, offset=start + layout.skip)
    return values.astype(layout.dtype.newbyteorder("="), copy=False)


def _inflate(path: Path, start: int, size: int) -> np.ndarray:
    """The first ``size`` bytes of a zlib or gzip stream, read to its end and checked."""
    buffer = np.empty(size, np.uint8)
    filled = 0
    inflater = zlib.decompressobj(_ANY_WRAPPER)
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(_READ)
        try:
            while data:
                expanded = inflater.decompress(data, _EXPANDED)
                piece = np.frombuffer(expanded, np.uint8)[: size - filled]
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                data = inflater.unconsumed_tail or inflater.unused_data or file.read(_READ)
                if inflater.eof and data:  # gzip streams may be concatenated
                    inflater = zlib.decompressobj(_ANY_WRAPPER)
        except zlib.error as error:  # type: ignore[misc]
            raise damaged(path, f"its compression is invalid ({error})") from error
    if not inflater.eof:
        raise damaged(path, "its compressed voxels end early")
    if filled < size:
        raise damaged(path, f"its header needs {size} bytes of voxels, the file has {filled}")
    return buffer
