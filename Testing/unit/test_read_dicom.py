"""DICOM folders: the right series, in the right order, on a grid that every slice fits."""

from __future__ import annotations

import logging

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from images import OBLIQUE, ct_array, patch_text, write_dicom, write_image

from REACTKDLib.dicom_input.choose_series import choose_series
from REACTKDLib.dicom_input.files import list_series
from REACTKDLib.dicom_input.series import read_series
from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import read_ct


def error_of(folder, capfd, **options) -> InputError:
    """The error that reading ``folder`` as CT raises; nothing may reach the terminal."""
    with pytest.raises(InputError) as error:
        read_ct(folder, **options)
    assert capfd.readouterr() == ("", "")
    assert error.value.advice
    return error.value


@pytest.mark.parametrize("jpeg2000", [False, True])
def test_an_oblique_series_has_its_values_at_its_points(tmp_path, jpeg2000):
    # The files are named against the order of the slices.
    write_dicom(tmp_path / "series", ct_array(), jpeg2000=jpeg2000)
    volume = read_ct(tmp_path / "series")
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ct_array())
    assert np.allclose(volume.geometry.corners_lps(), OBLIQUE.corners_lps(), atol=1e-3)


def test_a_series_agrees_with_pydicom(tmp_path):
    files = write_dicom(tmp_path, ct_array())
    volume = read_ct(tmp_path)
    for k, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(volume.array[k], hu)
        position = volume.geometry.lps_from_ijk(np.array([0, 0, k]))
        assert np.allclose(position, dataset.ImagePositionPatient, atol=1e-3)


def test_the_same_anatomy_in_dicom_and_nifti(tmp_path):
    # Sagittal slices: the slice normal is the left-right axis.
    sagittal = Geometry(
        (14, 11, 8), (0.8, 1.1, 2.5), (5.0, 6.0, 7.0), (0, 0, -1, 1, 0, 0, 0, -1, 0)
    )
    write_dicom(tmp_path / "series", ct_array(), sagittal)
    nifti = read_ct(write_image(tmp_path / "ct.nii.gz", ct_array(), sagittal))
    volume = read_ct(tmp_path / "series")
    assert volume.geometry.same_grid(nifti.geometry)
    assert np.array_equal(volume.array, nifti.array)


def test_each_slice_has_its_own_rescale(tmp_path):
    # Written with the intercept -1024, then 24.5 HU are added by the headers of three slices.
    for file in write_dicom(tmp_path, ct_array())[:3]:
        patch_text(file, b"-1024 ", b"-999.5")
    volume = read_ct(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[:3], ct_array()[:3] + 24.5)
    assert np.array_equal(volume.array[3:], ct_array()[3:])


def test_the_only_ct_volume_is_chosen_and_said(tmp_path, caplog):
    write_dicom(tmp_path / "study" / "a", ct_array(), uid="1.2.1", number=4)
    write_dicom(tmp_path / "study" / "b" / "deep", ct_array(), uid="1.2.2", modality="PT")
    write_dicom(tmp_path / "study" / "c", ct_array()[:1], uid="1.2.3", description="one slice")
    scout = {"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"}
    write_dicom(tmp_path / "study" / "d", ct_array()[:2], uid="1.2.4", tags=scout)
    (tmp_path / "study" / "notes.txt").write_text("no DICOM")
    (tmp_path / "study" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    write_image(tmp_path / "study" / "labels.nii.gz", ct_array())

    with caplog.at_level(logging.INFO, logger="REACTKD"):
        volume = read_ct(tmp_path / "study")
    assert np.array_equal(volume.array, ct_array())
    assert "CT series number 4" in caplog.text
    assert "portal venous" in caplog.text
    assert "among 4 series" in caplog.text
    assert "Secret" not in caplog.text


def test_a_series_is_chosen_by_uid(tmp_path, capfd):
    write_dicom(tmp_path, ct_array(), uid="1.2.1", number=4, description="arterial")
    other = ct_array() + np.int16(1)
    write_dicom(tmp_path / "b", other, uid="1.2.2", number=10)
    assert np.array_equal(read_ct(tmp_path, series_uid="1.2.1").array, ct_array())
    assert np.array_equal(read_ct(tmp_path, series_uid="1.2.2").array, other)

    error = error_of(tmp_path, capfd, series_uid="1.2.9")
    assert "no series 1.2.9" in error.message
    assert "UID 1.2.1" in error.advice


def test_another_modality_is_no_ct(tmp_path, capfd):
    write_dicom(tmp_path, ct_array(), modality="MR")
    assert "no CT series of several slices" in error_of(tmp_path, capfd).message
    assert "is no CT" in error_of(tmp_path, capfd, series_uid="1.2.826.1").message


def test_a_series_without_uid_is_read(tmp_path):
    write_dicom(tmp_path, ct_array(), tags={"0020|000e": " "})
    assert [s.uid for s in list_series(tmp_path)] == [""]
    assert np.array_equal(read_ct(tmp_path).array, ct_array())


def test_a_folder_without_images(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / ".hidden").touch()
    assert "no DICOM images" in error_of(tmp_path, capfd).message


def test_an_object_that_is_no_image_is_passed_over(tmp_path):
    write_dicom(tmp_path, ct_array())
    meta = b"\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.481.3\0"  # RT Structure Set
    (tmp_path / "rtstruct.dcm").write_bytes(bytes(128) + b"DICM" + meta)
    assert np.array_equal(read_ct(tmp_path).array, ct_array())


def test_a_missing_folder(tmp_path, capfd):
    assert "does not exist" in error_of(tmp_path / "no", capfd).message


@pytest.mark.parametrize("gone", [1, 3, 6])
def test_a_missing_slice(tmp_path, capfd, gone):
    files = write_dicom(tmp_path, ct_array())
    files[gone].unlink()
    error = error_of(tmp_path, capfd)
    assert f"5.00 mm between {files[gone - 1].name} and {files[gone + 1].name}" in error.message
    assert "2.50 mm elsewhere" in error.message
    assert "missing" in error.advice


def test_rounded_positions_are_no_gap(tmp_path):
    # 0.6, 1.2, 1.9, ... for a step of 0.625 mm: some scanners round to one decimal.
    geometry = Geometry((14, 11, 8), (0.8, 1.1, 0.625), (0.0, 0.0, 0.0))
    files = write_dicom(tmp_path, ct_array(), geometry)
    for k, file in enumerate(files):
        image = sitk.ReadImage(str(file))
        image.SetOrigin((0.0, 0.0, round(k * 0.625 + 1e-9, 1)))
        rewrite(image, file)
    assert read_ct(tmp_path).geometry.spacing_mm[2] == pytest.approx(0.625, abs=0.01)


def rewrite(image, file):
    """Writes one slice back with its tags, at the image's own origin."""
    image.SetMetaData("0020|0032", "\\".join(map(str, image.GetOrigin())))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(file))
    writer.Execute(image)


