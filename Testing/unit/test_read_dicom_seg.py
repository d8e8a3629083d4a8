"""DICOM segmentations: SEG on its lattice, roles by name and by code, where it was drawn."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_objects import (
    AORTA,
    LABELS,
    expected_labels,
    item,
    save,
    write_seg,
)
from images import LIVER_RULES, OBLIQUE, ct_array, rotation, write_dicom, write_image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import StudyFiles, read_study
from REACTKDLib.read_segmentation import read_segmentation


def read_seg_file(path):
    return read_segmentation([path], LIVER_RULES)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_seg_is_put_where_it_belongs(tmp_path, kind):
    segmentation = read_seg_file(write_seg(tmp_path / "seg.dcm", kind=kind))
    # Slices 1 to 6 have frames; the grid is the CT's between them.
    assert segmentation.geometry.same_grid(OBLIQUE.crop((0, 0, 1), (14, 11, 6)))
    assert np.array_equal(segmentation.labels, expected_labels()[1:7])
    assert [(s.label, s.name, s.role) for s in segmentation.segments] == [
        (1, "Liver", "liver"),
        (2, "Mass", "lesion"),
        (3, "Abdominal aorta", None),
    ]


def test_slices_without_frames_stay_empty(tmp_path):
    sparse = LABELS.copy()
    sparse[[2, 3, 5]] = 0  # frames in slices 1, 4 and 6
    path = write_seg(tmp_path / "a.dcm", [("Liver", sparse > 0)], spacing_between=2.5)
    segmentation = read_seg_file(path)
    assert segmentation.geometry.same_grid(OBLIQUE.crop((0, 0, 1), (14, 11, 6)))
    assert np.array_equal(segmentation.labels, sparse[1:7] > 0)
    # Frames 3 and 2 steps apart are no lattice of their own.
    path = write_seg(tmp_path / "b.dcm", [("Liver", sparse > 0)])
    with pytest.raises(InputError, match="no regular grid"):
        read_seg_file(path)
    # A declared spacing that the positions contradict does not count.
    path = write_seg(tmp_path / "c.dcm", [("Liver", LABELS > 0)], spacing_between=3.4)
    assert read_seg_file(path).geometry.spacing_mm[2] == pytest.approx(2.5)


def test_one_frame(tmp_path):
    one = LABELS.copy()
    one[[*range(3), *range(4, 8)]] = 0
    segmentation = read_seg_file(write_seg(tmp_path / "seg.dcm", [("Liver", one > 0)]))
    assert segmentation.geometry.same_grid(OBLIQUE.crop((0, 0, 3), (14, 11, 1)))
    assert np.array_equal(segmentation.labels, one[3:4] > 0)


def test_roles_by_type_where_labels_say_nothing(tmp_path):
    segments = [("Segment 1", LABELS > 0), ("Segment 2", LABELS == 2), ("Portal vein", AORTA > 0)]
    types = {"Segment 1": "Liver", "Segment 2": "a mass", "Portal vein": "Liver"}
    segmentation = read_seg_file(write_seg(tmp_path / "seg.dcm", segments, types=types))
    assert [s.role for s in segmentation.segments] == ["liver", "lesion", None]
    # The codes count in any language; without labels, the types are the names.
    codes = {
        "SegmentSequence": [
            item(SegmentNumber=n, SegmentedPropertyTypeCodeSequence=[item(CodeValue=code)])
            for n, code in ((1, "10200004"), (2, "M-80006"), (3, "15825003"))
        ]
    }
    segmentation = read_seg_file(write_seg(tmp_path / "seg.dcm", tags=codes))
    assert [(s.name, s.role) for s in segmentation.segments] == [
        ("liver", "liver"), ("metastasis", "lesion"), ("label 3", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SegmentationType": "SURFACE", "MaximumFractionalValue": 1}, "type SURFACE"),
        ({"NumberOfFrames": 3}, "11 frames are described, of 3"),
        ({"SegmentSequence": [item(SegmentNumber=300, SegmentLabel="Liver")]}, "not 1 to 255"),
        ({"SegmentSequence": [item(SegmentNumber=1, SegmentLabel="Liver")]}, "unknown segment"),
        ({"PerFrameFunctionalGroupsSequence": []}, "0 frames are described"),
        ({"Rows": 60000, "Columns": 60000}, "claims 60000 x 60000"),
        ({"Rows": 600}, "bytes of pixel data cannot be"),
        ({"SharedFunctionalGroupsSequence": []}, "no PixelMeasuresSequence"),
    ],
)
def test_a_seg_that_cannot_be_used(tmp_path, tags, message):
    path = write_seg(tmp_path / "seg.dcm", tags=tags)
    with pytest.raises(InputError, match=message):
        read_seg_file(path)


def test_frames_of_several_orientations(tmp_path):
    path = write_seg(tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(path)
    turned = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [turned]
    dataset.save_as(path)
    with pytest.raises(InputError, match="several orientations"):
        read_seg_file(path)


def test_no_seg_at_all(tmp_path):
    cut = write_seg(tmp_path / "b.dcm")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as a DICOM segmentation"):
        read_seg_file(cut)
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no known image suffix"):
        read_seg_file(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="does not exist"):
        read_seg_file(tmp_path / "none.dcm")
    image = write_dicom(tmp_path / "ct", ct_array())[0]
    with pytest.raises(InputError, match="no SEG and no RTSTRUCT"):
        read_seg_file(image)
    with pytest.raises(InputError, match="has 0 DICOM segmentations"):
        read_seg_file(tmp_path / "ct")
    with pytest.raises(InputError, match="beside others"):
        read_segmentation([write_seg(tmp_path / "c.dcm"), cut], LIVER_RULES)


def test_a_folder_with_one_seg(tmp_path):
    path = write_seg(tmp_path / "SEG" / "1.dcm")
    assert np.array_equal(read_seg_file(tmp_path / "SEG").labels, read_seg_file(path).labels)
    write_seg(tmp_path / "SEG" / "2.dcm")
    with pytest.raises(InputError, match="has 2 DICOM segmentations"):
        read_seg_file(tmp_path / "SEG")


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_compressed_frames(tmp_path, syntax):
    path = write_seg(tmp_path / "seg.dcm", kind="FRACTIONAL")
    dataset = pydicom.dcmread(path)
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    save(dataset, tmp_path / "small.dcm", syntax)
    labels = read_seg_file(tmp_path / "small.dcm").labels
    assert np.array_equal(labels, expected_labels()[1:7])


def test_a_labelmap_seg(tmp_path):
    """One value per voxel instead of one frame per segment."""
    path = write_seg(tmp_path / "seg.dcm", [("Liver", LABELS > 0)], kind="FRACTIONAL")
    dataset = pydicom.dcmread(path)
    dataset.SegmentationType = "LABELMAP"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    dataset.SegmentSequence = [
        item(SegmentNumber=n, SegmentLabel=name)
        for n, name in ((0, "background"), (1, "Liver"), (2, "Mass"), (3, "Aorta"))
    ]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.SegmentIdentificationSequence
    dataset.PixelData = expected_labels()[6:0:-1].tobytes()
    save(dataset, path)
    segmentation = read_seg_file(path)
    assert np.array_equal(segmentation.labels, expected_labels()[1:7])
    assert segmentation.labels_of("lesion") == (2,)


def test_a_seg_by_highdicom(tmp_path):
    """Written by the library that most sites use."""
    highdicom = pytest.importorskip("highdicom")
    tags = {"0020|0052": "1.2.3.4", "0018|0050": "2.5"}
    files = write_dicom(tmp_path / "ct", ct_array(), tags=tags)
    images = []
    for file in files:
        image = pydicom.dcmread(file)
        for name in ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                     "AccessionNumber", "StudyID", "ReferringPhysicianName"):  # fmt: skip
            setattr(image, name, "")
        images.append(image)
    liver = highdicom.seg.SegmentDescription(
        1, "Segment 1", pydicom.sr.codedict.codes.SCT.Organ,
        pydicom.sr.codedict.codes.SCT.Liver, "MANUAL",
    )  # fmt: skip
    seg = highdicom.seg.Segmentation(
        images, (LABELS > 0).astype(np.uint8), "BINARY", [liver], "1.2.3.5", 1, "1.2.3.6", 1,
        "maker", "model", "1", "0",
    )  # fmt: skip
    seg.save_as(tmp_path / "seg.dcm")
    segmentation = read_seg_file(tmp_path / "seg.dcm")
    assert segmentation.labels_of("liver") == (1,)
    whole = np.flatnonzero(LABELS.any(axis=(1, 2)))
    assert np.array_equal(segmentation.labels, LABELS[whole[0] : whole[-1] + 1] > 0)


def test_a_seg_on_another_grid_than_its_ct(tmp_path):
    """The same place in the patient, turned, finer and smaller: nothing is matched by index."""
    write_dicom(tmp_path / "ct", ct_array())
    turned = Geometry(
        (12, 20, 6), (0.5, 0.4, 1.5), (-28.0, 52.0, -118.0),
        tuple(float(v) for v in rotation(-40, 25).ravel()),
    )  # fmt: skip
    box = np.zeros(turned.array_shape, bool)
    box[1:5, 4:15, 2:9] = True
    path = write_seg(tmp_path / "seg.dcm", [("Liver", box)], turned)
    study = read_study(StudyFiles(tmp_path / "ct", (path,)), LIVER_RULES)
    k, j, i = np.nonzero(study.segmentation.labels)
    found = study.segmentation.geometry.lps_from_ijk(np.stack([i, j, k], -1)).mean(axis=0)
    k, j, i = np.nonzero(box)
    assert np.allclose(found, turned.lps_from_ijk(np.stack([i, j, k], -1)).mean(axis=0), atol=1e-3)


def test_the_ct_that_it_was_drawn_on_is_read(tmp_path):
    for n in (1, 2):
        write_dicom(tmp_path / "ct" / f"{n}", ct_array() + np.int16(n), uid=f"1.2.{n}",
                    tags={"0020|0052": "1.2.3.4"})  # fmt: skip
    path = write_seg(tmp_path / "seg.dcm", refers="1.2.2", frame_of_reference="1.2.3.4")
    study = read_study(StudyFiles(tmp_path / "ct", (path,)), LIVER_RULES)
    assert np.array_equal(study.ct.array, ct_array() + 2)
    assert study.series["ct"].uid == "1.2.2"
    assert "drawn on it" in study.series["ct"].why
    assert study.notices == ()
    # Another series by choice: the same coordinates, and a notice.
    study = read_study(StudyFiles(tmp_path / "ct", (path,), series_uid="1.2.1"), LIVER_RULES)
    assert [n.code for n in study.notices] == ["segmentation_of_other_series"]
    # Other coordinates: refused.
    path = write_seg(tmp_path / "seg.dcm", refers="1.2.2", frame_of_reference="1.2.3.9")
    with pytest.raises(InputError, match="another frame of reference"):
        read_study(StudyFiles(tmp_path / "ct", (path,)), LIVER_RULES)
    # A CT that is no DICOM has no frame of reference.
    ct = write_image(tmp_path / "ct.nii.gz", ct_array())
    assert read_study(StudyFiles(ct, (path,)), LIVER_RULES).notices == ()


def test_roles_may_be_chosen(tmp_path):
    path = write_seg(tmp_path / "seg.dcm")
    segmentation = read_segmentation([path], LIVER_RULES, {"lesion": "Abdominal aorta"})
    assert segmentation.labels_of("lesion") == (3,)
    segmentation = read_segmentation([path], LIVER_RULES, {"lesion": "3"})
    assert segmentation.labels_of("lesion") == (3,)
