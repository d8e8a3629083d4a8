"""Coverage-guided fuzzing of the readers that are written out here: each gives a value or an error
of REACTKDLib, whatever its file holds.

The property tests (``Testing/unit/test_fuzz_*.py``) damage whole files and run everywhere; this
looks for what they do not reach, in the readers that walk bytes or text themselves. It needs
atheris (Linux, ``pip install atheris``), which is why it is no test.

    python Testing/fuzz/atheris_readers.py TARGET [CORPUS] [libFuzzer options, -max_total_time=300]

Without a target it lists them. What fails is written to ``crash-...`` in the working folder; give
that file in the place of the corpus to run it again.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING / "unit"), str(TESTING.parent)]

with atheris.instrument_imports(include=["REACTKDLib"]):
    from REACTKDLib.batch.manifest import manifest_rows
    from REACTKDLib.dicom_input.codestream import pixel_problem
    from REACTKDLib.dicom_input.guard import has_too_many_items, overlong_element, transfer_syntax
    from REACTKDLib.prognosis.clinical_files import read_clinical_table
    from REACTKDLib.prognosis.schema import load_schema
    from REACTKDLib.read_header import meta_layout, nifti_layout, nrrd_layout, read_voxels

from images import ct_array, write_dicom, write_image  # noqa: E402
from pydicom.uid import JPEG2000Lossless  # noqa: E402

from REACTKDLib.errors import ReactKDError  # noqa: E402
from REACTKDLib.read_header import VoxelLayout  # noqa: E402

PAPER = load_schema("chronic_liver_58")
CLINICAL = b"case,age,sex,HBV,albumin [g/dl],ALT,text\na,61,F,yes,4.1,,Cirrhosis\n"
ROWS = b"case,ct,segmentation,pet_fdg\na,ct.nii.gz,seg.nii.gz,\nb,/d/ct,/d/seg.dcm,pet.nii\n"


def walk(path: Path) -> None:
    """What is measured of a slice before GDCM gets it."""
    has_too_many_items(path)
    overlong_element(path)
    pixel_problem(path, transfer_syntax(path), 14, 11, 1)
    pixel_problem(path, JPEG2000Lossless, 14, 11, 1)


def voxels_by(layout: Callable[[Path], VoxelLayout]) -> Callable[[Path], object]:
    """Header and voxels of an image file."""
    return lambda path: read_voxels(layout(path), 1000)


def slice_of(folder: Path, *, jpeg2000: bool) -> bytes:
    """One slice of a CT."""
    return write_dicom(folder, ct_array(), jpeg2000=jpeg2000)[0].read_bytes()


def image_of(folder: Path, name: str) -> bytes:
    """A small CT as an image file."""
    return write_image(folder / name, ct_array()).read_bytes()


#: Name -> file name, reader, good contents to begin with.
TARGETS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], list[bytes]]]] = {
    "dicom": (
        "a.dcm",
        walk,
        lambda f: [slice_of(f / "a", jpeg2000=False), slice_of(f / "b", jpeg2000=True)],
    ),
    "nifti": ("a.nii", voxels_by(nifti_layout), lambda f: [image_of(f, "a.nii")]),
    "nrrd": ("a.nrrd", voxels_by(nrrd_layout), lambda f: [image_of(f, "a.nrrd")]),
    "meta": ("a.mha", voxels_by(meta_layout), lambda f: [image_of(f, "a.mha")]),
    "clinical": ("a.csv", lambda p: read_clinical_table(p, PAPER), lambda f: [CLINICAL]),
    "manifest": ("a.csv", lambda p: list(manifest_rows(p)), lambda f: [ROWS]),
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    name, read, seeds = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path, corpus = folder / name, folder / "corpus"
        corpus.mkdir()
        for number, content in enumerate(seeds(folder)):
            (corpus / f"good{number}").write_bytes(content)

        def one(content: bytes) -> None:
            path.write_bytes(content)
            with contextlib.suppress(ReactKDError):
                read(path)

        own = [a for a in sys.argv[1:] if not a.startswith("-")]
        atheris.Setup([*sys.argv, *([] if own else [str(corpus)])], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
