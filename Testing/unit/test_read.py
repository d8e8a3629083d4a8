"""CT and PET files: right values at the right place, or a clear error."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import threading

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from images import (
    LIVER_RULES,
    OBLIQUE,
    ct_array,
    label_array,
    patch_bytes,
    patch_text,
    write_dicom,
    write_image,
)

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import StudyFiles, files_sha256, read_ct, read_study, read_volume
from REACTKDLib.read_image import quiet_itk

FORMATS = [
    ("ct.nii", False), ("ct.nii.gz", True), ("ct.nrrd", False), ("ct.nrrd", True),
    ("ct.nhdr", False), ("ct.nhdr", True), ("ct.mha", False), ("ct.mha", True),
    ("ct.mhd", False), ("ct.mhd", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "compress"), FORMATS)
def test_every_format_gives_the_same_voxels_at_the_same_points(tmp_path, name, compress):
    volume = read_ct(write_image(tmp_path / name, ct_array(), compress=compress))
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ct_array())
    assert np.allclose(volume.geometry.corners_lps(), OBLIQUE.corners_lps(), atol=1e-3)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_permuted_and_flipped_storage_has_the_same_value_at_each_point(
    tmp_path, suffix, order, flips
):
    write_image(tmp_path / "plain.mha", ct_array())
    plain = sitk.ReadImage(str(tmp_path / "plain.mha"))
    stored = sitk.Flip(sitk.PermuteAxes(plain, order), flips)
    sitk.WriteImage(stored, str(tmp_path / f"stored{suffix}"))

    volume = read_ct(tmp_path / f"stored{suffix}")
    for index in [(0, 0, 0), (13, 0, 0), (0, 10, 0), (0, 0, 7), (5, 3, 2)]:
        point = plain.TransformIndexToPhysicalPoint(index)
        there = volume.geometry.ijk_from_lps(np.array(point))
        assert np.allclose(there, np.round(there), atol=1e-3)
        i, j, k = np.round(there).astype(int)
        assert volume.array[k, j, i] == plain[index]


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_nifti_agrees_with_nibabel(tmp_path, name):
    affine = OBLIQUE.ijk_to_ras_matrix
    nibabel.save(nibabel.Nifti1Image(ct_array().transpose(2, 1, 0), affine), tmp_path / name)
    volume = read_ct(tmp_path / name)
    assert np.array_equal(volume.array, ct_array())
    indices = np.array([(0, 0, 0), (13, 0, 0), (0, 10, 0), (0, 0, 7)])
    expected = nibabel.affines.apply_affine(nibabel.load(tmp_path / name).affine, indices)
    assert np.abs(volume.geometry.ras_from_ijk(indices) - expected).max() < 1e-3


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_voxel_type_becomes_int16_or_float32(tmp_path, suffix, dtype):
    values = (ct_array() % 120).astype(dtype)
    volume = read_volume(write_image(tmp_path / f"ct{suffix}", values), "CT")
    assert volume.array.dtype == (np.float32 if dtype[0] == "f" else np.int16)
    assert np.array_equal(volume.array, ct_array() % 120)


def test_integers_beyond_int16_become_float32(tmp_path):
    values = ct_array().astype(np.int32) * 1000
    volume = read_volume(write_image(tmp_path / "ct.nrrd", values), "CT")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, values)


def test_big_endian_voxels(tmp_path):
    swapped = ct_array().byteswap().tobytes()
    nrrd = write_image(tmp_path / "ct.nrrd", ct_array())
    patch_text(patch_text(nrrd, b"endian: little", b"endian: big"), ct_array().tobytes(), swapped)
    assert np.array_equal(read_ct(nrrd).array, ct_array())
    mha = write_image(tmp_path / "ct.mha", ct_array())
    patch_text(mha, b"OrderMSB = False", b"OrderMSB = True")
    assert np.array_equal(read_ct(patch_text(mha, ct_array().tobytes(), swapped)).array, ct_array())


def test_nifti_scaling_is_applied(tmp_path):
    path = patch_bytes(write_image(tmp_path / "ct.nii", ct_array()), 112, "<2f", 0.5, -1024)
    volume = read_ct(path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, ct_array() * 0.5 - 1024)


@pytest.mark.parametrize("scaling", [(0, 0), (np.nan, np.nan)])
def test_unset_nifti_scaling_means_none(tmp_path, scaling):
    path = patch_bytes(write_image(tmp_path / "ct.nii", ct_array()), 112, "<2f", *scaling)
    assert np.array_equal(read_ct(path).array, ct_array())


def test_a_file_beside_of_the_same_name_is_not_mixed_in(tmp_path):
    # ITK reads the header of ct.nii.gz and the voxels of ct.nii here.
    write_image(tmp_path / "ct.nii", np.zeros_like(ct_array()))
    path = write_image(tmp_path / "ct.nii.gz", ct_array(), compress=True)
    assert np.array_equal(read_ct(path).array, ct_array())


def test_gzip_in_several_members_and_upper_case_suffix(tmp_path):
    content = write_image(tmp_path / "ct.nii", ct_array()).read_bytes()
    path = tmp_path / "CT.NII.GZ"
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert np.array_equal(read_ct(path).array, ct_array())


def test_a_stream_that_expands_far_beyond_its_size(tmp_path):
    array = np.zeros((90, 256, 512), np.int16)  # 24 MB from a few kB
    array[::9, 7, 11] = np.arange(10) - 1000
    grid = Geometry((512, 256, 90), (1, 1, 1), (0, 0, 0))
    path = write_image(tmp_path / "ct.nii.gz", array, grid, compress=True)
    assert path.stat().st_size < 100_000
    assert np.array_equal(read_ct(path).array, array)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="end early"):
        read_ct(path)


def test_itk_stays_quiet_until_the_last_thread_is_done():
    def shown() -> bool:
        return sitk.ProcessObject.GetGlobalWarningDisplay()

    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with quiet_itk():
            inside.set()
            leave.wait(10)

    before = shown()
    thread = threading.Thread(target=first)
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    try:
        thread.start()
        assert inside.wait(10)
        with quiet_itk():
            leave.set()
            thread.join()  # the one that turned the warnings off ends first
            assert not shown()
        assert shown()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def test_four_dimensions_with_one_time_point_are_a_volume(tmp_path):
    path = write_image(tmp_path / "ct.nii", ct_array())
    assert np.array_equal(read_ct(patch_bytes(path, 40, "<5h", 4, 14, 11, 8, 1)).array, ct_array())


# Bad input ---------------------------------------------------------------------------------------


def error_of(path, capfd, **options) -> InputError:
    """The error that reading ``path`` as CT raises; nothing may reach the terminal."""
    with pytest.raises(InputError) as error:
        read_ct(path, **options)
    assert capfd.readouterr() == ("", "")
    assert error.value.advice
    return error.value


@pytest.mark.parametrize(("name", "compress"), FORMATS)
def test_a_truncated_file_is_never_read(tmp_path, capfd, name, compress):
    path = write_image(tmp_path / name, ct_array(), compress=compress)
    data = next((f for f in tmp_path.iterdir() if f != path), path)
    content = data.read_bytes()
    lengths = {0, 1, 100, 340, 360, len(content) - 1, len(content) - 4, len(content) - 8}
    lengths |= {int(n) for n in np.linspace(0, len(content) - 1, 30)}
    for length in lengths:
        data.write_bytes(content[:length])
        error_of(path, capfd)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha", "ct.nhdr", "ct.mhd"])
def test_a_damaged_compressed_stream_is_never_read(tmp_path, capfd, name):
    path = write_image(tmp_path / name, ct_array(), compress=True)
    data = next((f for f in tmp_path.iterdir() if f != path), path)
    content = data.read_bytes()
    for position in np.linspace(len(content) - 1200, len(content) - 1, 30).astype(int):
        changed = bytearray(content)
        changed[position] ^= 0x10
        data.write_bytes(changed)
        error = error_of(path, capfd)
        assert "damaged or incomplete" in error.message


def test_missing_file(tmp_path, capfd):
    assert "does not exist" in error_of(tmp_path / "no.nii.gz", capfd).message
    write_image(tmp_path / "no.nii", ct_array())  # ITK would take this one instead
    assert "does not exist" in error_of(tmp_path / "no.nii.gz", capfd).message


def test_missing_voxel_file(tmp_path, capfd):
    path = write_image(tmp_path / "ct.mhd", ct_array())
    (tmp_path / "ct.raw").unlink()
    assert "ct.raw" in error_of(path, capfd).message


@pytest.mark.parametrize("name", ["ct.dcm", "ct.jpg", "ct", "ct.gz", "ct.hdr"])
def test_unknown_suffix(tmp_path, capfd, name):
    (tmp_path / name).write_bytes(b"\0" * 1000)
    error = error_of(tmp_path / name, capfd)
    assert "no known image suffix" in error.message
    assert "folder" in error.advice


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + b"\xff" * 500, bytes(5000)])
def test_rubbish(tmp_path, capfd, suffix, content):
    path = tmp_path / f"ct{suffix}"
    path.write_bytes(content)
    assert str(path) in error_of(path, capfd).message


def test_four_dimensions(tmp_path, capfd):
    series = sitk.JoinSeries([sitk.GetImageFromArray(ct_array())] * 3)
    for name in ("ct.nii.gz", "ct.nrrd", "ct.mha"):
        sitk.WriteImage(series, str(tmp_path / name))
        assert "is 4-D, of size (14, 11, 8, 3)" in error_of(tmp_path / name, capfd).message


def test_two_dimensions(tmp_path, capfd):
    sitk.WriteImage(sitk.GetImageFromArray(ct_array()[0]), str(tmp_path / "ct.nii"))
    assert "is 2-D" in error_of(tmp_path / "ct.nii", capfd).message


def test_one_slice(tmp_path, capfd):
    geometry = OBLIQUE.crop((0, 0, 3), (14, 11, 1))
    path = write_image(tmp_path / "ct.nii.gz", ct_array()[3:4], geometry)
    assert "one slice: its size is (14, 11, 1)" in error_of(path, capfd).message


def test_several_values_per_voxel(tmp_path, capfd):
    colour = sitk.Compose([sitk.GetImageFromArray(ct_array().astype(np.uint8))] * 3)
    for name in ("ct.nrrd", "ct.mha"):
        sitk.WriteImage(colour, str(tmp_path / name))
        assert "3 values per voxel" in error_of(tmp_path / name, capfd).message
    sitk.WriteImage(colour, str(tmp_path / "ct.nii"))
    assert "3 values per voxel" in error_of(tmp_path / "ct.nii", capfd).message
    colour_nifti = patch_bytes(write_image(tmp_path / "ct.nii", ct_array()), 70, "<h", 128)
    assert "RGB voxels" in error_of(colour_nifti, capfd).message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, capfd, value):
    values = ct_array().astype(np.float32)
    values[4, 2, 9] = value
    path = write_image(tmp_path / "ct.nrrd", values)
    error = error_of(path, capfd)
    assert f"the value {value} at voxel (i, j, k) = (9, 2, 4)" in error.message


@pytest.mark.parametrize("spacing", [0.01, 40.0])
def test_absurd_spacing(tmp_path, capfd, spacing):
    geometry = Geometry(OBLIQUE.size, (0.8, 1.1, spacing), (0.0, 0.0, 0.0))
    for name in ("ct.nii.gz", "ct.nrrd", "ct.mha"):
        error = error_of(write_image(tmp_path / name, ct_array(), geometry), capfd)
        assert "not between 0.05 and 25.0 mm" in error.message
        assert f"0.8 x 1.1 x {spacing:g} mm" in error.message


@pytest.mark.parametrize("value", [0.0, -2.5, np.nan])
def test_nifti_spacing_that_is_not_positive(tmp_path, capfd, value):
    path = patch_bytes(write_image(tmp_path / "ct.nii", ct_array()), 88, "<f", value)
    error = error_of(path, capfd)
    assert "not positive" in error.message
    assert str(value) in error.message


def plain(tmp_path, name):
    """A CT with axes along LPS and the spacing 1, 2, 3."""
    return write_image(tmp_path / name, ct_array(), Geometry(OBLIQUE.size, (1, 2, 3), (0, 0, 0)))


def test_spacing_zero_in_nrrd_and_metaimage(tmp_path, capfd):
    path = patch_text(plain(tmp_path, "ct.nrrd"), b"(0,0,3)", b"(0,0,0)")
    assert "(1.0, 2.0, 0.0) mm is not positive" in error_of(path, capfd).message
    path = patch_text(plain(tmp_path, "ct.mha"), b"Spacing = 1 2 3", b"Spacing = 1 2 0")
    assert "(1.0, 2.0, 0.0) mm is not positive" in error_of(path, capfd).message


def test_axes_that_are_not_orthonormal(tmp_path, capfd):
    nrrd = patch_text(plain(tmp_path, "ct.nrrd"), b"(0,0,3)", b"(0,1,3)")
    mha = patch_text(plain(tmp_path, "ct.mha"), b"0 1 0 0 0 1\n", b"0 1 0 0 1 1\n")
    nifti = patch_bytes(plain(tmp_path, "ct.nii"), 252, "<2h", 0, 1)  # no qform to fall back on
    patch_bytes(nifti, 280, "<4f", 1, 0.5, 0, 0)
    for path in (nrrd, mha, nifti):
        assert "not orthonormal" in error_of(path, capfd).message


def test_nifti_orientation_that_is_not_finite(tmp_path, capfd):
    path = patch_bytes(plain(tmp_path, "ct.nii"), 280, "<f", np.nan)
    assert "orientation is not finite" in error_of(path, capfd).message


def test_ambiguous_nifti_scaling(tmp_path, capfd):
    path = patch_bytes(plain(tmp_path, "ct.nii"), 112, "<2f", 0, -1024)
    assert "slope 0 with intercept -1024" in error_of(path, capfd).message


@pytest.mark.parametrize("dimensions", [(3, 14, 0, 8), (3, 14, -11, 8), (0, 14, 11, 8)])
def test_nifti_dimensions_below_one(tmp_path, capfd, dimensions):
    path = patch_bytes(plain(tmp_path, "ct.nii"), 40, "<4h", *dimensions)
    assert "dimensions" in error_of(path, capfd).message


def test_a_gigantic_header_costs_nothing(tmp_path, capfd):
    nrrd = patch_text(plain(tmp_path, "ct.nrrd"), b"14 11 8", b"9999 9999 9999")
    mha = patch_text(plain(tmp_path, "ct.mha"), b"= 14 11 8", b"= 9999 9999 9999")
    nifti = patch_bytes(plain(tmp_path, "ct.nii"), 40, "<4h", 3, 9999, 9999, 9999)
    for path in (nrrd, mha, nifti):
        error = error_of(path, capfd)
        assert "9999 x 9999 x 9999 = 999700029999 voxels; at most 2000000000" in error.message


@pytest.mark.parametrize("slices", [9, 100_000])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, capfd, slices):
    for compress in (False, True):
        path = write_image(tmp_path / "ct.nrrd", ct_array(), compress=compress)
        patch_text(path, b"sizes: 14 11 8", f"sizes: 14 11 {slices}".encode())
        message = error_of(path, capfd).message
        assert f"its header needs {14 * 11 * 2 * slices} bytes" in message


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ct.nrrd", b"encoding: raw", b"encoding: hex"),
        ("ct.nrrd", b"type: short", b"type: block"),
        ("ct.nrrd", b"endian: little", b"endian: middle"),
        ("ct.nrrd", b"endian: little", b"endian: little\nbyte skip: 8"),
        ("ct.nrrd", b"kinds: domain domain domain", b"kinds: domain domain list"),
        ("ct.nhdr", b"data file: ct.raw", b"data file: ct%d.raw 1 8 1"),
        ("ct.mha", b"BinaryData = True", b"BinaryData = False"),
        ("ct.mha", b"MET_SHORT", b"MET_STRING"),
        ("ct.mha", b"ElementType", b"ElementToIntensityFunctionSlope = 2\nElementType"),
        ("ct.mhd", b"= ct.raw", b"= LIST"),
    ],
)
def test_an_unsupported_variant_is_named(tmp_path, capfd, name, old, new):
    error_of(patch_text(plain(tmp_path, name), old, new), capfd)


def test_a_header_and_image_pair_is_not_read(tmp_path, capfd):
    path = patch_bytes(plain(tmp_path, "ct.nii"), 344, "<4s", b"ni1\0")
    assert "ni1" in error_of(path, capfd).message


def test_a_series_uid_for_a_file(tmp_path, capfd):
    assert "1.2.3" in error_of(plain(tmp_path, "ct.nii"), capfd, series_uid="1.2.3").message


def test_a_folder_is_no_pet(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path, "PET")


def test_a_folder_named_like_an_image(tmp_path):
    (tmp_path / "seg.nii.gz").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path / "seg.nii.gz", "PET")


# Study -------------------------------------------------------------------------------------------


@pytest.fixture
def study_files(tmp_path):
    """CT, segmentation and PET on different grids."""
    pet_grid = Geometry((5, 6, 7), (4.0, 4.0, 3.0), (-40.0, 40.0, -130.0))
    pet = np.linspace(0, 6, 210, dtype=np.float32).reshape(7, 6, 5)
    return StudyFiles(
        ct=write_image(tmp_path / "ct.nii.gz", ct_array()),
        segmentation=(write_image(tmp_path / "labels.nrrd", label_array()),),
        pet={"pet_fdg": write_image(tmp_path / "pet.mha", pet, pet_grid)},
        case_id="case-7",
    )


def test_a_study_has_its_volumes_and_digests(study_files):
    study = read_study(study_files, LIVER_RULES)
    assert study.case_id == "case-7"
    assert np.array_equal(study.ct.array, ct_array())
    assert study.volumes["pet_fdg"].geometry.size == (5, 6, 7)
    assert study.segmentation.labels_of("lesion") == (2,)
    expected = {
        "ct": study_files.ct,
        "segmentation": study_files.segmentation[0],
        "pet_fdg": study_files.pet["pet_fdg"],
    }
    assert {s.role: (s.path, s.sha256) for s in study.sources} == {
        role: (str(path), hashlib.sha256(path.read_bytes()).hexdigest())
        for role, path in expected.items()
    }


def test_a_dicom_study_digest_depends_on_content_not_names(tmp_path):
    files = write_dicom(tmp_path / "a", ct_array())
    digest = files_sha256(files)
    copies = [shutil.copy(f, tmp_path / f"copy{n}") for n, f in enumerate(files)]
    assert files_sha256(copies[::-1]) == digest
    segmentation = (write_image(tmp_path / "labels.nrrd", label_array()),)
    study = read_study(StudyFiles(tmp_path / "a", segmentation), LIVER_RULES)
    assert study.case_id == "case"
    assert study.sources[0].sha256 == digest
    files[2].write_bytes(files[2].read_bytes() + b"\0\0")
    assert files_sha256(files) != digest


def test_a_detached_header_is_hashed_with_its_voxels(tmp_path):
    segmentation = (write_image(tmp_path / "labels.nrrd", label_array()),)
    ct = write_image(tmp_path / "ct.mhd", ct_array())
    before = read_study(StudyFiles(ct, segmentation), LIVER_RULES).sources[0]
    write_image(ct, ct_array() + np.int16(1))
    after = read_study(StudyFiles(ct, segmentation), LIVER_RULES).sources[0]
    assert before.sha256 != after.sha256


@pytest.mark.parametrize("missing", ["ct.nii.gz", "labels.nrrd", "pet.mha"])
def test_a_missing_file_of_a_study_is_named(study_files, missing):
    (study_files.ct.parent / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} does not exist"):
        read_study(study_files, LIVER_RULES)
