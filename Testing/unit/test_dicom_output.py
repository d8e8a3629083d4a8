"""A result as DICOM objects, read back by pydicom alone and by highdicom: voxels, places, links."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_ct import write_ct
from dicom_objects import ENHANCED_CT, write_enhanced_ct
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from REACTKDLib.cli import main
from REACTKDLib.dicom_output import DICOM_FILES, write_dicom_output
from REACTKDLib.errors import EnvironmentProblem, InputError, OutputError
from REACTKDLib.geometry import Geometry, image_from_array
from REACTKDLib.palette import region_colors
from REACTKDLib.report import read_result
from REACTKDLib.types import CaseResult, Volume

#: A DS has 16 characters: positions agree to this, mm.
CLOSE_MM = 1e-4


def read(folder: Path, name: str) -> Dataset:
    return pydicom.dcmread(folder / f"{name}.dcm")


def slices(ct: Path) -> list[Dataset]:
    """The CT images in the order of their positions along the slice normal."""
    headers = [pydicom.dcmread(path) for path in ct.iterdir()]
    rows = np.array(headers[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(rows[:3], rows[3:])
    return sorted(headers, key=lambda ds: np.array(ds.ImagePositionPatient, float) @ normal)


def frame_places(ds: Dataset) -> Iterator[tuple[int, Dataset, np.ndarray]]:
    """Number, per-frame item and position of each frame."""
    for number, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        place = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        yield number, item, place


def voxels_of_segments(ds: Dataset, ct: list[Dataset]) -> np.ndarray:
    """Segment numbers (k, j, i) on the CT's images; every frame lies exactly on one of them."""
    labels = np.zeros((len(ct), ct[0].Rows, ct[0].Columns), np.uint8)
    places = np.array([image.ImagePositionPatient for image in ct], dtype=float)
    for number, item, place in frame_places(ds):
        distances = np.linalg.norm(places - place, axis=1)
        k = int(distances.argmin())
        assert distances[k] < CLOSE_MM
        segment = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[k][ds.pixel_array[number] > 0] = segment
        source = item.DerivationImageSequence[0].SourceImageSequence
        assert [s.ReferencedSOPInstanceUID for s in source] == [ct[k].SOPInstanceUID]
    return labels


def voxels_of_map(ds: Dataset, ct: list[Dataset]) -> np.ndarray:
    """Real-world values (k, j, i) on the CT's images, 0 where the map has no frame."""
    values = np.zeros((len(ct), ct[0].Rows, ct[0].Columns), np.float32)
    places = np.array([image.ImagePositionPatient for image in ct], dtype=float)
    cosines = np.array(ct[0].ImageOrientationPatient, dtype=float)
    shared = ds.SharedFunctionalGroupsSequence[0]
    spacing = [float(v) for v in ct[0].PixelSpacing]
    assert np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, spacing)
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(np.array(orientation, float), cosines, atol=1e-6)
    mapping = shared.RealWorldValueMappingSequence[0]
    slope, intercept = mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept
    frames = np.frombuffer(ds.FloatPixelData, np.float32)
    frames = frames.reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)
    for number, _, place in frame_places(ds):
        offsets = place - places
        column = offsets @ cosines[:3] / spacing[1]
        row = offsets @ cosines[3:] / spacing[0]
        k = int(
            np.linalg.norm(
                offsets
                - np.outer(column, cosines[:3] * spacing[1])
                - np.outer(row, cosines[3:] * spacing[0]),
                axis=1,
            ).argmin()
        )
        i, j = round(column[k]), round(row[k])
        assert abs(column[k] - i) < 1e-3 and abs(row[k] - j) < 1e-3
        part = frames[number] * np.float32(slope) + np.float32(intercept)
        values[k, j : j + ds.Rows, i : i + ds.Columns] = part
    return values


def expected_numbers(case: CaseResult) -> np.ndarray:
    """Segment numbers (k, j, i) that the regions should have."""
    numbers = np.zeros(case.region_labels.array.shape, np.uint8)
    for number, region in enumerate(case.regions, start=1):
        numbers[case.region_labels.array == region.label] = number
    return numbers


