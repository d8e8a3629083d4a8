"""Small files that claim much: refused within a bounded memory, and without ending the process."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_objects import write_enhanced_ct, write_pet, write_rtstruct, write_seg
from images import OBLIQUE, ct_array, patch_bytes, patch_text, write_dicom, write_image
from pydicom.uid import JPEGLSLossless

from REACTKDLib.dicom_input.guard import MAX_ITEMS, meta_length, overlong_element
from REACTKDLib.errors import InputError
from REACTKDLib.read import read_ct

#: Address space of the reading process, beside what the libraries themselves take. MiB.
BOUND_MIB = 512

_CHILD = """
import json, resource, sys
import numpy, scipy.ndimage, SimpleITK, pydicom
from pathlib import Path
from images import LIVER_RULES, OBLIQUE
from REACTKDLib.errors import ReactKDError
from REACTKDLib.read import _read_pet, read_ct
from REACTKDLib.dicom_input.pet import PetValues
from REACTKDLib.read_segmentation import read_segmentation
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + {bound} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
readers = {{
    "ct": read_ct,
    "pet": lambda path: _read_pet(path, "pet_fdg", PetValues()),
    "seg": lambda path: read_segmentation([path], LIVER_RULES, None, lambda: OBLIQUE),
}}
for kind, path in json.loads(sys.argv[1]):
    try:
        readers[kind](Path(path))
        print(json.dumps([path, "read", ""]), flush=True)
    except ReactKDError as error:
        print(json.dumps([path, type(error).__name__, str(error)]), flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(["peak", peak >> 10, used >> 20]), flush=True)
