"""``reactkd prognosis``, ``reactkd batch`` with a model of prognosis, and the worker's job."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from dicom_ct import CANARIES, write_ct
from random_prognosis import RECORD, random_metadata, write_random_prognosis
from test_worker import Parent, output

from REACTKDLib.batch_command import SOME_FAILED
from REACTKDLib.cli import main
from REACTKDLib.exchange import receive_prognosis, send_study
from REACTKDLib.prognosis.result import read_prognosis
from REACTKDLib.worker import PrognosisJob

VALUES = ("age=61", "sex=female", "albumin=4.1 g/dl", "ascites=no")


@pytest.fixture
def prognosis(random_prognosis, tmp_path):
    """Runs ``reactkd prognosis`` into ``tmp_path/result``; options are added."""

    def run(*options: str) -> int:
        base = ["prognosis", "--model", str(random_prognosis.path), "--device", "cpu"]
        return main([*base, "--output", str(tmp_path / "result"), *options])

    return run


def values(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--clinical-value", text)]


def images(phantom_files) -> list[str]:
    ct, labels = str(phantom_files["ct"]), str(phantom_files["segmentation"])
    return ["--ct", ct, "--segmentation", labels]


def test_ct_segmentation_and_values_give_the_pipelines_answer(
    prognosis, phantom_files, phantom_prognosis, tmp_path, capsys
):
    assert prognosis(*images(phantom_files), *values(*VALUES), "--case-id", "phantom 1") == 0
    result = read_prognosis(tmp_path / "result")
    assert result.case_id == result.ct_case.case_id == "phantom 1"
    assert result.probability == pytest.approx(phantom_prognosis.probability, abs=1e-4)
    assert [e["role"] for e in result.provenance["inputs"]] == ["ct", "segmentation", "clinical"]
    said = capsys.readouterr().out
    assert "Research use only" in said and "Death within one year: " in said
    assert "Radiomics" in said and "simulated patients only" in said
    assert str(tmp_path / "result") in said


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_clinical_file_alone(prognosis, tmp_path, suffix, capsys):
    file = tmp_path / f"values.{suffix}"
    if suffix == "csv":
        file.write_text("case,age,albumin [g/dl]\nA,50,3.0\nB,61,4.1\n", encoding="utf-8")
    else:
        patients = {"A": {"age": 50}, "B": {"age": 61, "albumin": {"value": 4.1, "unit": "g/dl"}}}
        file.write_text(json.dumps(patients), encoding="utf-8")
    assert prognosis("--clinical", str(file)) == 3
    assert "2 patients" in capsys.readouterr().err
    assert prognosis("--clinical", str(file), "--patient", "B", "--log-json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = lines[-1]
    assert told["event"] == "message" and told["missing"] == ["sex", "ascites", "bilirubin"]
    assert set(told["contributions"]) == {"clinical"} and 0 < told["probability"] < 1
    assert {line["stage"] for line in lines if line["event"] == "progress"} >= {"network"}
    result = read_prognosis(tmp_path / "result")
    shown = {one.name: one.value for one in result.contributions}
    assert shown == {"age": "61 years", "albumin": "41 g/l"}
    (source,) = result.provenance["inputs"]
    assert source["path"] == str(file) and len(source["sha256"]) == 64


def test_values_are_added_to_the_file_and_none_is_given_twice(prognosis, tmp_path, capsys):
    file = tmp_path / "values.csv"
    file.write_text("age\n61\n", encoding="utf-8")
    both = ["--clinical", str(file), *values("albumin=41")]
    assert prognosis(*both) == 0
    assert len(read_prognosis(tmp_path / "result").contributions) == 2
    assert prognosis(*both, *values("age=62"), "--overwrite") == 3
    assert "age is given 2 times" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (values("albumin=4.1 g/l"), 3, "albumin 4.1 g/l: wrong unit suspected"),
        (values("age=200"), 3, "age 200 a is outside of 18 to 110"),
        (values("hight=180"), 3, "'hight' is no variable of few"),
        (values("sex=other"), 3, "sex is 'other', none of its categories"),
        (values("albumin"), 2, "--clinical-value 'albumin' is not NAME=VALUE"),
        (["--patient", "A"], 2, "--patient is given without --clinical"),
        (["--ct", "x.nii.gz"], 2, "--segmentation is missing"),
        (["--segmentation", "x.nii.gz"], 2, "--ct is missing"),
        (["--phase", "portal"], 2, "--phase is given without --ct"),
        (["--role", "spleen=1"], 2, "Roles of this model: liver, lesion"),
        (["--clinical", "no.csv"], 3, "The clinical file no.csv does not exist"),
        ([], 3, "Nothing is given that the model random-prognosis reads"),
        ([*values("age=61"), "--scheme", "x"], 2, "Unknown region scheme 'x'"),
    ],
)
def test_errors_name_the_field_and_leave_nothing(
    prognosis, tmp_path, capsys, options, code, message
):
    assert prognosis(*options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "result").exists()


def test_errors_of_values_are_told_to_programs_by_field(prognosis, capsys):
    assert prognosis(*values("albumin=4.1 g/l", "age=5"), "--log-json") == 3
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["error"] == "ClinicalValueError" and set(told["fields"]) == {"albumin", "age"}


def test_a_model_of_the_other_kind_is_refused(prognosis, random_package, random_prognosis, capsys):
    assert prognosis("--model", str(random_package.path), *values("age=61")) == 4
    assert "use 'reactkd predict'" in capsys.readouterr().err


def test_a_deidentified_result_names_nobody(prognosis, phantom_files, tmp_path, capsys):
    salt = tmp_path / "salt"
    salt.write_text("a secret of more than sixteen bytes", encoding="utf-8")
    file = tmp_path / "Miller.csv"
    file.write_text("age\n61\n", encoding="utf-8")
    who = ["--case-id", "Miller", "--deidentify", "--deidentify-salt", str(salt)]
    assert prognosis(*images(phantom_files), "--clinical", str(file), *who) == 0
    written = [p for p in (tmp_path / "result").iterdir() if p.suffix in (".json", ".csv")]
    assert len(written) == 5
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert "Miller" not in text and str(tmp_path) not in text
    assert "Miller" not in capsys.readouterr().out.replace(str(tmp_path / "result"), "")


def test_age_and_sex_are_compared_with_the_dicom_header(
    prognosis, phantom_ct, phantom_files, tmp_path, capsys, caplog, monkeypatch
):
    """The phantom's header says 064Y, F. No voxel is read for it, and nobody is named."""

    def never(*_: object) -> None:
        raise AssertionError("voxels are read")

    monkeypatch.setattr("REACTKDLib.read._read_ct", never)
    given = ["--ct", str(phantom_ct), "--segmentation", str(phantom_files["segmentation"])]
    with caplog.at_level("DEBUG"):
        assert prognosis(*given, *values("age=61", "sex=male"), "--log-json") == 3
    said = capsys.readouterr()
    told = json.loads(said.out.splitlines()[-1])
    assert told["error"] == "ClinicalValueError" and set(told["fields"]) == {"age", "sex"}
    assert "age is 61 years; the CT's header says 64 years." in told["fields"]["age"]
    assert "sex is male; the CT's header says female." in told["fields"]["sex"]
    logged = said.out + said.err + caplog.text
    assert "CT series number 3" in logged
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientAge", "StudyDate"):
        assert CANARIES[keyword] not in logged
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize(
    ("header", "given"),
    [
        ({}, ("age=63", "sex=female")),
        ({"PatientAge": None, "PatientSex": None, "StudyDate": None}, ("age=20", "sex=male")),
    ],
)
def test_a_header_that_agrees_or_says_nothing_is_no_obstacle(
    prognosis, ct_study, phantom_files, tmp_path, header, given
):
    write_ct(tmp_path / "ct", ct_study.ct.array, ct_study.ct.geometry, **header)
    files = ["--ct", str(tmp_path / "ct"), "--segmentation", str(phantom_files["segmentation"])]
    assert prognosis(*files, *values(*given)) == 0
    assert read_prognosis(tmp_path / "result").modalities == ("ct", "clinical", "radiomics")


