"""Everything that can be wrong with what a user gives: a clear error, and nothing is written."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import CT_GRID, PHANTOM, grid_around, voxel_centres_ras
from random_models import altered_copy

from REACTKDLib.cli import main
from REACTKDLib.geometry import Geometry, image_from_array
from REACTKDLib.model_package import CARD, CHECKSUMS, METADATA, WEIGHTS, write_checksums

OPTION, INPUT, PACKAGE, OUTPUT, ENVIRONMENT = 2, 3, 4, 5, 6

CT = PHANTOM.study(CT_GRID).ct.array
LABELS = PHANTOM.labels(voxel_centres_ras(CT_GRID))


@pytest.fixture
def inputs(tmp_path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


@pytest.fixture
def refuse(phantom_files, random_package, tmp_path, capsys):
    """Runs ``reactkd predict`` with replaced options; it must fail cleanly and say ``said``."""

    def run(code: int, *said: str, output: Path | None = None, **options: object) -> str:
        output = output or tmp_path / "results" / "case"
        output.parent.mkdir(exist_ok=True)
        beside = sorted(output.parent.rglob("*"))
        given = {
            "ct": phantom_files["ct"],
            "segmentation": phantom_files["segmentation"],
            "model": random_package.path,
            "device": "cpu",
            "output": output,
        } | options
        arguments = ["predict"]
        for name, value in given.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        assert main(arguments) == code
        captured = capsys.readouterr()
        assert sorted(output.parent.rglob("*")) == beside  # nothing written, nothing left behind
        assert "Traceback" not in captured.err + captured.out
        # What is wrong on the first line, what to do on the second, and nothing else.
        message = captured.err
        assert message.startswith("reactkd: ")
        assert [bool(line.strip()) for line in message.splitlines()] == [True, True]
        for part in said:
            assert part in message
        return message

    return run


def write(path: Path, array: np.ndarray, geometry: Geometry = CT_GRID) -> Path:
    sitk.WriteImage(image_from_array(array, geometry), str(path))
    return path


# Files.


@pytest.mark.parametrize("which", ["ct", "segmentation", "pet_fdg"])
def test_a_missing_file(which, refuse, inputs):
    refuse(INPUT, "nowhere.nii.gz", "does not exist", **{which: inputs / "nowhere.nii.gz"})


@pytest.mark.parametrize("which", ["ct", "segmentation", "pet_fdg"])
def test_a_truncated_file(which, refuse, inputs, phantom_files):
    content = phantom_files[which].read_bytes()
    path = inputs / f"{which}.nii.gz"
    path.write_bytes(content[: len(content) // 2])
    refuse(INPUT, path.name, "damaged or incomplete", **{which: path})


def test_a_file_that_is_no_image(refuse, inputs):
    (inputs / "notes.nii.gz").write_bytes(gzip.compress(b"These are notes, no image." * 99))
    refuse(INPUT, "notes.nii.gz", ct=inputs / "notes.nii.gz")
    (inputs / "picture.jpg").write_bytes(b"\xff\xd8\xff")
    refuse(INPUT, "picture.jpg", "suffix", ct=inputs / "picture.jpg")


def test_a_folder_without_dicom(refuse, inputs):
    refuse(INPUT, str(inputs), ct=inputs)


def test_a_4d_image(refuse, inputs):
    one = image_from_array(CT, CT_GRID)
    path = inputs / "series.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([one, one]), str(path))
    refuse(INPUT, "4-D", ct=path)


def test_one_slice(refuse, inputs):
    one = CT_GRID.crop((0, 0, 12), (*CT_GRID.size[:2], 1))
    refuse(INPUT, "one slice", ct=write(inputs / "slice.nii.gz", CT[12:13], one))


def test_nan(refuse, inputs):
    ct = CT.copy()
    ct[3, 4, 5] = np.nan
    refuse(INPUT, "nan", "(5, 4, 3)", ct=write(inputs / "ct.nii.gz", ct))


def patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    return path


def mha(path: Path) -> Path:
    """A CT whose text header is easily spoilt."""
    plain = Geometry(CT_GRID.size, (4.0, 4.5, 5.5), (-60.0, -80.0, -50.0))
    return write(path, CT, plain)


@pytest.mark.parametrize("spacing", [b"0 4.5 5.5", b"-4 4.5 5.5", b"4 4.5 5500", b"nan 4.5 5.5"])
def test_zero_or_absurd_spacing(spacing, refuse, inputs):
    path = patched(
        mha(inputs / "ct.mha"), b"ElementSpacing = 4 4.5 5.5", b"ElementSpacing = " + spacing
    )
    refuse(INPUT, ct=path)


def test_axes_that_are_not_orthonormal(refuse, inputs):
    path = patched(
        mha(inputs / "ct.mha"),
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1",
        b"TransformMatrix = 1 0.2 0 0 1 0 0 0 1",
    )
    refuse(INPUT, "orthonormal", ct=path)


def test_a_gigantic_volume(refuse, inputs):
    path = patched(mha(inputs / "ct.mha"), b"DimSize = 47 41 27", b"DimSize = 47000 41000 27000")
    refuse(INPUT, "47000", ct=path)


# Not a CT.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu: np.clip(hu, 0, None) / 20, "not a CT in HU"),
        (lambda hu: np.clip((hu + 160) / 400, 0, 1), "not a CT in HU"),
        (lambda hu: np.full_like(hu, -200), "plausible"),
        (lambda hu: np.full_like(hu, 7), "not a CT in HU"),
    ],
    ids=["PET", "scaled to 0..1", "constant and dark", "constant"],
)
def test_what_is_not_a_ct(change, said, refuse, inputs):
    path = write(inputs / "ct.nii.gz", change(CT).astype(np.float32))
    refuse(INPUT, said, ct=path)


def test_a_pet_that_is_constant(refuse, inputs):
    path = write(inputs / "pet.nii.gz", np.full_like(CT, 2.0))
    refuse(INPUT, "FDG-PET", pet_fdg=path)


# The segmentation.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: np.zeros_like(labels), "empty"),
        (lambda labels: np.where(labels == 2, 2, 0).astype(np.uint8), "no liver"),
        (lambda labels: (labels * 90).astype(np.uint8), "90"),
        (lambda labels: labels.astype(np.float32) * 0.4, "labels are whole"),
    ],
    ids=["empty", "no liver", "unknown labels", "probabilities"],
)
def test_a_segmentation_that_cannot_be_used(change, said, refuse, inputs):
    refuse(INPUT, said, segmentation=write(inputs / "seg.nii.gz", change(LABELS)))


def test_a_role_that_the_segmentation_lacks(refuse, phantom_files):
    refuse(INPUT, "'7'", role="liver=7")


def test_a_segmentation_of_another_place(refuse, inputs):
    x, y, z = CT_GRID.origin_lps
    away = Geometry(CT_GRID.size, CT_GRID.spacing_mm, (x, y, z - 900), CT_GRID.direction_lps)
    path = write(inputs / "seg.nii.gz", LABELS, away)
    refuse(INPUT, "Only 0%", "same patient", segmentation=path)


def test_a_segmentation_that_overlaps_only_after_a_flip(refuse, inputs):
    """Saved by a program that takes RAS for LPS."""
    far = grid_around((150.0, -170.0, 600.0), CT_GRID.size, CT_GRID.spacing_mm)
    x, y, z = far.origin_lps
    other = Geometry(far.size, far.spacing_mm, (-x, -y, z), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    message = refuse(
        INPUT,
        "contradicts",
        "after a flip of the right-left and anterior-posterior axis",
        ct=write(inputs / "ct.nii.gz", CT, far),
        segmentation=write(inputs / "seg.nii.gz", LABELS, other),
    )
    assert "does not flip images on its own" in message


# The model package.


def change_byte(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)


def replace_by_pickle(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"head.bias": [1.0, 2.0, 3.0]}))
    write_checksums(folder)


def mistype(folder: Path) -> None:
    path = folder / METADATA
    path.write_text(path.read_text().replace('"margin_mm": 6.0', '"margin_mm": "wide"'))
    write_checksums(folder)


def point_outside(folder: Path) -> None:
    with (folder / CHECKSUMS).open("a") as sums:
        sums.write(f"{'0' * 64}  ../../etc/passwd\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: change_byte(folder, WEIGHTS), "altered"),
        (lambda folder: change_byte(folder, CARD), "altered"),
        (lambda folder: (folder / WEIGHTS).unlink(), "is missing"),
        (lambda folder: (folder / CHECKSUMS).unlink(), "is missing"),
        (lambda folder: (folder / METADATA).unlink(), "not a model package"),
        (point_outside, "outside the package"),
        (mistype, "margin_mm is 'wide'"),
        (replace_by_pickle, "weights do not fit"),
        (shutil.rmtree, "not a model package"),
    ],
    ids=[
        "tampered weights",
        "tampered card",
        "no weights",
        "no checksums",
        "no metadata",
        "path traversal",
        "mistyped metadata",
        "pickle for weights",
        "nothing there",
    ],
)
def test_a_model_package_that_cannot_be_trusted(
    spoil: Callable[[Path], object], said, refuse, random_package, inputs
):
    folder = altered_copy(random_package, inputs / "package")
    spoil(folder)
    refuse(PACKAGE, said, model=folder)


# Options and output.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "benign"}, ("'benign'", "well, moderate, poor")),
        ({"scheme": "couinaud"}, ("'couinaud'", "anatomical, paper")),
        ({"device": "tpu"}, ("'tpu'", "auto, cpu, cuda")),
        ({"role": "heart=1"}, ("'heart=1'", "liver, lesion")),
    ],
)
def test_options_that_do_not_exist(options, said, refuse):
    refuse(OPTION, *said, **options)


def test_a_series_of_a_file(refuse):
    refuse(INPUT, "1.2.3", series="1.2.3")


def test_an_output_that_exists(refuse, tmp_path):
    output = tmp_path / "results" / "case"
    output.mkdir(parents=True)
    (output / "result.json").write_text("precious")
    refuse(OUTPUT, "exists", "--overwrite", output=output)
    assert (output / "result.json").read_text() == "precious"


def test_an_output_that_is_a_file(refuse, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "case").write_text("precious")
    refuse(OUTPUT, "is a file", output=tmp_path / "results" / "case")


def test_a_full_disk(refuse, small_disk):
    refuse(OUTPUT, "Free space", output=small_disk / "case")


def test_several_wrong_things_are_still_one_clean_error(refuse, inputs):
    paths = {"ct": inputs / "a.nii", "segmentation": inputs / "b.nii"}
    refuse(INPUT, "does not exist", **paths)
    refuse(OPTION, "Unknown class 'x'", target="x", **paths)  # found before anything is read


def test_what_torch_cannot_give(refuse):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    refuse(ENVIRONMENT, "no CUDA device", "'cpu'", device="cuda")
