"""From stored PET units to SUV by body weight: units, decay, times, vendors, what is refused."""

from __future__ import annotations

import datetime
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_objects import write_pet
from images import LIVER_RULES, OBLIQUE, ct_array, label_array, write_image

from REACTKDLib.cli import main
from REACTKDLib.dicom_input.contours import read_contours
from REACTKDLib.dicom_input.pet import PetValues, parse_pet_values, pet_header
from REACTKDLib.dicom_input.suv import PetHeader, PetSlice, mean_count_s, scan_start, suv_factors
from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import resample_array
from REACTKDLib.read import StudyFiles, _read_pet, read_study, read_volume

PYSUV = Path(
    os.environ.get("REACTKD_PYSUV", Path(__file__).resolve().parents[3] / "shared/data/pysuv")
)
WHOLE_BODY = Path(__file__).resolve().parents[3] / "shared" / "data" / "pet_wholebody"
HALF_LIFE = 6588.0


def when(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y%m%d %H:%M:%S")


#: One hour after the injection: 70 kg, 350 MBq.
HEADER = PetHeader(
    units="BQML", decay_correction="START", corrections=("DECY", "ATTN"), weight_kg=70.0,
    dose_bq=350e6, half_life_s=HALF_LIFE, injection=when("20000101 11:00:00"),
    injection_dated=False, started=when("20200103 12:00:00"),
    slices=(PetSlice(when("20200103 12:00:00"), 120.0, 60.0),) * 2,
)  # fmt: skip
HOUR = 70_000 / (350e6 * 2 ** (-3600 / HALF_LIFE))


def factor(**changes) -> float:
    factors = suv_factors(replace(HEADER, **changes)).factors
    assert factors.shape == (2,)
    assert factors[0] == factors[1]
    return float(factors[0])


def refused(**changes) -> str:
    with pytest.raises(InputError) as error:
        suv_factors(replace(HEADER, **changes))
    assert error.value.advice
    return str(error.value)


def test_bqml_decayed_to_the_scan():
    assert factor() == pytest.approx(HOUR, rel=1e-12)
    # By hand: 5000 Bq/ml in 70 kg, after an hour 239.6 MBq are left of 350 MBq.
    assert 5000 * factor() == pytest.approx(5000 / (239.643e6 / 70_000), rel=1e-4)


def test_decay_correction_to_the_injection():
    assert factor(decay_correction="ADMIN") == pytest.approx(70_000 / 350e6)
    # No time is needed then.
    assert factor(decay_correction="ADMIN", injection=None, half_life_s=None) > 0


def test_no_decay_correction_is_made_up_for_slice_by_slice():
    slices = (
        PetSlice(when("20200103 12:00:00"), 120.0), PetSlice(when("20200103 12:30:00"), 120.0),
    )  # fmt: skip
    header = replace(HEADER, decay_correction="NONE", corrections=("ATTN",), slices=slices)
    factors = suv_factors(header).factors
    mean = mean_count_s(slices[0], HALF_LIFE)
    assert 59 < mean < 60  # a little before the middle of two minutes
    assert factors[0] == pytest.approx(70_000 / (350e6 * 2 ** (-(3600 + mean) / HALF_LIFE)))
    assert factors[1] / factors[0] == pytest.approx(2 ** (1800 / HALF_LIFE))


def test_units():
    assert factor(units="GML", weight_kg=None, dose_bq=None) == 1.0
    assert factor(units="GML", suv_type="BW") == 1.0
    assert "LBM" in refused(units="GML", suv_type="LBM")
    assert factor(units="CNTS", philips_suv=0.00042) == 0.00042
    assert factor(units="CNTS", philips_suv=0.0, philips_bqml=2.5) == pytest.approx(2.5 * HOUR)
    assert factor(units="CNTS", philips_bqml=2.5) == pytest.approx(2.5 * HOUR)
    assert "(7053,1000)" in refused(units="CNTS")
    assert "count rate" in refused(units="PROPCPS")
    assert "not stated" in refused(units="")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight_kg": None}, "no patient weight (kg). Give it with --pet-value weight_kg=VALUE"),
        ({"weight_kg": 0.0}, "no patient weight"),
        ({"weight_kg": 7000.0}, "weight (kg) 7000 is not plausible"),
        ({"dose_bq": None}, "--pet-value dose_mbq=VALUE"),
        ({"dose_bq": 350.0}, "dose (Bq) 350 is not plausible"),
        ({"half_life_s": None}, "--pet-value half_life_s=VALUE"),
        ({"half_life_s": 1.8}, "not plausible"),
        ({"injection": None}, "no injection time"),
        ({"corrections": ("DECY", "SCAT")}, "not corrected for attenuation"),
        ({"corrections": ("ATTN",)}, "has none for decay"),
        ({"decay_correction": "NONE"}, "has one for decay"),
        ({"decay_correction": "OTHER"}, "decay correction is OTHER"),
        ({"started": None, "slices": (PetSlice(None),) * 2}, "no scan time"),
        ({"injection": when("20000101 12:30:00")}, "more than ten half-lives"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(changes, said):
    assert said in refused(**changes)


def test_injection_before_midnight():
    midnight = {
        "injection": when("20000101 23:30:00"), "started": when("20200104 00:30:00"),
        "slices": (PetSlice(when("20200104 00:30:00"), 120.0, 60.0),) * 2,
    }  # fmt: skip
    assert factor(**midnight) == pytest.approx(HOUR)
    dated = {"injection": when("20200103 23:30:00"), "injection_dated": True}
    assert factor(**{**midnight, **dated}) == pytest.approx(HOUR)


def test_dates_that_were_changed():
    # The injection's date was moved differently: its time of day counts.
    assert factor(injection=when("19990815 11:00:00"), injection_dated=True) == pytest.approx(HOUR)
    # A long-lived tracer is injected days before, and then the date counts.
    late = {
        "injection": when("20191231 12:00:00"),
        "injection_dated": True,
        "half_life_s": 282_000.0,
    }
    assert factor(**late) == pytest.approx(70_000 / (350e6 * 2 ** (-3 * 86_400 / 282_000)))


def test_which_time_the_scan_began():
    def start(**changes):
        return scan_start(replace(HEADER, **changes), HALF_LIFE)

    beds = tuple(
        PetSlice(when(f"20200103 12:{4 * n:02d}:00"), 240.0, 240.0 * n + 119.5) for n in range(3)
    )
    assert start(slices=beds) == (when("20200103 12:00:00"), "series time")
    # A series made later says nothing about the scan.
    late = when("20200107 09:00:00")
    time, source = start(slices=beds, started=late)
    assert source == "frame times"
    assert abs((time - when("20200103 12:00:00")).total_seconds()) < 1
    # GE keeps the scan's own time, perhaps with the date before de-identification.
    ge = start(slices=beds, started=late, ge_started=when("20140909 11:59:30"))
    assert ge == (when("20200103 11:59:30"), "GE's scan time")
    # Frames that contradict each other: the first acquisition.
    broken = (beds[0], replace(beds[1], reference_s=10.0))
    assert start(slices=broken, started=late) == (when("20200103 12:00:00"), "first acquisition")
    # A series date long before: changed by de-identification.
    assert start(slices=beds, started=when("19600101 12:00:00"))[1] == "frame times"
    assert start(slices=(PetSlice(None),)) == (HEADER.started, "series time")


# Files -------------------------------------------------------------------------------------------

STORED = ct_array().astype(np.int16) % 1000
SLOPES = [1.5 + 0.25 * k for k in range(8)]


def suv_of(folder, what="pet_fdg", **values) -> np.ndarray:
    volume, choice, files = _read_pet(folder, what, PetValues(**values))
    assert volume.array.dtype == np.float32
    assert volume.geometry.same_grid(OBLIQUE)
    assert choice is not None and len(files) == 8
    return volume.array


def test_a_series_with_a_slope_per_slice(tmp_path):
    write_pet(tmp_path, STORED, slopes=SLOPES)
    expected = STORED * np.array(SLOPES).reshape(8, 1, 1) * HOUR
    assert np.allclose(suv_of(tmp_path), expected, rtol=1e-6)


def test_a_digital_reference_object(tmp_path):
    """As in QIBA's: background of SUV 1, extremes of one voxel each, in Bq/ml."""
    suv = np.ones(OBLIQUE.array_shape)
    suv[3, 5, 6], suv[4, 2, 3] = 4.11, -0.11
    slope = 0.53
    stored = np.rint(suv / HOUR / slope).astype(np.int16)
    write_pet(tmp_path, stored, slopes=[slope] * 8)
    found = suv_of(tmp_path)
    assert found.max() == pytest.approx(4.11, abs=5e-4)
    assert found.min() == pytest.approx(-0.11, abs=5e-4)
    assert float(np.median(found)) == pytest.approx(1.0, abs=5e-4)


def test_philips_counts(tmp_path):
    creator = "Philips PET Private Group"
    counts = {"tags": {"Units": "CNTS"}, "slopes": SLOPES}
    write_pet(tmp_path / "a", STORED, private=[(0x7053, creator, 0x00, "DS", "0.0005")], **counts)
    rescaled = STORED * np.array(SLOPES).reshape(8, 1, 1)
    assert np.allclose(suv_of(tmp_path / "a"), rescaled * 0.0005, rtol=1e-6)
    write_pet(tmp_path / "b", STORED, **counts, private=[
        (0x7053, creator, 0x00, "DS", "0"), (0x7053, creator, 0x09, "DS", "3.5")])  # fmt: skip
    assert np.allclose(suv_of(tmp_path / "b"), rescaled * 3.5 * HOUR, rtol=1e-6)


def test_ge_private_time(tmp_path):
    private = [(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20140505113000")]
    write_pet(tmp_path, STORED, slopes=SLOPES, private=private, tags={
        "SeriesTime": "180000", "FrameReferenceTime": None})  # fmt: skip
    half_an_hour = HOUR * 2 ** (-1800 / HALF_LIFE)
    expected = STORED * np.array(SLOPES).reshape(8, 1, 1) * half_an_hour
    assert np.allclose(suv_of(tmp_path), expected, rtol=1e-6)


def test_a_scan_over_midnight_without_acquisition_dates(tmp_path):
    per_slice = [{"AcquisitionTime": f"{t}"} for t in ["235500"] * 4 + ["000500.5"] * 4]
    tags = {"SeriesTime": "235500", "AcquisitionDate": None}
    files = write_pet(tmp_path, STORED, slopes=SLOPES, tags=tags, per_slice=per_slice)
    header = pet_header(files)
    assert header.slices[7].acquired == datetime.datetime(2020, 1, 4, 0, 5, 0, 500_000)
    assert scan_start(header, HALF_LIFE) == (when("20200103 23:55:00"), "series time")


@pytest.mark.parametrize(
    ("missing", "values"),
    [
        ({"tags": {"PatientWeight": None}}, {"weight_kg": 70.0}),
        ({"tags": {"PatientWeight": "0"}}, {"weight_kg": 70.0}),
        ({"drug": {"RadionuclideTotalDose": None}}, {"dose_mbq": 350.0}),
        ({"drug": {"RadionuclideHalfLife": None}}, {"half_life_s": HALF_LIFE}),
        ({"drug": {"RadiopharmaceuticalStartTime": None}}, {"injection": "20200103110000"}),
    ],
)
def test_what_a_header_lacks_may_be_given(tmp_path, missing, values):
    write_pet(tmp_path, STORED, slopes=SLOPES, **missing)
    with pytest.raises(InputError, match=f"--pet-value {next(iter(values))}="):
        suv_of(tmp_path)
    expected = STORED * np.array(SLOPES).reshape(8, 1, 1) * HOUR
    assert np.allclose(suv_of(tmp_path, **values), expected, rtol=1e-6)


def test_which_series(tmp_path):
    write_pet(tmp_path / "ac", STORED, slopes=SLOPES)
    tags = {"CorrectedImage": ["DECY", "SCAT"], "SeriesDescription": "PET NAC"}
    write_pet(tmp_path / "nac", STORED, slopes=SLOPES, uid="1.2.826.6", tags=tags)
    assert np.isfinite(suv_of(tmp_path)).all()
    with pytest.raises(InputError, match="not corrected for attenuation"):
        suv_of(tmp_path, series="1.2.826.6")
    write_pet(tmp_path / "other", STORED, slopes=SLOPES, uid="1.2.826.7")
    with pytest.raises(InputError, match="has 2 PET series") as error:
        suv_of(tmp_path)
    assert "pet_fdg.series=UID" in error.value.advice
    assert suv_of(tmp_path, series="1.2.826.7").max() > 0
    with pytest.raises(InputError, match=r"no PET series 1\.2\.3"):
        suv_of(tmp_path, series="1.2.3")


def test_another_tracer(tmp_path):
    write_pet(tmp_path, STORED, slopes=SLOPES, drug={"RadionuclideHalfLife": 1223})
    with pytest.raises(InputError, match="half-life is 1223 s"):
        suv_of(tmp_path)
    assert suv_of(tmp_path, "pet_acetate").max() > 0


def test_slices_that_contradict_each_other(tmp_path):
    per_slice = [{"Units": "BQML" if k else "GML"} for k in range(8)]
    write_pet(tmp_path, STORED, slopes=SLOPES, per_slice=per_slice)
    with pytest.raises(InputError, match="differ in units"):
        suv_of(tmp_path)


def test_options_on_the_command_line():
    tracers = ("pet_fdg", "pet_acetate")
    found = parse_pet_values(["weight_kg=71", "pet_acetate.dose_mbq=600"], tracers)
    assert found["pet_fdg"] == PetValues(weight_kg=71.0)
    assert found["pet_acetate"] == PetValues(weight_kg=71.0, dose_mbq=600.0)
    for wrong in ("weight_kg", "height_m=1", "pet_x.weight_kg=7", "weight_kg=a", "dose_mbq=-1",
                  "weight_kg=nan", "injection=11:00"):  # fmt: skip
        with pytest.raises(OptionError, match="--pet-value"):
            parse_pet_values([wrong], tracers)


def test_a_study_with_a_dicom_pet(tmp_path, random_package, capsys):
    ct = write_image(tmp_path / "ct.nii.gz", ct_array())
    labels = write_image(tmp_path / "labels.nii.gz", label_array())
    write_pet(tmp_path / "pet", STORED, slopes=SLOPES, tags={"PatientWeight": None})
    values = {"pet_fdg": PetValues(weight_kg=70.0)}
    files = StudyFiles(ct, (labels,), {"pet_fdg": tmp_path / "pet"}, pet_values=values)
    study = read_study(files, LIVER_RULES)
    assert study.volumes["pet_fdg"].array.max() > 0
    assert "60.0 min after the injection" in study.series["pet_fdg"].why
    assert [s.role for s in study.sources] == ["ct", "segmentation", "pet_fdg"]
    command = ["predict", "--ct", str(ct), "--segmentation", str(labels), "--pet-fdg",
               str(tmp_path / "pet"), "--model", str(random_package.path),
               "--output", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 3
    assert "--pet-value weight_kg=VALUE" in capsys.readouterr().err


# Reference data ----------------------------------------------------------------------------------


def pysuv_files() -> Path:
    if not PYSUV.is_dir():
        pytest.skip(f"no unpacked source distribution of pysuv at {PYSUV} (set REACTKD_PYSUV)")
    return PYSUV


def test_the_reference_slice_of_qiba():
    """The digital reference object, female, slice 40, as it comes with pysuv's sources."""
    files = sorted(pysuv_files().rglob("female_slice_040"))
    if not files:
        pytest.skip(f"no female_slice_040 below {PYSUV}")
    suv = suv_factors(pet_header(files[:1]))
    image = sitk.ReadImage(str(files[0]), imageIO="GDCMImageIO")
    found = sitk.GetArrayFromImage(image) * suv.factors[0]
    assert found.max() == pytest.approx(4.110, abs=5e-4)
    assert found.min() == pytest.approx(-0.110, abs=5e-4)
    inside = found[(found > 0.5) & (found < 1.5)]
    assert float(np.median(inside)) == pytest.approx(1.00, abs=5e-3)


def test_slices_of_three_vendors():
    """Converted, or refused with a reason; several are PROPCPS or lack a weight."""
    files = [p for p in sorted(pysuv_files().rglob("idc_vendor_samples/*/*.dcm"))]
    if not files:
        pytest.skip(f"no idc_vendor_samples below {PYSUV}")
    converted = 0
    for file in files:
        try:
            factors = suv_factors(pet_header([file])).factors
        except InputError as error:
            assert "cannot be converted to SUV" in error.message
            continue
        converted += 1
        assert 0 < factors[0] < 0.1 or factors[0] == 1.0
    assert converted >= len(files) // 2


@pytest.mark.real
def test_a_whole_body_pet(tmp_path):
    archive = WHOLE_BODY / "STS_001_FDG_PET_dicom.zip"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    folder = next(tmp_path.rglob("FDG_PET"))
    volume, choice, files = _read_pet(folder / "image", "pet_fdg", PetValues())
    assert volume.array.shape == (267, 128, 128)
    assert len(files) == 267 and choice is not None
    slopes = set()
    for file in files[::20]:
        dataset = pydicom.dcmread(file)
        slopes.add(float(dataset.RescaleSlope))
        k = round(float(volume.geometry.ijk_from_lps(np.array(dataset.ImagePositionPatient))[2]))
        assert dataset.SeriesTime == dataset.AcquisitionTime == "112011.00"
        decay = 2 ** (-(45 * 60 + 11) / 6588)  # injected at 10:35:00, scanned at 11:20:11
        suv = dataset.pixel_array * float(dataset.RescaleSlope) * 71_000 / (388_777_472 * decay)
        assert np.allclose(volume.array[k], suv, rtol=1e-5, atol=1e-6)
    assert len(slopes) > 10
    # The same patient as others converted it: SUV and tumour, on a crop of this grid.
    sts = WHOLE_BODY.parent / "sts_petct51" / "STS_001"
    if not sts.is_dir():
        pytest.skip(f"no {sts}")
    other = read_volume(sts / "pet_suv.nii.gz", "PET")
    mine = resample_array(volume.array, volume.geometry, other.geometry)
    assert np.abs(mine - other.array).max() < 1e-3
    regions = read_contours(next(folder.glob("mask/*.dcm")), volume.geometry)
    tumour = next(r for r in regions if r.name == "GTV_Mass")
    assert tumour.frame == volume.geometry
    drawn = read_volume(sts / "gtv_pet.nii.gz", "mask")
    mask = resample_array(tumour.mask, tumour.geometry, drawn.geometry, nearest=True)
    assert np.array_equal(mask, drawn.array)
