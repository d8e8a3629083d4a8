"""Enhanced CT: a volume in one file, frame by frame on its grid and in HU."""

from __future__ import annotations

import sys

import numpy as np
import pydicom
import pytest
from dicom_objects import CT_UID, item, save, write_enhanced_ct
from images import OBLIQUE, ct_array, write_dicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from REACTKDLib.dicom_input.choose_series import choose_series
from REACTKDLib.dicom_input.files import list_series
from REACTKDLib.dicom_input.patient import PATIENT_TAGS
from REACTKDLib.errors import EnvironmentProblem, InputError
from REACTKDLib.read import read_ct


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless,
     JPEGLSLossless],
    ids=lambda uid: uid.name,
)  # fmt: skip
def test_an_enhanced_ct(tmp_path, syntax):
    write_enhanced_ct(tmp_path / "ct.dcm", ct_array(), syntax=syntax)
    volume = read_ct(tmp_path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ct_array())  # each frame by its own intercept
    assert volume.geometry.same_grid(OBLIQUE)


def test_it_is_chosen_as_any_series(tmp_path):
    write_enhanced_ct(tmp_path / "ct.dcm", ct_array())
    write_dicom(tmp_path / "old", ct_array(), uid="1.2.3", description="native")
    series, choice = choose_series(tmp_path)
    assert (series.uid, series.count, len(series.files)) == (CT_UID, 8, 1)
    assert "portal venous phase" in choice.why
    assert series.acquired == "20200101120000"


@pytest.mark.parametrize("enhanced", [True, False])
@pytest.mark.parametrize(
    ("header", "known"),
    [
        ({"PatientAge": "061Y", "PatientSex": "M"}, {"age": "061Y", "sex": "M"}),
        ({"PatientBirthDate": "19640229", "StudyDate": "20240228"}, {"age": "60.0"}),
        ({"PatientAge": "059Y", "PatientBirthDate": "19640229", "StudyDate": "20240228"},
         {"age": "059Y"}),
        ({"PatientBirthDate": "19640229", "StudyDate": "19630101"}, {}),
        ({"PatientBirthDate": "19640229", "PatientSex": ""}, {}),
    ],
)  # fmt: skip
def test_age_and_sex_are_kept_and_the_birth_date_is_not(tmp_path, enhanced, header, known):
    whole = write_enhanced_ct if enhanced else write_dicom
    paths = whole(tmp_path / "ct.dcm" if enhanced else tmp_path, ct_array())
    for path in [paths] if enhanced else paths:
        dataset = pydicom.dcmread(path)
        for keyword in PATIENT_TAGS:
            setattr(dataset, keyword, header.get(keyword))
        save(dataset, path)
    (series,) = list_series(tmp_path)
    assert dict(series.patient) == known
    assert "19640229" not in repr(series)


def test_fractional_rescale(tmp_path):
    intercepts = [-1024.0 + 0.25 * k for k in range(8)]
    hu = ct_array() + np.array(intercepts).reshape(8, 1, 1) - np.floor(intercepts).reshape(8, 1, 1)
    write_enhanced_ct(tmp_path / "ct.dcm", hu, intercepts=intercepts)
    volume = read_ct(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, hu)


def test_two_files_of_one_series(tmp_path):
    """A concatenation: frames of both files are one volume."""
    front = OBLIQUE.crop((0, 0, 0), (14, 11, 5))
    write_enhanced_ct(tmp_path / "a.dcm", ct_array()[:5], front)
    write_enhanced_ct(tmp_path / "b.dcm", ct_array()[5:], OBLIQUE.crop((0, 0, 5), (14, 11, 3)))
    assert np.array_equal(read_ct(tmp_path).array, ct_array())


def test_several_phases_in_one_file(tmp_path):
    path = write_enhanced_ct(tmp_path / "ct.dcm", ct_array())
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[3].PlanePositionSequence = frames[4].PlanePositionSequence
    save(dataset, path)
    with pytest.raises(InputError, match=r"same position that differ: ct.dcm:\d and ct.dcm:\d"):
        read_ct(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: setattr(d, "NumberOfFrames", 9), "8 frames are described, of 9"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "0 frames are described"),
        (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"),
         "no PixelMeasuresSequence"),
        (lambda d: delattr(
            d.PerFrameFunctionalGroupsSequence[2], "PixelValueTransformationSequence"),
         "no rescale to HU"),
        (lambda d: setattr(d, "Rows", 12), "bytes of pixel data cannot be"),
        (lambda d: (setattr(d, "Rows", 65535), setattr(d, "Columns", 65535)), "claims 65535"),
        (lambda d: setattr(d, "BitsAllocated", 64), "64 bits"),
        (lambda d: delattr(d, "PixelData"), "no pixel data"),
        (lambda d: setattr(d, "SharedFunctionalGroupsSequence", [item(
            PixelMeasuresSequence=[item(PixelSpacing=[0, 0])],
            PlaneOrientationSequence=d.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence)]),
         "spacing"),
    ],
)  # fmt: skip
def test_an_enhanced_ct_that_cannot_be_read(tmp_path, spoil, message):
    path = write_enhanced_ct(tmp_path / "ct.dcm", ct_array())
    dataset = pydicom.dcmread(path)
    spoil(dataset)
    save(dataset, path)
    with pytest.raises(InputError, match=message):
        read_ct(tmp_path)


@pytest.mark.parametrize("enhanced", [True, False])
def test_a_syntax_without_decoder(tmp_path, enhanced):
    if enhanced:
        paths = [write_enhanced_ct(tmp_path / "ct.dcm", ct_array())]
    else:
        paths = write_dicom(tmp_path, ct_array())
    for path in paths:
        dataset = pydicom.dcmread(path)
        frames = int(dataset.get("NumberOfFrames", 1))
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" * 50] * frames)
        dataset["PixelData"].VR = "OB"
        save(dataset, path, HTJ2KLossless)
    with pytest.raises(InputError, match="High-Throughput JPEG 2000"):
        read_ct(tmp_path)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
     JPEGLSLossless],
    ids=lambda uid: uid.name,
)  # fmt: skip
def test_classic_slices_in_other_syntaxes(tmp_path, syntax):
    for path in write_dicom(tmp_path, ct_array()):
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        fresh = pydicom.Dataset()  # which has no byte order yet
        fresh.update(dataset)
        save(fresh, path, syntax)
    assert np.array_equal(read_ct(tmp_path).array, ct_array())


def test_without_pydicom(tmp_path, monkeypatch):
    write_enhanced_ct(tmp_path / "ct.dcm", ct_array())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(EnvironmentProblem, match=r"reactkd\[dicom\]"):
        read_ct(tmp_path)


def test_names_in_broken_values_stay_out_of_sight(tmp_path, capfd, caplog):
    """pydicom's own warnings quote the value."""
    path = write_enhanced_ct(tmp_path / "ct.dcm", ct_array())
    raw = path.read_bytes()
    assert b"Secret^Patient" in raw
    path.write_bytes(raw.replace(b"Secret^Patient", b"Secret\xff\xfe^Name\x01"))
    read_ct(tmp_path)
    captured = capfd.readouterr()
    assert "Secret" not in captured.out + captured.err + caplog.text
