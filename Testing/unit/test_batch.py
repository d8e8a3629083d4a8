"""A batch in this process: results, isolation, resuming, tables, and a folder that refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from batch_work import CLASSES, COLUMNS, Heard, simulated, table, write_manifest
from dicom_objects import write_seg
from random_models import altered_copy

from REACTKDLib.batch import run as batch_run
from REACTKDLib.batch.attempts import attempt, verdict
from REACTKDLib.batch.memory import BASE_BYTES, memory_of
from REACTKDLib.batch.plan import Case
from REACTKDLib.batch.run import BatchOptions, run_batch
from REACTKDLib.batch.store import CASES, HIDDEN, SETTINGS
from REACTKDLib.batch.tables import FAILURES, PARQUET, SUMMARY, summary_columns
from REACTKDLib.cli import main
from REACTKDLib.dicom_output import DICOM_FILES
from REACTKDLib.errors import EnvironmentProblem, InputError, OptionError, OutputError
from REACTKDLib.model_package import load_package
from REACTKDLib.report import DICOM, RESULT, RESULT_FILES, read_result

HERE = BatchOptions(workers=0)
RESUME = BatchOptions(workers=0, resume=True)


@pytest.fixture
def batch(tmp_path, random_package):
    """Runs a batch of simulated work over ``tmp_path/in/manifest.csv`` into ``tmp_path/out``."""

    def run(options: BatchOptions = HERE, process=simulated, package=random_package) -> Heard:
        heard = Heard()
        manifest = tmp_path / "in" / "manifest.csv"
        run_batch(manifest, tmp_path / "out", package, options, heard, process)
        return heard

    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def identity(folder: Path) -> dict[str, tuple[int, int]]:
    """Which folder stands under each case's name: the same only if nobody has touched it."""
    stats = ((p.name, p.stat()) for p in (folder / CASES).iterdir())
    return {name: (s.st_ino, s.st_mtime_ns) for name, s in stats}


# with the real pipeline