"""


def read_bounded(cases: list[tuple[str, Path]]) -> dict[str, tuple[str, str]]:
    """What a process of bounded memory says about each path; it must live to the end."""
    command = [sys.executable, "-c", _CHILD.format(bound=BOUND_MIB)]
    root = Path(__file__).resolve().parents[2]
    finished = subprocess.run(
        [*command, json.dumps([(kind, str(path)) for kind, path in cases])],
        capture_output=True, encoding="utf-8", check=False, timeout=300,
        env={"PYTHONPATH": f"{root}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1",
             "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-500:] + finished.stderr[-2000:]
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert lines[-1][0] == "peak"
    return {path: (kind, text) for path, kind, text in lines[:-1]}


def explicit_slice(folder: Path) -> Path:
    """One slice of a CT in explicit VR little endian."""
    path = write_dicom(folder, ct_array())[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    return path


def strange(representation: bytes) -> bytes:
    """A private element of this value representation with a length of four bytes."""
    return b"\x53\x00\x10\x10" + representation + b"\0\0\x04\0\0\0abcd"


def spoil_slice(path: Path, elements: bytes) -> None:
    """Put elements before the pixel data."""
    content = path.read_bytes()
    at = content.find(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[:at] + elements + content[at:])


def bombs(folder: Path) -> list[tuple[str, Path]]:
    """Files of at most a few MB that claim, or expand to, gigabytes."""
    cases = []

    def add(kind: str, path: Path) -> Path:
        cases.append((kind, path))
        return path

    # 500 MB of zeros in half a megabyte, behind headers that claim six times that, and just that.
    small = write_image(folder / "plain.nii", ct_array()).read_bytes()
    zeros = bytes(1 << 24)
    for name, size in (("bomb", (1500, 1000, 1000)), ("true", (250, 1000, 1000))):
        head = bytearray(small[:352])
        struct.pack_into("<8h", head, 40, 3, *size, 1, 1, 1, 1)
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = squeeze.compress(bytes(head))
        packed += b"".join(squeeze.compress(zeros) for _ in range(30)) + squeeze.flush()
        add("ct", folder / f"{name}.nii.gz").write_bytes(packed)
        add("seg", folder / f"{name}_seg.nii.gz").write_bytes(packed)
    # The stream goes on after the voxels that the header claims.
    long = gzip.compress(small) + gzip.compress(zeros)
    add("ct", folder / "long.nii.gz").write_bytes(long)
    header = (
        b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        b"sizes: 1500 1000 1000\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        b"space origin: (0,0,0)\nendian: little\nencoding: gzip\n\n"
    )
    add("ct", folder / "bomb.nrrd").write_bytes(header + packed)
    # Claims alone.
    patch_bytes(write_image(add("ct", folder / "claim.nii"), ct_array()), 42, "<3h", *(32767,) * 3)
    patch_text(
        write_image(add("ct", folder / "claim.mha"), ct_array()),
        b"DimSize = 14 11 8", b"DimSize = 90000 90000 9",
    )  # fmt: skip

    # DICOM.
    def spoil(path: Path, **values: object) -> None:
        dataset = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(path)

    for name, values in (
        ("rows", {"Rows": 65535, "Columns": 65535}), ("frames", {"NumberOfFrames": 2_000_000}),
    ):  # fmt: skip
        for kind, write in (
            ("ct", lambda p: write_dicom(p, ct_array())[0]),
            ("ct", lambda p: write_dicom(p, ct_array(), jpeg2000=True)[0]),
            ("ct", lambda p: write_enhanced_ct(p / "a.dcm", ct_array())),
            ("pet", lambda p: write_pet(p, ct_array(), slopes=[1.0] * 8)[0]),
            ("seg", lambda p: write_seg(p / "a.dcm")),
        ):
            spoil(write(add(kind, folder / f"{name}{len(cases)}")), **values)
    # Compressed frames that claim more than the header: JPEG 2000 and JPEG-LS.
    for kind, write, marker, at, size in (
        ("ct", lambda p: write_dicom(p, ct_array(), jpeg2000=True)[0], b"\xff\x4f\xff\x51", 8,
         struct.pack(">II", 60_000, 60_000)),
        ("ct", lambda p: write_enhanced_ct(p / "a.dcm", ct_array(), syntax=JPEGLSLossless),
         b"\xff\xf7", 5, struct.pack(">HH", 65_535, 65_535)),
    ):  # fmt: skip
        file = write(add(kind, folder / f"codestream{len(cases)}"))
        content = bytearray(file.read_bytes())
        place = content.find(marker) + at
        content[place : place + len(size)] = size
        if marker == b"\xff\x4f\xff\x51":  # one tile of that size
            content[place + 16 : place + 16 + len(size)] = size
        file.write_bytes(content)
    # An element that claims 4 GB, with the file's few bytes behind it.
    for where in (b"\x08\x00\x60\x00", b"\xe0\x7f\x10\x00"):
        file = write_dicom(add("ct", folder / f"length{len(cases)}"), ct_array())[0]
        content = file.read_bytes()
        at = content.find(where)
        file.write_bytes(content[:at] + where + b"OW\0\0\xf0\xff\xff\xff" + content[at + 12 :])
    # The same behind an element whose value representation does not exist, and in that element.
    long = b"OW\0\0\xf0\xff\xff\xff"
    for spoilt in (
        strange(b"??") + b"\x54\x00\x10\x10" + long,
        strange(b"??")[:4] + b"XY" + long[2:],
    ):
        spoil_slice(explicit_slice(add("ct", folder / f"strange{len(cases)}")), spoilt)
    # Sequences in sequences, without an end.
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    for kind, write in (
        ("ct", lambda p: write_dicom(p, ct_array())[0]),
        ("ct", lambda p: write_enhanced_ct(p / "a.dcm", ct_array())),
        ("seg", lambda p: write_seg(p / "a.dcm")),
        ("pet", lambda p: write_pet(p, ct_array(), slopes=[1.0] * 8)[0]),
    ):
        file = write(add(kind, folder / f"nested{len(cases)}"))
        content = file.read_bytes()
        at = content.find(b"\x08\x00\x60\x00")
        file.write_bytes(content[:at] + level * 50_000 + content[at:])
    # A deflated dataset of 2 GB of zeros in one private element.
    file = write_enhanced_ct(add("ct", folder / "deflated") / "a.dcm", ct_array(),
                             syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)  # fmt: skip
    content = file.read_bytes()
    meta = meta_length(file)
    inner = zlib.decompress(content[meta:], -15)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(b"\x09\x00\x01\x10UN\0\0" + struct.pack("<I", 2**31 - 2**24))
    bomb += b"".join(squeeze.compress(zeros) for _ in range(127))
    file.write_bytes(content[:meta] + bomb + squeeze.compress(inner) + squeeze.flush())
    # Contours far apart.
    near = OBLIQUE.lps_from_ijk(np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]]))
    far = near + np.array([9e5, 0, 0])
    write_rtstruct(add("seg", folder / "far") / "a.dcm", [("Liver", [near, far])])
    return cases


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")
def test_bombs_are_refused_in_bounded_memory(tmp_path):
    cases = bombs(tmp_path)
    assert all(path.stat().st_size < 4 << 20 for path in tmp_path.rglob("*") if path.is_file())
    found = read_bounded(cases)
    assert set(found) == {str(path) for _, path in cases}
    # These hold what they claim: read, or too large for the memory.
    good = {str(tmp_path / f"{name}.nii.gz") for name in ("long", "true", "true_seg")}
    for path, (kind, text) in found.items():
        assert (kind == "read" and path in good) or kind == "InputError", (path, kind, text)
        assert len(text) < 3000


def test_the_deepest_nesting_that_gdcm_gets(tmp_path):
    """As many items as are let through, one in the other: no harm."""
    file = write_dicom(tmp_path, ct_array())[0]
    content = file.read_bytes()
    at = content.find(b"\x08\x00\x60\x00")
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    file.write_bytes(content[:at] + level * MAX_ITEMS + content[at:])
    with pytest.raises(InputError):
        read_ct(tmp_path)


@pytest.mark.parametrize("representation", [b"??", b"  ", b"XY"])
def test_a_value_representation_that_does_not_exist_is_walked_over(tmp_path, representation):
    """As GDCM does; some writers' private elements have one."""
    path = explicit_slice(tmp_path)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert overlong_element(path) is None
    spoil_slice(path, strange(representation))
    assert overlong_element(path) is None
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == voxels).all()
    spoil_slice(path, b"\x54\x00\x10\x10OW\0\0\xf0\xff\xff\xff")
    assert overlong_element(path) == "(0054,1010) claims 4294967280 bytes"
