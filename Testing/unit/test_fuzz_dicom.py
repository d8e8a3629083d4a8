"""Damaged DICOM: series, enhanced CT, PET, SEG and RTSTRUCT give a value or a named error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_objects import SEGMENTS, item, write_enhanced_ct, write_pet, write_rtstruct, write_seg
from fuzzing import damaged, fuzz, value_or_error
from hypothesis import given
from hypothesis import strategies as st
from images import LIVER_RULES, OBLIQUE, ct_array, write_dicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from REACTKDLib.dicom_input.choose_series import judge_folder
from REACTKDLib.dicom_input.pet import PetValues
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import _read_pet, read_ct
from REACTKDLib.read_segmentation import read_segmentation

SMALL = OBLIQUE.crop((0, 0, 0), (14, 11, 3))
ARRAY = ct_array()[:3]
MASKS = [(name, mask[:3]) for name, mask in SEGMENTS if mask[:3].any()]


def contours(geometry: Geometry) -> list[np.ndarray]:
    square = np.array([[2.2, 2.1], [9.7, 2.3], [9.1, 8.8], [2.6, 8.2]])
    return [geometry.lps_from_ijk(np.column_stack([square, np.full(4, k)])) for k in range(3)]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Folders of good files by kind."""
    root = tmp_path_factory.mktemp("good")
    write_dicom(root / "classic", ARRAY, SMALL)
    write_dicom(root / "jpeg2000", ARRAY, SMALL, jpeg2000=True)
    write_enhanced_ct(root / "enhanced" / "ct.dcm", ARRAY, SMALL)
    for name, syntax in (("rle", RLELossless), ("jpegls", JPEGLSLossless),
                         ("deflated", DeflatedExplicitVRLittleEndian)):  # fmt: skip
        write_enhanced_ct(root / name / "ct.dcm", ARRAY, SMALL, syntax=syntax)
    write_pet(root / "pet", ARRAY, SMALL, slopes=[1.5, 2.0, 2.5])
    write_seg(root / "seg" / "seg.dcm", MASKS, SMALL)
    write_seg(root / "fractional" / "seg.dcm", MASKS, SMALL, kind="FRACTIONAL")
    write_rtstruct(root / "rtstruct" / "rt.dcm", [("Liver", contours(SMALL))])
    return {
        folder.name: {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
        for folder in root.iterdir()
    }


def sound(array: np.ndarray, geometry: Geometry) -> None:
    assert array.shape == geometry.array_shape
    assert np.isfinite(array).all()


def read(kind: str, folder: Path) -> None:
    """As a run would read it."""
    if kind == "pet":
        volume, _, _ = _read_pet(folder, "pet_fdg", PetValues())
        sound(volume.array, volume.geometry)
    elif kind in ("seg", "fractional", "rtstruct"):
        segmentation = read_segmentation([folder], LIVER_RULES, None, lambda: SMALL)
        sound(segmentation.labels, segmentation.geometry)
    else:
        volume = read_ct(folder)
        sound(volume.array, volume.geometry)


KINDS = ["classic", "jpeg2000", "enhanced", "rle", "jpegls", "deflated", "pet", "seg",
         "fractional", "rtstruct"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_files_are_read(kind, good):
    assert value_or_error(lambda folder: read(kind, folder) or True, good[kind])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzz
def test_a_damaged_file(kind, good, data):
    files = dict(good[kind])
    name = data.draw(st.sampled_from(sorted(files)))
    files[name] = data.draw(damaged(files[name], header=1200))
    value_or_error(lambda folder: read(kind, folder), files)


_ODD = st.one_of(
    st.sampled_from([
        "", "0", "-1", "nan", "inf", "1e400", "x", "1\\2", "99999999", "20209999", "256161.99",
        "ORIGINAL\\PRIMARY", "\0", "A" * 70, "1\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "0\\0",
    ]),
    st.text(max_size=12),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzz
def test_odd_values_and_missing_elements(kind, good, data):
    """Elements, at any depth, gone, emptied, or with a value of the wrong kind."""
    files = dict(good[kind])
    name = data.draw(st.sampled_from(sorted(files)))
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(files[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        elements = [(d, e.tag) for d in _levels(dataset) for e in d]
        holder, tag = data.draw(st.sampled_from(elements))
        element = holder[tag]
        how = data.draw(st.sampled_from(["gone", "empty", "odd", "number"]))
        if how == "gone":
            del holder[tag]
        elif element.VR == "SQ":
            holder[tag].value = [] if how == "empty" else [item()]
        elif element.VR in ("US", "SS", "UL", "SL"):
            holder[tag].value = data.draw(st.integers(0, 65535)) if how != "empty" else None
        elif element.VR in ("OB", "OW"):
            holder[tag].value = element.value[: data.draw(st.integers(0, 100))]
        else:
            odd = "" if how == "empty" else data.draw(_ODD)
            holder[tag]._value = odd.replace("\\\\", "\\")
    out = pydicom.filebase.DicomBytesIO()
    try:
        dataset.save_as(out, enforce_file_format=False)
    except Exception:  # pydicom refuses to write some of it
        return
    files[name] = out.getvalue()
    value_or_error(lambda folder: read(kind, folder), files)


def _levels(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    found = [dataset]
    for element in dataset:
        if element.VR == "SQ":
            for inner in element.value:
                found += _levels(inner)
    return found


@given(data=st.data())
@fuzz
def test_a_mixed_folder_is_judged(good, data):
    """Several series, one of them damaged: the listing never breaks but by a named error."""
    files = {f"a/{n}": c for n, c in good["classic"].items()}
    files |= {f"b/{n}": c for n, c in good["enhanced"].items()}
    files |= {f"c/{n}": c for n, c in good["seg"].items()}
    name = data.draw(st.sampled_from(sorted(files)))
    files[name] = data.draw(damaged(files[name], header=1200))
    verdict = value_or_error(judge_folder, files)
    if verdict is not None and verdict.problem is None:
        assert verdict.why