def check_same_voxels(found: hd.Volume, expected: np.ndarray, grid: Geometry) -> None:
    """What is not 0 has the same values at the same places, whatever the order of the arrays."""
    kji = np.argwhere(found.array != 0)
    lps = kji @ found.affine[:3, :3].T + found.affine[:3, 3]
    ijk = grid.ijk_from_lps(lps)
    rounded = np.round(ijk).astype(int)
    assert np.abs(ijk - rounded).max() < 1e-3
    i, j, k = rounded.T
    assert np.array_equal(expected[k, j, i], found.array[tuple(kji.T)])
    assert np.count_nonzero(expected) == len(kji)


def test_regions_are_the_same_voxels(phantom_dicom, phantom_ct, phantom_case):
    found = voxels_of_segments(read(phantom_dicom, "segmentation"), slices(phantom_ct))
    assert found.any()
    assert np.array_equal(found, expected_numbers(phantom_case))


def test_an_enhanced_ct_is_a_source_too(phantom_case, ct_study, tmp_path):
    (tmp_path / "ct").mkdir()
    ct = ct_study.ct
    write_enhanced_ct(tmp_path / "ct" / "enhanced.dcm", ct.array, ct.geometry)
    folder = write_dicom_output(phantom_case, tmp_path / "ct", tmp_path / "objects")
    segmentation = hd.seg.segread(folder / "segmentation.dcm")
    volume = segmentation.get_volume(combine_segments=True)
    check_same_voxels(volume, expected_numbers(phantom_case), ct.geometry)
    (reference,) = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPClassUID == ENHANCED_CT


def test_a_tilted_gantry_leaves_no_image_to_refer_to(phantom_case, phantom_ct, tmp_path):
    for n, header in enumerate(slices(phantom_ct)):
        header.ImagePositionPatient = [
            float(a) + 0.6 * n * float(b)
            for a, b in zip(
                header.ImagePositionPatient, header.ImageOrientationPatient[3:], strict=True
            )
        ]
        (tmp_path / "tilted").mkdir(exist_ok=True)
        header.save_as(tmp_path / "tilted" / f"{n}.dcm")
    with pytest.raises(InputError, match="tilted gantry and resampled"):
        write_dicom_output(phantom_case, tmp_path / "tilted", tmp_path / "objects")


def test_attention_is_the_same_floats(phantom_dicom, phantom_ct, phantom_case):
    found = voxels_of_map(read(phantom_dicom, "attention"), slices(phantom_ct))
    assert found.any()
    assert np.array_equal(found, phantom_case.attention.array)


def test_highdicom_reads_the_same_voxels(phantom_dicom, phantom_case):
    grid = phantom_case.region_labels.geometry
    segmentation = hd.seg.segread(phantom_dicom / "segmentation.dcm")
    volume = segmentation.get_volume(combine_segments=True)
    parametric_map = hd.imread(phantom_dicom / "attention.dcm").get_volume(
        apply_real_world_transform=True, dtype=np.float32
    )
    check_same_voxels(volume, expected_numbers(phantom_case), grid)
    check_same_voxels(parametric_map, phantom_case.attention.array, grid)


@pytest.mark.parametrize(
    ("axes", "signs"),
    [((0, 1, 2), (1, 1, -1)), ((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, 1))],
    ids=["slices run the other way", "rows and columns turned", "axes permuted"],
)
def test_a_result_stored_in_another_order_gives_the_same_objects(
    tmp_path, phantom_case, phantom_ct, phantom_dicom, axes, signs
):
    # As from the same CT in a NIfTI file. ``axes`` and ``signs`` : new (i, j, k) from the old.
    turned = dataclasses.replace(
        phantom_case,
        attention=reordered(phantom_case.attention, axes, signs),
        region_labels=reordered(phantom_case.region_labels, axes, signs),
    )
    assert turned.attention.array.shape != () and not np.array_equal(
        turned.attention.array, phantom_case.attention.array
    )
    folder = write_dicom_output(turned, phantom_ct, tmp_path / "objects")
    ct = slices(phantom_ct)
    segments = voxels_of_segments(read(folder, "segmentation"), ct)
    assert np.array_equal(segments, expected_numbers(phantom_case))
    values = voxels_of_map(read(folder, "attention"), ct)
    assert np.array_equal(values, phantom_case.attention.array)
    page, other = read(folder, "page"), read(phantom_dicom, "page")
    assert np.mean(page.pixel_array != other.pixel_array) < 1e-3