def test_slices_that_are_there_twice(tmp_path, capfd):
    write_dicom(tmp_path / "a", ct_array())
    write_dicom(tmp_path / "b", ct_array()[2:4], OBLIQUE.crop((0, 0, 2), (14, 11, 2)))
    series, _ = choose_series(tmp_path)
    array, grid = read_series(tmp_path, series)
    assert np.array_equal(array, ct_array())
    assert grid.geometry.same_grid(OBLIQUE)
    assert grid.notices == (
        "2 slices of the CT are there twice, voxel by voxel; each was taken once.",
    )
    write_dicom(tmp_path / "c", ct_array()[2:3] + 1, OBLIQUE.crop((0, 0, 2), (14, 11, 1)))
    assert "two slices at the same position that differ" in error_of(tmp_path, capfd).message


def test_mixed_spacing(tmp_path, capfd):
    """2.5 mm above, 4 mm below: no part is taken for the whole."""
    for n, depth in enumerate([0, 2.5, 5, 7.5, 10, 14, 18, 22]):
        one = Geometry((14, 11, 1), (0.8, 1.1, 2.5), (0.0, 0.0, depth))
        write_dicom(tmp_path / f"{n}", ct_array()[n : n + 1], one)
    error = error_of(tmp_path, capfd)
    assert "4.00 mm between" in error.message
    assert "spacing is mixed" in error.message


def field(points: np.ndarray) -> np.ndarray:
    """A value in HU that is linear in LPS mm, so that linear interpolation keeps it."""
    return 40 + points @ np.array([3.0, -2.0, 1.5])


def write_tilted(folder, along, shift_mm=0.44) -> None:
    """Oblique slices, each shifted along an axis of the one before it: 10 degrees for 0.44 mm."""
    axis = OBLIQUE.direction_matrix[:, along]
    for k in range(8):
        x, y, z = OBLIQUE.lps_from_ijk(np.array([0, 0, k])) + shift_mm * k * axis
        one = Geometry((14, 11, 1), OBLIQUE.spacing_mm, (x, y, z), OBLIQUE.direction_lps)
        points = one.lps_from_ijk(np.stack(np.meshgrid(range(14), range(11), [0]), -1)[:, :, 0])
        write_dicom(folder / f"{k}", np.rint(field(points)).astype(np.int16)[None], one)


@pytest.mark.parametrize(("along", "shift_mm"), [(0, 0.44), (1, 0.44), (1, -0.9)])
def test_gantry_tilt_is_sheared_away(tmp_path, along, shift_mm):
    write_tilted(tmp_path, along, shift_mm)
    series, _ = choose_series(tmp_path)
    array, grid = read_series(tmp_path, series)
    geometry = grid.geometry
    assert geometry.direction_lps == pytest.approx(OBLIQUE.direction_lps, abs=1e-6)
    assert geometry.spacing_mm == pytest.approx(OBLIQUE.spacing_mm, abs=1e-5)
    shift = shift_mm / OBLIQUE.spacing_mm[along]
    expected = [14, 11, 8]
    expected[along] += int(np.ceil(abs(7 * shift)))
    assert geometry.size == tuple(expected)
    k, j, i = np.indices(array.shape)
    true = field(geometry.lps_from_ijk(np.stack([i, j, k], -1)))
    # What each slice covers; the rest is filled with the smallest value.
    first = OBLIQUE.ijk_from_lps(np.array(geometry.origin_lps))[along]
    place = (i, j)[along] + first - k * shift
    inside = (place >= 0) & (place <= OBLIQUE.size[along] - 1)
    assert inside.sum() > 0.5 * array.size
    assert np.abs(array - true)[inside].max() <= 1.0  # rounded when written and when interpolated
    outside = (place <= -1) | (place >= OBLIQUE.size[along])
    assert outside.any() and (array[outside] == array.min()).all()
    assert "tilted gantry" in grid.notices[0]