@pytest.fixture(scope="module")
def real_batch(tmp_path_factory, phantom_files, random_package):
    """Two good cases, a broken CT, and rows that cannot be used, through the command line."""
    folder = tmp_path_factory.mktemp("real")
    for name, path in phantom_files.items():
        shutil.copy(path, folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes((folder / "ct.nii.gz").read_bytes()[:5000])
    ct = "ct.nii.gz,segmentation.nii.gz"
    rows = [",".join(COLUMNS), f"first,{ct},,,", f"second,{ct},pet_fdg.nii.gz,,"]
    rows += ["cut,broken.nii.gz,segmentation.nii.gz,,,", f"../evil,{ct},,,", f"=1+1,{ct},gone,,"]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = ["batch", str(folder / "manifest.csv"), "--output", str(folder / "out")]
    arguments += ["--model", str(random_package.path), "--device", "cpu", "--workers", "0"]
    return (
        folder,
        arguments,
        main([*arguments, "--target", "poor", "--role", "liver=1", "--role", "lesion=2"]),
    )


def test_every_case_has_its_folder_or_its_failure(real_batch):
    folder, _, code = real_batch
    assert code == 7
    out = folder / "out"
    assert {p.name for p in out.iterdir()} == {
        *(CASES, HIDDEN, SETTINGS, SUMMARY, PARQUET, FAILURES)
    }
    assert {p.name for p in (out / CASES).iterdir()} == {"first", "second"}
    assert {p.name for p in (out / CASES / "first").iterdir()} == set(RESULT_FILES)
    assert not (out / HIDDEN / "work").exists()
    failures = {row["row"]: row for row in table(out / FAILURES)}
    assert list(failures) == ["3", "4", "5"]
    assert failures["3"]["error"] == "InputError"
    assert "broken.nii.gz" in failures["3"]["reason"]
    assert failures["3"]["next_step"]
    assert failures["4"]["error"] == failures["5"]["error"] == "UnusableRow"
    assert "'/'" in failures["4"]["reason"]
    assert failures["5"]["case"] == "'=1+1"
    assert "pet_fdg gone does not exist" in failures["5"]["reason"]


def test_dicom_in_and_dicom_out(tmp_path, phantom_ct, phantom_files, ct_study, random_package):
    """A CT and a SEG as DICOM; objects beside the result; a CT without images fails alone."""
    segmentation = tmp_path / "in" / "segmentation.dcm"
    segmentation.parent.mkdir()
    study = ct_study.segmentation
    segments = [(s.name, study.labels == s.label) for s in study.segments]
    write_seg(segmentation, segments, study.geometry)
    rows = [
        f"dicom,{phantom_ct},{segmentation}",
    ]
    rows += [f"nifti,{phantom_files['ct']},{phantom_files['segmentation']}"]
    manifest = segmentation.with_name("manifest.csv")
    manifest.write_text("\n".join(["case,ct,segmentation", *rows]) + "\n", encoding="utf-8")
    options = BatchOptions(workers=0, dicom_output=True, memory=4 * 2**30)
    run_batch(manifest, tmp_path / "out", random_package, options, Heard())
    case = tmp_path / "out" / CASES / "dicom"
    assert {p.name for p in (case / DICOM).iterdir()} == set(DICOM_FILES)
    assert read_result(case).provenance["series"]["ct"]["uid"]
    assert [p.name for p in case.parent.iterdir()] == ["dicom"]
    (failure,) = table(tmp_path / "out" / FAILURES)
    assert failure["case"] == "nifti" and "no DICOM folder" in failure["reason"]


def test_a_deidentified_batch_names_nobody(
    tmp_path, phantom_ct, phantom_files, ct_study, random_package, capsys
):
    """Case names, paths, headers and reasons hold a name; nothing that is written or said does."""
    secret = "Sonderbar"
    source = tmp_path / secret
    shutil.copytree(phantom_ct, source / f"{secret}-ct")
    study = ct_study.segmentation
    segments = [(f"{secret} {s.name}", study.labels == s.label) for s in study.segments]
    write_seg(source / f"{secret}.dcm", segments, study.geometry)
    (source / f"{secret}.nii.gz").write_bytes(b"no image")
    rows = [
        "case,ct,segmentation",
        f"{secret}-1,{secret}-ct,{secret}.dcm",
        f"{secret}-2,{secret}.nii.gz,{secret}.nii.gz",
        f"{secret}-3,gone-{secret},{secret}.dcm",
    ]
    (source / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name in ("salt", "other"):
        (tmp_path / name).write_text(name * 20, encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["batch", str(source / "manifest.csv"), "--output", str(out), "--workers", "0"]
    arguments += ["--model", str(random_package.path), "--device", "cpu", "--dicom-output"]
    arguments += ["--role", "liver=1", "--role", "lesion=2", "--deidentify"]
    assert main(arguments) == 2
    assert "--deidentify-salt" in capsys.readouterr().err
    arguments.append("--deidentify-salt")
    assert main([*arguments, str(tmp_path / "salt"), "--log-json"]) == 7
    said = capsys.readouterr()
    assert secret not in said.out + said.err

    (case,) = (out / CASES).iterdir()
    assert case.name.startswith("case-") and read_result(case).case_id == case.name
    assert {p.name for p in (case / DICOM).iterdir()} == set(DICOM_FILES)
    (row,) = table(out / SUMMARY)
    assert row["case"] == case.name
    assert [(f["row"], f["error"]) for f in table(out / FAILURES)] == [
        ("2", "InputError"),
        ("3", "UnusableRow"),
    ]
    for name, content in tree(out).items():
        assert secret not in name and secret.encode() not in content, name

    before = identity(out)
    assert main([*arguments, str(tmp_path / "salt"), "--resume"]) == 7
    assert "1 finished before" in capsys.readouterr().out
    assert identity(out) == before
    assert main([*arguments, str(tmp_path / "other"), "--resume"]) == 5
    assert "other settings: pseudonyms" in capsys.readouterr().err


def test_memory_of_dicom_is_told_from_headers(tmp_path, phantom_ct, phantom_files, ct_study):
    case = Case(1, "a", str(phantom_ct), (str(phantom_files["segmentation"]),))
    voxels = ct_study.ct.array.size
    segmented = ct_study.segmentation.labels.size
    assert memory_of(case, tmp_path) == BASE_BYTES + 24 * voxels + 5 * segmented


def test_the_summary_says_what_the_results_say(real_batch):
    folder, _, _ = real_batch
    rows = {row["case"]: row for row in table(folder / "out" / SUMMARY)}
    assert list(rows) == ["first", "second"]
    for name, row in rows.items():
        case = read_result(folder / "out" / row["result"])
        assert case.case_id == name
        assert (row["predicted"], row["target"]) == (case.predicted.name, "poor")
        for class_name, probability in case.probabilities.items():
            assert float(row[f"p_{class_name}"]) == pytest.approx(probability, rel=1e-5)
        kinds = {r.kind for r in case.regions}
        shares = sum(float(row[f"share_{kind}"]) for kind in kinds) + float(row["share_outside"])
        assert shares == pytest.approx(case.contrast - case.reference_contrast, abs=1e-4)
        volume = sum(r.volume_ml for r in case.regions if r.kind == "lesion")
        assert float(row["volume_lesion_ml"]) == pytest.approx(volume, rel=1e-4)
        assert int(row["lesions"]) == 2
        assert row["notices"].split(";") == [n.code for n in case.notices]
        assert row["modalities"].split(";") == list(case.modalities)
        assert (row["model"], row["device"]) == ("random", "cpu")
        assert row["prediction_set"] == row["abstains"] == row["volume_organ_ml"] == ""
        assert float(row["seconds"]) > 0


def test_parquet_and_csv_agree(real_batch):
    pq = pytest.importorskip("pyarrow.parquet")
    folder, _, _ = real_batch
    found = pq.read_table(folder / "out" / PARQUET).to_pylist()
    rows = table(folder / "out" / SUMMARY)
    assert [r["case"] for r in found] == [r["case"] for r in rows]
    for typed, text in zip(found, rows, strict=True):
        assert list(typed) == list(text) == list(summary_columns(CLASSES))
        for name, value in typed.items():
            if isinstance(value, float):
                assert float(text[name]) == pytest.approx(value, rel=1e-5)
            else:
                assert text[name] == ("" if value is None else str(value))


def test_resuming_a_complete_batch_touches_nothing_and_needs_the_same_options(real_batch, capsys):
    folder, arguments, _ = real_batch
    before, tables = identity(folder / "out"), tree(folder / "out")
    assert main(arguments) == 5
    assert "--resume" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 5
    error = capsys.readouterr().err
    assert "target 'poor', now None" in error
    assert "--rerun-changed" in error
    options = ["--resume", "--target", "poor", "--log-json"]
    options += ["--role", "liver=1", "--role", "lesion=2"]
    assert main([*arguments, *options]) == 7
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["done"], last["finished_before"], last["failed"]) == (0, 2, 3)
    assert identity(folder / "out") == before
    assert tree(folder / "out") == tables


def test_the_json_log_has_one_object_per_case(real_batch, tmp_path, capsys):
    _, arguments, _ = real_batch
    arguments[3] = str(tmp_path / "out")
    assert main([*arguments, "--log-json"]) == 7
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    cases = [line for line in lines if line["event"] == "case"]
    assert {c["case"]: c["outcome"] for c in cases} == {
        **{"first": "done", "second": "done", "cut": "failed", "../evil": "failed"},
        "=1+1": "failed",
    }
    assert [c["ended"] for c in cases] == [1, 2, 3, 4, 5]
    assert cases[-1]["total"] == 5
    assert cases[-1]["remaining_seconds"] == 0
    assert next(c for c in cases if c["case"] == "cut")["error"] == "InputError"


@pytest.mark.parametrize("log", [[], ["--log-json"]])
def test_what_no_terminal_should_see_is_not_shown(tmp_path, random_package, capsys, log):
    rows = [{"case": "\ud800", "ct": "x", "segmentation": "y"}]
    rows += [{"case": "b\x1b[2J", "ct": "\x1b]0;x\x07", "segmentation": "\udcff"}]
    (tmp_path / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    arguments = ["batch", str(tmp_path / "m.json"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--model", str(random_package.path), "--workers", "0", *log]) == 7
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    (captured.out + captured.err).encode()
    assert [row["row"] for row in table(tmp_path / "out" / FAILURES)] == ["1", "2"]


# isolation


def test_an_error_that_nobody_foresaw_is_one_cases_failure(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "fails-1", "b"])
    heard = batch()
    assert heard.failures == {"fails-1": "Unexpected"}
    assert (heard.counts.done, heard.counts.failed, heard.counts.remaining) == (2, 1, 0)
    (row,) = table(tmp_path / "out" / FAILURES)
    assert "ZeroDivisionError: surprise" in row["reason"]
    assert [r["case"] for r in table(tmp_path / "out" / SUMMARY)] == ["a", "b"]


def test_a_failed_case_is_tried_again_and_forgotten_when_it_works(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "fails-1"])
    batch()

    def repaired(job, folder):
        simulated(job.__class__(**{**vars(job), "case": Case(2, "fine")}), folder)

    heard = batch(RESUME, repaired)
    assert [o.case.name for o in heard.outcomes] == ["fails-1"]
    assert heard.failures == {}
    assert table(tmp_path / "out" / FAILURES) == []
    assert len(table(tmp_path / "out" / SUMMARY)) == 2


def test_a_broken_manifest_leaves_no_case_and_no_table(batch, tmp_path):
    path = write_manifest(tmp_path / "in", ["a", "b"])
    path.write_text(path.read_text(encoding="utf-8") + '"unfinished', encoding="utf-8")
    with pytest.raises(InputError, match="broken"):
        batch()
    assert list((tmp_path / "out" / CASES).iterdir()) == []
    assert not (tmp_path / "out" / SUMMARY).exists()


def test_images_too_large_for_the_memory_are_a_named_failure(batch, tmp_path):
    path = write_manifest(tmp_path / "in", ["small", "large"])
    # Written as its header alone: voxels are not looked at.
    image = sitk.Image([2, 2, 2], sitk.sitkInt16)
    sitk.WriteImage(image, str(tmp_path / "in" / "large.nii"))
    header = bytearray((tmp_path / "in" / "large.nii").read_bytes())
    header[42:48] = np.array([1200, 1200, 1000], "<i2").tobytes()
    (tmp_path / "in" / "large.nii").write_bytes(header)
    text = path.read_text(encoding="utf-8").replace("large,ct.nii.gz", "large,large.nii")
    path.write_text(text, encoding="utf-8")
    heard = batch(BatchOptions(workers=0, memory=2 * BASE_BYTES))
    assert heard.failures == {"large": "InputError"}
    (row,) = table(tmp_path / "out" / FAILURES)
    need = (BASE_BYTES + 24 * 1200 * 1200 * 1000) / 2**30
    assert f"{need:.2f} GiB of memory may be needed, a worker has 1.37 GiB" in row["reason"]
    assert "--memory" in row["next_step"]


def test_a_dicom_folder_is_measured_by_its_series(tmp_path):
    from images import OBLIQUE, ct_array, write_dicom, write_image

    write_dicom(tmp_path / "ct", ct_array())
    write_image(tmp_path / "seg.nrrd", np.zeros(OBLIQUE.array_shape, np.uint8))
    case = Case(1, "a", "ct", ("seg.nrrd",))
    voxels = int(np.prod(OBLIQUE.size))
    assert memory_of(case, tmp_path) == BASE_BYTES + (24 + 5) * voxels
    assert memory_of(case, tmp_path, limit=BASE_BYTES * 2) > memory_of(case, tmp_path)


# resuming


def test_a_resumed_batch_does_only_what_is_not_finished(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "b"])
    batch()
    before = identity(tmp_path / "out")
    path = tmp_path / "in" / "manifest.csv"
    with path.open("a", encoding="utf-8") as stream:
        stream.write("c,ct.nii.gz,segmentation.nii.gz,,,\n")
    heard = batch(RESUME)
    assert [o.case.name for o in heard.outcomes] == ["c"]
    after = identity(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert [r["case"] for r in table(tmp_path / "out" / SUMMARY)] == ["a", "b", "c"]


@pytest.mark.parametrize("change", ["touch", "size", "path", "series", "pet"])
def test_a_finished_case_counts_only_for_the_same_inputs(batch, tmp_path, change):
    path = write_manifest(tmp_path / "in", ["a", "b"])
    text = path.read_text(encoding="utf-8")
    row = "b,ct.nii.gz,segmentation.nii.gz,,,"
    shutil.copy(tmp_path / "in" / "ct.nii.gz", tmp_path / "in" / "other.nii.gz")
    path.write_text(text.replace(row, row.replace("ct.nii.gz,", "other.nii.gz,")), "utf-8")
    other = tmp_path / "in" / "other.nii.gz"
    batch()
    before = identity(tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    if change == "touch":
        os.utime(other, ns=(1, other.stat().st_mtime_ns + 1))
    elif change == "size":
        times = (other.stat().st_atime_ns, other.stat().st_mtime_ns)
        other.write_bytes(other.read_bytes() + b"\0")
        os.utime(other, ns=times)
    else:
        new = {"path": "b,ct.nii.gz,segmentation.nii.gz,,,"}
        new["series"] = "b,other.nii.gz,segmentation.nii.gz,,,1.2"
        new["pet"] = "b,other.nii.gz,segmentation.nii.gz,ct.nii.gz,,"
        text = text.replace("b,other.nii.gz,segmentation.nii.gz,,,", new[change])
        path.write_text(text, encoding="utf-8")
    heard = batch(RESUME)
    assert heard.failures == {"b": "ChangedInput"}
    assert heard.counts.finished_before == 1
    assert identity(tmp_path / "out") == before
    assert [r["case"] for r in table(tmp_path / "out" / SUMMARY)] == ["a"]
    heard = batch(BatchOptions(workers=0, resume=True, rerun_changed=True))
    assert [o.case.name for o in heard.outcomes] == ["b"]
    after = identity(tmp_path / "out")
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert batch(RESUME).outcomes == []


def test_inputs_and_results_may_move_to_another_machine(batch, tmp_path, random_package):
    write_manifest(tmp_path / "in", ["a", "b"])
    batch()
    for name in ("in", "out"):
        shutil.copytree(tmp_path / name, tmp_path / "there" / name)  # with times, as rsync -a
    heard, there = Heard(), tmp_path / "there"
    run_batch(there / "in" / "manifest.csv", there / "out", random_package, RESUME, heard)
    assert heard.outcomes == []
    assert heard.counts.finished_before == 2


def test_another_model_or_version_is_refused(batch, tmp_path, random_package, monkeypatch):
    write_manifest(tmp_path / "in", ["a"])
    batch()

    def other_version(document):
        document["version"] = "9.9.9"

    other = load_package(altered_copy(random_package, tmp_path / "package", other_version))
    with pytest.raises(OutputError, match=r"model_version '0\.0\.1', now '9\.9\.9'"):
        batch(RESUME, package=other)
    monkeypatch.setattr(batch_run, "__version__", "99.0")
    with pytest.raises(OutputError, match=r"reactkd_version .*now '99\.0'"):
        batch(RESUME)


def test_what_a_killed_run_left_behind_goes(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "b"])
    batch()
    work = tmp_path / "out" / HIDDEN / "work" / "0123" / "b" / "stage-1-2" / "result"
    work.mkdir(parents=True)
    (work / RESULT).write_text("{")
    (tmp_path / "out" / HIDDEN / "failed" / "b.json").write_text("{half")
    shutil.rmtree(tmp_path / "out" / CASES / "b")
    heard = batch(RESUME)
    assert [o.case.name for o in heard.outcomes] == ["b"]
    assert not (tmp_path / "out" / HIDDEN / "work").exists()
    assert len(table(tmp_path / "out" / SUMMARY)) == 2


def test_a_folder_of_somebody_else_is_never_replaced(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "b"])
    batch()
    strange = tmp_path / "out" / CASES / "b"
    shutil.rmtree(strange)
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    heard = batch(BatchOptions(workers=0, resume=True, rerun_changed=True))
    assert heard.failures == {"b": "DamagedResult"}
    assert (strange / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("options", [HERE, RESUME])
def test_a_folder_that_is_no_batch_is_refused(batch, tmp_path, options):
    write_manifest(tmp_path / "in", ["a"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError):
        batch(options)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_two_batches_do_not_write_to_one_folder(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "b"])
    refused = []

    def meanwhile(job, folder):
        if not refused:
            with pytest.raises(OutputError, match="Another batch") as raised:
                batch(RESUME)
            refused.append(raised.value)
        simulated(job, folder)

    assert batch(process=meanwhile).counts.done == 2
    assert len(refused) == 1


# a folder that refuses


def test_a_full_disk_ends_the_batch_and_a_resumed_one_completes_it(batch, tmp_path, small_disk):
    write_manifest(tmp_path / "in", ["a", "b", "c"])
    (tmp_path / "out").symlink_to(small_disk)

    def fills(job, folder):
        simulated(job, folder)
        if job.case.name == "b":
            (folder / "large").write_bytes(bytes(1 << 17))

    with pytest.raises(OutputError, match="No space left") as raised:
        batch(process=fills)
    assert "--resume" in raised.value.advice
    assert [p.name for p in (small_disk / CASES).iterdir()] == ["a"]
    before = identity(small_disk)
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    heard = batch(RESUME)
    assert [o.case.name for o in heard.outcomes] == ["b", "c"]
    assert identity(small_disk)["a"] == before["a"]
    assert len(table(small_disk / SUMMARY)) == 3


def test_an_interruption_keeps_what_is_finished_and_writes_the_tables(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "fails-1", "b", "c"])

    def interrupted(job, folder):
        if job.case.name == "b":
            raise KeyboardInterrupt
        simulated(job, folder)

    with pytest.raises(KeyboardInterrupt):
        batch(process=interrupted)
    assert [r["case"] for r in table(tmp_path / "out" / SUMMARY)] == ["a"]
    assert [r["case"] for r in table(tmp_path / "out" / FAILURES)] == ["fails-1"]
    heard = batch(RESUME)
    assert [o.case.name for o in heard.outcomes] == ["fails-1", "b", "c"]


def test_a_damaged_result_is_named(batch, tmp_path):
    write_manifest(tmp_path / "in", ["a", "b"])
    batch()
    (tmp_path / "out" / CASES / "b" / RESULT).write_text("{half")
    assert batch(RESUME).failures == {"b": "DamagedResult"}
    (row,) = table(tmp_path / "out" / FAILURES)
    assert (row["case"], row["error"]) == ("b", "DamagedResult")
    assert "Move it away" in row["next_step"]


# options


@pytest.mark.parametrize(
    "options",
    [
        BatchOptions(workers=-1),
        BatchOptions(workers=2, timeout=0),
        BatchOptions(workers=2, timeout=float("nan")),
        BatchOptions(workers=0, timeout=5),
        BatchOptions(workers=2, scheduler="tcp://here:1"),
        BatchOptions(workers=0, memory=BASE_BYTES - 1),
        BatchOptions(workers=0, target="benign"),
        BatchOptions(workers=0, scheme="none"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything(batch, tmp_path, options):
    write_manifest(tmp_path / "in", ["a"])
    with pytest.raises(OptionError):
        batch(options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("4", 4 << 30), ("4G", 4 << 30), ("1.5GiB", 3 << 29), ("3500M", 3500 << 20), (None, None)],
)
def test_sizes_of_memory(text, size):
    from REACTKDLib.batch_command import memory_size

    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "four", "nan", "inf", "4X"])
def test_sizes_that_are_none(text):
    from REACTKDLib.batch_command import memory_size

    with pytest.raises(OptionError, match="--memory"):
        memory_size(text)


@pytest.fixture
def no_dask(monkeypatch):
    monkeypatch.setattr("REACTKDLib.batch.on_dask.dask_is_installed", lambda: False)
    monkeypatch.setattr(batch_run, "dask_is_installed", lambda: False)


@pytest.mark.parametrize("workers", [None, 1])
def test_without_dask_one_process_does_it_and_says_so(batch, tmp_path, no_dask, workers):
    write_manifest(tmp_path / "in", ["a"])
    heard = batch(BatchOptions(workers=workers))
    assert heard.counts.done == 1
    assert any("pip install 'reactkd[batch]'" in text for text in heard.messages)


@pytest.mark.parametrize(
    "options",
    [BatchOptions(workers=2), BatchOptions(timeout=9), BatchOptions(scheduler="tcp://x:1")],
)
def test_what_needs_dask_says_how_to_install_it(batch, tmp_path, no_dask, options):
    write_manifest(tmp_path / "in", ["a"])
    with pytest.raises(EnvironmentProblem, match="Dask") as raised:
        batch(options)
    assert "reactkd[batch]" in raised.value.advice
    assert not (tmp_path / "out").exists()


def test_without_pyarrow_the_csv_is_there_and_it_is_said(batch, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        "REACTKDLib.batch.tables.importlib.util.find_spec",
        lambda name: None if name == "pyarrow" else find(name),
    )
    write_manifest(tmp_path / "in", ["a"])
    heard = batch()
    assert any("pyarrow" in text for text in heard.messages)
    assert (tmp_path / "out" / SUMMARY).is_file()
    assert not (tmp_path / "out" / PARQUET).exists()


# attempts


def test_a_case_that_ended_its_process_twice_is_not_tried_again(tmp_path):
    program = "import os, sys\nfrom pathlib import Path\n"
    program += "from REACTKDLib.batch.attempts import attempt\n"
    program += "with attempt(Path(sys.argv[1]), None) as stage:\n    os._exit(3)\n"
    folder = tmp_path / "case"
    for number in (1, 2):
        assert verdict(folder, None) is None
        done = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
        assert done.returncode == 3
        assert len(list(folder.glob("stage-*"))) == 1, number
    assert verdict(folder, None).error == "WorkerDied"


def test_a_case_that_takes_too_long_ends_even_where_python_cannot(tmp_path):
    """The process holds Python's global lock in C code, as a reader may on a dead network drive."""
    program = "import ctypes, sys\nfrom pathlib import Path\n"
    program += "from REACTKDLib.batch.attempts import attempt\n"
    program += "with attempt(Path(sys.argv[1]), 0.3) as stage:\n"
    program += "    ctypes.PyDLL(None).sleep(600)\n"
    if not sys.platform.startswith("linux"):
        pytest.skip("the C library's sleep is looked up as on Linux")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "case")], check=False)
    assert done.returncode == 1
    failure = verdict(tmp_path / "case", 0.3)
    assert failure.error == "TimedOut"
    assert "0.3 s" in failure.reason


def test_an_attempt_that_ends_leaves_nothing(tmp_path):
    with attempt(tmp_path / "a", 60) as stage:
        (stage / "x").write_text("x")
    with pytest.raises(ValueError), attempt(tmp_path / "b", None) as stage:
        raise ValueError(stage)
    assert list(tmp_path.iterdir()) == []