def reordered(volume: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same voxels at the same places, stored in another order."""
    old = volume.geometry
    array = volume.array.transpose([2 - a for a in (axes[2], axes[1], axes[0])])
    origin = np.zeros(3)
    for new, (a, sign) in enumerate(zip(axes, signs, strict=True)):
        if sign < 0:
            array = np.flip(array, 2 - new)
            origin[a] = old.size[a] - 1
    return Volume(
        array,
        Geometry(
            size=tuple(old.size[a] for a in axes),
            spacing_mm=tuple(old.spacing_mm[a] for a in axes),
            origin_lps=tuple(old.lps_from_ijk(origin).tolist()),
            direction_lps=tuple((old.direction_matrix[:, axes] * signs).ravel().tolist()),
        ),
        volume.name,
    )


def test_segments_say_what_they_are(phantom_dicom, phantom_case):
    segmentation = read(phantom_dicom, "segmentation")
    assert segmentation.SegmentationType == "BINARY"
    colors = region_colors(phantom_case.regions)
    types = {"lesion": "52988006", "rim": "RIM", "parenchyma": "10200004"}
    for segment, region in zip(segmentation.SegmentSequence, phantom_case.regions, strict=True):
        assert segment.SegmentLabel == region.name
        assert segment.TrackingID == region.id
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == types[region.kind]
        assert segment.AnatomicRegionSequence[0].CodeMeaning == "Liver"
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
        lab = hd.color.CIELabColor.from_dicom_value(
            [int(v) for v in segment.RecommendedDisplayCIELabValue]
        )
        assert np.allclose(np.array(lab.to_rgb()) / 255, colors[region.id], atol=0.02)
    uids = {segment.TrackingUID for segment in segmentation.SegmentSequence}
    assert len(uids) == len(phantom_case.regions)


def test_patient_study_and_frame_of_reference_are_those_of_the_ct(phantom_dicom, phantom_ct):
    ct = slices(phantom_ct)[0]
    same = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge")
    same += ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
    same += ("ReferringPhysicianName", "StudyDescription")
    numbers, series = set(), set()
    for name in DICOM_FILES:
        ds = pydicom.dcmread(phantom_dicom / name)
        assert {k: str(ds.get(k)) for k in same} == {k: str(ct.get(k)) for k in same}
        if name not in ("page.dcm", "report.dcm"):
            assert ds.FrameOfReferenceUID == ct.FrameOfReferenceUID
        numbers.add(int(ds.SeriesNumber))
        series.add(ds.SeriesInstanceUID)
    assert len(numbers) == len(series) == 4
    assert int(ct.SeriesNumber) not in numbers and ct.SeriesInstanceUID not in series


def references(ds: Dataset) -> set[tuple[str, str]]:
    """SOP class and instance of everything that an object refers to."""
    return {
        (str(parent.ReferencedSOPClassUID), str(parent.ReferencedSOPInstanceUID))
        for element in ds.iterall()
        if element.VR == "SQ"
        for parent in element.value
        if "ReferencedSOPInstanceUID" in parent
    }


def test_references_are_complete_and_lead_somewhere(phantom_dicom, phantom_ct):
    ct = {(str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in slices(phantom_ct)}
    segmentation, parametric_map = (read(phantom_dicom, n) for n in ("segmentation", "attention"))
    own = {(str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in (segmentation, parametric_map)}
    for name in ("segmentation", "attention", "page"):
        assert references(read(phantom_dicom, name)) == ct
    report = read(phantom_dicom, "report")
    assert references(report) == ct | own
    evidence = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {uid for _, uid in ct | own}


def test_the_same_result_gives_the_same_files_and_another_one_other_uids(
    tmp_path, phantom_case, phantom_ct, phantom_dicom
):
    again = write_dicom_output(phantom_case, phantom_ct, tmp_path / "again")
    for name in DICOM_FILES:
        assert (again / name).read_bytes() == (phantom_dicom / name).read_bytes()
    changed = dataclasses.replace(phantom_case, contrast=phantom_case.contrast + 1e-6)
    other = write_dicom_output(changed, phantom_ct, tmp_path / "other")
    for name in DICOM_FILES:
        uids = [pydicom.dcmread(folder / name).SOPInstanceUID for folder in (again, other)]
        assert uids[0] != uids[1]


def test_a_corrected_patient_gives_other_objects(tmp_path, phantom_case, ct_study, phantom_dicom):
    ct = tmp_path / "ct"
    write_ct(ct, ct_study.ct.array, ct_study.ct.geometry, PatientBirthDate="19610704")
    folder = write_dicom_output(phantom_case, ct, tmp_path / "objects")
    for name in DICOM_FILES:
        uids = [pydicom.dcmread(f / name).SOPInstanceUID for f in (folder, phantom_dicom)]
        assert uids[0] != uids[1]


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_names_keep_their_letters(tmp_path, phantom_case, ct_study, charset, name):
    ct = tmp_path / "ct"
    write_ct(
        ct,
        ct_study.ct.array,
        ct_study.ct.geometry,
        charset=charset,
        PatientName=name,
        ReferringPhysicianName="",
        StudyDescription="",
    )
    folder = write_dicom_output(phantom_case, ct, tmp_path / "objects")
    for file in DICOM_FILES:
        assert pydicom.dcmread(folder / file).PatientName == name


def test_values_that_are_wrong_are_left_out_and_not_quoted(
    tmp_path, phantom_case, ct_study, caplog, capfd
):
    ct = tmp_path / "ct"
    wrong = {"PatientBirthDate": "CANARY61", "PatientSex": "CANARYSEX", "AccessionNumber": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_ct(ct, ct_study.ct.array, ct_study.ct.geometry, **wrong)
    caplog.clear()
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG):
        folder = write_dicom_output(phantom_case, ct, tmp_path / "objects")
    assert "PatientBirthDate, PatientSex" in caplog.text
    assert "CANARY" not in caplog.text + "".join(capfd.readouterr())
    report = read(folder, "report")
    assert (report.PatientBirthDate, report.PatientSex, report.AccessionNumber) == ("", "", "")


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_ct_that_cannot_be_referred_to(tmp_path, phantom_case, ct_study, keyword):
    ct = tmp_path / "ct"
    write_ct(ct, ct_study.ct.array, ct_study.ct.geometry, **{keyword: None})
    with pytest.raises(InputError, match=f"has no {keyword}"):
        write_dicom_output(phantom_case, ct, tmp_path / "objects")
    assert not (tmp_path / "objects").exists()


def test_another_ct_is_refused(tmp_path, phantom_case, ct_study):
    array, grid = ct_study.ct.array, ct_study.ct.geometry
    write_ct(tmp_path / "brighter", array + 20, grid)
    with pytest.raises(InputError, match="not of this CT"):
        write_dicom_output(phantom_case, tmp_path / "brighter", tmp_path / "objects")
    write_ct(tmp_path / "shorter", array[:-1], grid.crop((0, 0, 0), (*grid.size[:2], 26)))
    with pytest.raises(InputError, match="not that of the CT series"):
        write_dicom_output(phantom_case, tmp_path / "shorter", tmp_path / "objects")


def test_a_file_is_no_dicom_series(tmp_path, phantom_case, phantom_files):
    with pytest.raises(InputError, match="no DICOM folder"):
        write_dicom_output(phantom_case, phantom_files["ct"], tmp_path / "objects")


def test_nothing_that_is_there_is_lost(tmp_path, phantom_case, phantom_ct):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"not empty|did not write: mine\.txt"):
            write_dicom_output(phantom_case, phantom_ct, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_without_highdicom_the_extra_is_named(tmp_path, phantom_case, phantom_ct, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "highdicom" else found(n, *a)
    )
    with pytest.raises(EnvironmentProblem, match=r"highdicom.*pip install 'reactkd\[dicom\]'"):
        write_dicom_output(phantom_case, phantom_ct, tmp_path / "objects")


def test_an_old_highdicom_is_refused(tmp_path, phantom_case, phantom_ct, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.27.0")
    with pytest.raises(EnvironmentProblem, match=r"0\.27\.0 is too old.*0\.28 or later"):
        write_dicom_output(phantom_case, phantom_ct, tmp_path / "objects")


@pytest.fixture(scope="module")
def end_to_end(simulated_study, shipped_package, tmp_path_factory):
    """A simulated patient as a scanner would send it, through ``predict --dicom-output``."""
    folder = tmp_path_factory.mktemp("patient")
    write_ct(folder / "ct", simulated_study.ct.array, simulated_study.ct.geometry)
    labels = simulated_study.segmentation
    image = image_from_array(labels.labels, labels.geometry)
    sitk.WriteImage(image, str(folder / "segmentation.nii.gz"))
    command = ["predict", "--ct", str(folder / "ct"), "--device", "cpu"]
    command += ["--segmentation", str(folder / "segmentation.nii.gz")]
    command += ["--output", str(folder / "result"), "--dicom-output", str(folder / "dicom")]
    assert main(command) == 0
    return folder


def test_a_simulated_patient_from_ct_to_objects(end_to_end):
    case = read_result(end_to_end / "result")
    ct = slices(end_to_end / "ct")
    segments = voxels_of_segments(read(end_to_end / "dicom", "segmentation"), ct)
    assert np.array_equal(segments, expected_numbers(case))
    values = voxels_of_map(read(end_to_end / "dicom", "attention"), ct)
    assert np.array_equal(values, case.attention.array)
    report = hd.sr.srread(end_to_end / "dicom" / "report.dcm")
    groups = {g.tracking_identifier: g for g in report.content.get_image_measurement_groups()}
    for name, probability in case.probabilities.items():
        said = groups[name].get_measurements(codes.DCM.Probability)[0].value
        assert said == pytest.approx(probability, rel=1e-5)
    regions = report.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in regions] == [r.id for r in case.regions]
    yes = [i for i in report.iterall() if i.keyword == "TextValue" and "simulated" in i.value]
    assert yes  # the notice of a model that never saw a patient


def test_the_command_for_an_existing_result_writes_the_same(end_to_end, tmp_path, capsys):
    command = ["dicom", str(end_to_end / "result"), "--ct", str(end_to_end / "ct")]
    assert main([*command, "--output", str(tmp_path / "objects")]) == 0
    assert str(tmp_path / "objects") in capsys.readouterr().out
    for name in DICOM_FILES:
        written = (tmp_path / "objects" / name).read_bytes()
        assert written == (end_to_end / "dicom" / name).read_bytes(), name
    assert main([*command, "--output", str(tmp_path / "objects")]) == 5
    assert main([*command, "--output", str(tmp_path / "objects"), "--overwrite"]) == 0


def test_one_folder_for_both_is_refused(end_to_end, tmp_path, capsys):
    command = ["predict", "--ct", str(end_to_end / "ct"), "--output", str(tmp_path / "both")]
    command += ["--segmentation", str(end_to_end / "segmentation.nii.gz")]
    assert main([*command, "--dicom-output", str(tmp_path / "both")]) == 2
    assert "same folder" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_predict_refuses_before_it_works(phantom_files, random_package, tmp_path, capsys):
    command = ["predict", "--ct", str(phantom_files["ct"]), "--model", str(random_package.path)]
    command += ["--segmentation", str(phantom_files["segmentation"])]
    command += ["--output", str(tmp_path / "result"), "--dicom-output", str(tmp_path / "dicom")]
    assert main(command) == 2
    assert "needs a CT that is a DICOM folder" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