def test_a_tilt_that_is_none(tmp_path, capfd):
    write_tilted(tmp_path, 1, 2.4)
    message = error_of(tmp_path, capfd).message
    assert "shifted by up to 16.80 mm" in message and "a tilt of 44 degrees" in message
    for file in (tmp_path / "5").iterdir():
        file.unlink()
    one = Geometry((14, 11, 1), OBLIQUE.spacing_mm, OBLIQUE.crop((1, 3, 5), (1, 1, 1)).origin_lps,
                   OBLIQUE.direction_lps)  # fmt: skip
    write_dicom(tmp_path / "5", ct_array()[5:6], one)
    assert "not evenly" in error_of(tmp_path, capfd).message


def test_mixed_sizes_spacings_and_orientations(tmp_path, capfd):
    write_dicom(tmp_path / "size", ct_array())
    write_dicom(
        tmp_path / "size" / "b", ct_array()[:1, :, :10], OBLIQUE.crop((0, 0, 0), (10, 11, 1))
    )
    assert "2 sizes" in error_of(tmp_path / "size", capfd).message

    write_dicom(tmp_path / "space", ct_array())
    coarse = Geometry((14, 11, 1), (1.6, 1.1, 2.5), OBLIQUE.origin_lps, OBLIQUE.direction_lps)
    write_dicom(tmp_path / "space" / "b", ct_array()[:1], coarse)
    assert "2 pixel spacings" in error_of(tmp_path / "space", capfd).message

    write_dicom(tmp_path / "turn", ct_array())
    write_dicom(
        tmp_path / "turn" / "b", ct_array()[:1], Geometry((14, 11, 1), (0.8, 1.1, 1), (0, 0, 0))
    )
    assert "2 orientations" in error_of(tmp_path / "turn", capfd).message


@pytest.mark.parametrize("kept", [0.99, 0.7, 0.3, 0.14, 0.05, 0])
@pytest.mark.parametrize("jpeg2000", [False, True])
def test_a_truncated_slice(tmp_path, capfd, kept, jpeg2000):
    # Also at the end of the stack, where leaving it out would make no gap.
    file = write_dicom(tmp_path, ct_array(), jpeg2000=jpeg2000)[-1]
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    message = error_of(tmp_path, capfd).message
    assert f"{file} is damaged or incomplete" in message


def test_one_slice_alone(tmp_path, capfd):
    write_dicom(tmp_path, ct_array()[:1])
    assert "no CT series of several slices" in error_of(tmp_path, capfd).message
    assert "has one slice" in error_of(tmp_path, capfd, series_uid="1.2.826.1").message


def test_slices_without_position(tmp_path, capfd):
    for file in write_dicom(tmp_path, ct_array()):
        patch_text(file, b"\x20\x00\x32\x00", b"\x20\x00\x33\x00")  # the tag (0020,0032)
    assert "without position or orientation" in error_of(tmp_path, capfd).message


def test_many_frames_in_one_file(tmp_path, capfd):
    image = sitk.GetImageFromArray((ct_array() % 200).astype(np.uint8))
    for key, value in {
        "0008|0016": "1.2.840.10008.5.1.4.1.1.7.2",
        "0008|0018": "1.2.3.1",
        "0008|0060": "CT",
        "0020|000e": "1.2.3",
    }.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(tmp_path / "frames.dcm"))
    writer.Execute(image)
    assert "secondary capture" in error_of(tmp_path, capfd).advice
    assert "8 frames in one file" in error_of(tmp_path, capfd, series_uid="1.2.3").message


def test_colour_slices(tmp_path, capfd):
    plane = sitk.GetImageFromArray(np.abs(ct_array() % 200).astype(np.uint8))
    colour = sitk.Compose([plane] * 3)
    colour.SetSpacing(OBLIQUE.spacing_mm)
    for k in range(8):
        image = colour[:, :, k : k + 1]
        image.SetMetaData("0008|0060", "CT")
        image.SetMetaData("0020|000e", "1.2.3")
        image.SetMetaData("0008|0018", f"1.2.3.{k}")
        image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        rewrite(image, tmp_path / f"{k}.dcm")
    assert "not grey values" in error_of(tmp_path, capfd).message


def test_a_warning_switch_of_itk_is_left_as_it_was(tmp_path):
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    write_dicom(tmp_path, ct_array())
    read_ct(tmp_path)
    assert sitk.ProcessObject.GetGlobalWarningDisplay()