# Batch --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clinical_package(tmp_path_factory):
    """A model of clinical variables alone: a case takes no time."""
    network = replace(random_metadata().network, modalities=("clinical",), families=())
    return write_random_prognosis(tmp_path_factory.mktemp("packages") / "clinical", network=network)


def batch(package, manifest, folder, *options: str) -> int:
    base = ["batch", str(manifest), "--model", str(package.path), "--output", str(folder)]
    return main([*base, "--workers", "0", "--device", "cpu", *options])


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_batch_of_images_and_values(random_prognosis, phantom_files, phantom_prognosis, tmp_path):
    manifest = tmp_path / "cases.csv"
    ct, labels = phantom_files["ct"], phantom_files["segmentation"]
    (tmp_path / "b.json").write_text(json.dumps({"age": 61}), encoding="utf-8")
    manifest.write_text(
        "case,ct,segmentation,clinical,clinical:age,clinical:sex,clinical:albumin [g/dl],"
        "clinical:ascites\n"
        f"all,{ct},{labels},,61,female,4.1,no\n"
        "file,,,b.json,,,4.1,\n"
        "wrong,,,,61,,41,\n"
        "nothing,,,,,,,\n"
        f"half,{ct},,,61,,,\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    assert batch(random_prognosis, manifest, out) == SOME_FAILED
    done = {row["case"]: row for row in rows(out / "summary.csv")}
    assert list(done) == ["all", "file"]
    whole = done["all"]
    assert float(whole["probability"]) == pytest.approx(phantom_prognosis.probability, rel=1e-4)
    for one in phantom_prognosis.modality_contributions:
        found = float(whole[f"contribution_{one.modality}"])
        assert found == pytest.approx(one.logit, rel=1e-3, abs=1e-4)
    assert whole["missing"] == "bilirubin" and whole["missing_count"] == "1"
    assert whole["model"] == "random-prognosis" and whole["largest"].count(";") == 2
    assert done["file"]["contribution_ct"] == "" and done["file"]["modalities"] == "clinical"
    assert read_prognosis(out / "cases" / "all").ct_case is not None
    failed = {row["case"]: row for row in rows(out / "failures.csv")}
    assert "wrong unit suspected" in failed["wrong"]["reason"]
    assert failed["wrong"]["error"] == "ClinicalValueError"
    assert failed["nothing"]["reason"] == "it has neither an image nor clinical data."
    assert failed["half"]["reason"] == "it has no segmentation."


def test_a_row_that_contradicts_its_dicom_header_fails_alone(
    random_prognosis, phantom_ct, phantom_files, tmp_path
):
    manifest, out = tmp_path / "cases.csv", tmp_path / "out"
    images = f"{phantom_ct},{phantom_files['segmentation']}"
    manifest.write_text(
        "case,ct,segmentation,clinical:age,clinical:sex\n"
        f"right,{images},64,female\nyounger,{images},46,female\nother,{images},,male\n",
        encoding="utf-8",
    )
    assert batch(random_prognosis, manifest, out) == SOME_FAILED
    assert [row["case"] for row in rows(out / "summary.csv")] == ["right"]
    failed = {row["case"]: row for row in rows(out / "failures.csv")}
    assert {row["error"] for row in failed.values()} == {"ClinicalValueError"}
    assert "age is 46 years; the CT's header says 64 years." in failed["younger"]["reason"]
    assert "sex is male; the CT's header says female." in failed["other"]["reason"]


def test_a_batch_goes_on_where_it_ended(clinical_package, tmp_path, capsys):
    manifest, out = tmp_path / "cases.jsonl", tmp_path / "out"

    def write(age: int) -> None:
        lines = [{"case": "a", "clinical:age": age}, {"case": "b", "clinical:ascites": True}]
        manifest.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")

    write(61)
    assert batch(clinical_package, manifest, out) == 0
    assert batch(clinical_package, manifest, out, "--resume") == 0
    assert "0 cases done, 2 finished before" in capsys.readouterr().out
    write(62)
    assert batch(clinical_package, manifest, out, "--resume") == SOME_FAILED
    (failure,) = rows(out / "failures.csv")
    assert failure["error"] == "ChangedInput" and "clinical values changed" in failure["reason"]
    assert batch(clinical_package, manifest, out, "--resume", "--rerun-changed") == 0
    shown = read_prognosis(out / "cases" / "a").contributions
    assert shown[0].value == "62 years"


def test_a_table_of_many_serves_every_row(clinical_package, tmp_path):
    (tmp_path / "all.csv").write_text("case,age\na,50\nb,70\n", encoding="utf-8")
    manifest, out = tmp_path / "cases.csv", tmp_path / "out"
    manifest.write_text("case,clinical\na,all.csv\nb,all.csv\nc,all.csv\n", encoding="utf-8")
    assert batch(clinical_package, manifest, out) == SOME_FAILED
    ages = [read_prognosis(out / "cases" / c).contributions[0].value for c in ("a", "b")]
    assert ages == ["50 years", "70 years"]
    (failure,) = rows(out / "failures.csv")
    assert failure["case"] == "c" and "0 patients called 'c'" in failure["reason"]


def test_a_deidentified_batch_names_nobody(clinical_package, tmp_path):
    salt = tmp_path / "salt"
    salt.write_text("a secret of more than sixteen bytes", encoding="utf-8")
    manifest, out = tmp_path / "cases.csv", tmp_path / "out"
    manifest.write_text("case,clinical:age\nMiller,61\nSmith,7\n", encoding="utf-8")
    how = ("--deidentify", "--deidentify-salt", str(salt))
    assert batch(clinical_package, manifest, out, *how) == SOME_FAILED
    assert batch(clinical_package, manifest, out, *how, "--resume") == SOME_FAILED
    for path in out.rglob("*"):
        assert "Miller" not in path.name
        if path.suffix in (".json", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert "Miller" not in text and "Smith" not in text
    (failure,) = rows(out / "failures.csv")
    assert "7" not in failure["reason"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("case,clinical:hight", "the column 'clinical:hight' is unknown"),
        ("case,pet_fdg", "the column 'pet_fdg' is unknown"),
        ("clinical:age", "there is no column 'case'"),
        ("case,clinical:age,clinical:age", "the column 'clinical:age' comes twice"),
    ],
)
def test_columns_that_the_model_does_not_know_end_the_batch(
    clinical_package, tmp_path, capsys, header, message
):
    manifest = tmp_path / "cases.csv"
    manifest.write_text(f"{header}\n", encoding="utf-8")
    assert batch(clinical_package, manifest, tmp_path / "out") == 3
    assert message in capsys.readouterr().err


def test_clinical_columns_are_unknown_to_models_of_images(random_package, tmp_path, capsys):
    manifest = tmp_path / "cases.csv"
    manifest.write_text("case,ct,segmentation,clinical:age\n", encoding="utf-8")
    assert batch(random_package, manifest, tmp_path / "out") == 3
    assert "the column 'clinical:age' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "died"], "--target is not for prognosis"),
        (["--backend", "torch"], "--backend is not for prognosis"),
        (["--dicom-output"], "--dicom-output is not for prognosis"),
    ],
)
def test_options_of_the_other_kind_are_refused(
    clinical_package, tmp_path, capsys, options, message
):
    manifest = tmp_path / "cases.csv"
    manifest.write_text("case,clinical:age\na,61\n", encoding="utf-8")
    assert batch(clinical_package, manifest, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


# Worker -------------------------------------------------------------------------------------------


def test_the_worker_answers_prognoses(random_prognosis, ct_study, phantom_prognosis, tmp_path):
    study = output(tmp_path, "study")
    send_study(ct_study, study)
    parent = Parent()
    assert parent.hear()["event"] == "ready"
    job = PrognosisJob(
        package=str(random_prognosis.path),
        output=str(output(tmp_path)),
        study=str(study),
        clinical=True,
        values=RECORD.values,
        case_id="phantom",
        device="cpu",
    )
    progress, last = parent.until_answered(parent.ask(job))
    assert last["event"] == "done"
    assert next(p["stage"] for p in progress) == "starting"
    assert {"radiomics", "contributions"} <= {p["stage"] for p in progress}
    found = receive_prognosis(tmp_path / "case")
    assert found.probability == pytest.approx(phantom_prognosis.probability, abs=1e-5)
    assert found.ct_case.shares[0].share == pytest.approx(
        phantom_prognosis.ct_case.shares[0].share, abs=1e-4
    )
    # Without anything: an error, and the worker goes on.
    empty = PrognosisJob(str(random_prognosis.path), str(output(tmp_path, "second")))
    _, last = parent.until_answered(parent.ask(empty))
    assert last["event"] == "error" and last["error"] == "InputError"
    alone = PrognosisJob(
        str(random_prognosis.path), str(tmp_path / "second"), clinical=True, values={"age": 61.0}
    )
    _, last = parent.until_answered(parent.ask(alone))
    assert last["event"] == "done"
    assert receive_prognosis(tmp_path / "second").ct_case is None
    parent.process.stdin.close()
    assert parent.process.wait(30) == 0
    log = parent.process.stderr.read()
    assert "random-prognosis" in log and "phantom" not in log
