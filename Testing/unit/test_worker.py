"""The worker process, as its parent sees it: a real process, real pipes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from REACTKDLib.exchange import receive_case, receive_study, send_case, send_study
from REACTKDLib.pipeline import run_case
from REACTKDLib.report import graph_document, result_document
from REACTKDLib.worker import Job, job_line


class Parent:
    """Speaks with one worker."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "REACTKDLib.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=Path(__file__).resolve().parents[2],
        )
        self.jobs = 0

    def hear(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def ask(self, job: Job) -> int:
        self.jobs += 1
        self.process.stdin.write(job_line(self.jobs, job))
        self.process.stdin.flush()
        return self.jobs

    def until_answered(self, number: int) -> tuple[list[dict], dict]:
        """Progress messages of a job, and its last one."""
        progress = []
        while (message := self.hear())["event"] == "progress":
            assert message["id"] == number
            progress.append(message)
        assert message["id"] == number
        return progress, message


@pytest.fixture(scope="module")
def parent():
    parent = Parent()
    ready = parent.hear()
    assert ready == {"event": "ready", "pid": ready["pid"]}
    yield parent
    parent.process.stdin.close()
    assert parent.process.wait(10) == 0


@pytest.fixture
def study_folder(phantom_study, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    send_study(phantom_study, folder)
    return folder


def output(tmp_path: Path, name: str = "case") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_study_arrives_as_it_was_sent(phantom_study, study_folder):
    received = receive_study(study_folder)
    assert received.case_id == phantom_study.case_id
    assert list(received.volumes) == list(phantom_study.volumes)
    for name, volume in phantom_study.volumes.items():
        assert np.array_equal(received.volumes[name].array, volume.array)
        assert received.volumes[name].array.dtype == volume.array.dtype
        assert received.volumes[name].geometry == volume.geometry
        assert received.volumes[name].name == volume.name
    assert np.array_equal(received.segmentation.labels, phantom_study.segmentation.labels)
    assert received.segmentation.segments == phantom_study.segmentation.segments
    assert received.segmentation.geometry == phantom_study.segmentation.geometry


def test_a_case_arrives_as_it_was_sent(phantom_study, random_package, tmp_path):
    case = run_case(phantom_study, random_package)
    folder = output(tmp_path)
    send_case(case, folder)
    received = receive_case(folder)
    assert result_document(received) == result_document(case)
    assert graph_document(received) == graph_document(case)
    assert received.provenance == case.provenance
    for name in ("attention", "region_labels"):
        sent, arrived = getattr(case, name), getattr(received, name)
        assert np.array_equal(arrived.array, sent.array)
        assert arrived.geometry == sent.geometry


def test_a_job_gives_the_pipelines_result_and_its_stages(
    parent, study_folder, phantom_study, random_package, tmp_path
):
    expected = run_case(phantom_study, random_package)
    folder = output(tmp_path)
    number = parent.ask(Job(str(study_folder), str(random_package.path), str(folder)))
    progress, last = parent.until_answered(number)
    assert last == {"id": number, "event": "done"}
    assert [m["stage"] for m in progress][:2] == ["starting", "region of interest"]
    assert progress[-1]["done"] == 1.0
    case = receive_case(folder)
    assert case.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert np.allclose(case.attention.array, expected.attention.array, atol=1e-4)


def test_a_what_if_is_a_job_on_an_earlier_result(parent, study_folder, random_package, tmp_path):
    first, second = output(tmp_path, "first"), output(tmp_path, "second")
    asked = Job(str(study_folder), str(random_package.path), str(first))
    parent.until_answered(parent.ask(asked))
    what_if = Job(
        str(study_folder),
        str(random_package.path),
        str(second),
        original=str(first),
        hidden=("lesion-1",),
        photons=1e5,
    )
    _, last = parent.until_answered(parent.ask(what_if))
    assert last["event"] == "done"
    before, after = receive_case(first), receive_case(second)
    assert after.target == before.target
    assert [r.id for r in after.regions] == [r.id for r in before.regions]
    assert after.logits != before.logits


def test_a_refused_job_tells_class_message_and_advice_and_the_next_one_runs(
    parent, study_folder, random_package, tmp_path
):
    asked = Job(
        str(study_folder), str(random_package.path), str(output(tmp_path)), target="unknown"
    )
    number = parent.ask(asked)
    _, last = parent.until_answered(number)
    assert last["event"] == "error"
    assert last["error"] == "OptionError"
    assert "unknown" in last["message"]
    assert last["advice"]
    again = Job(str(study_folder), str(random_package.path), str(output(tmp_path, "again")))
    assert parent.until_answered(parent.ask(again))[1]["event"] == "done"


def test_the_log_names_stages_model_device_and_seconds_but_no_file_and_no_patient(
    study_folder, phantom_study, random_package, tmp_path
):
    parent = Parent()
    parent.hear()
    asked = Job(str(study_folder), str(random_package.path), str(output(tmp_path)))
    parent.until_answered(parent.ask(asked))
    parent.process.stdin.close()
    log = parent.process.stderr.read()
    assert re.search(r"job 1, \d+\.\d\d s: network\n", log)
    assert f"done by {random_package.name} {random_package.version} on cpu" in log
    assert str(tmp_path) not in log
    assert str(random_package.path) not in log
    assert phantom_study.case_id not in log


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_cannot_be_used_is_answered_by_the_cpu_with_a_notice(
    parent, study_folder, random_package, tmp_path
):
    folder = output(tmp_path)
    asked = Job(str(study_folder), str(random_package.path), str(folder), device="cuda")
    assert parent.until_answered(parent.ask(asked))[1]["event"] == "done"
    case = receive_case(folder)
    (notice,) = (n for n in case.notices if n.code == "cuda_failed")
    assert notice.severity == "warning"
    assert "the CPU was used" in notice.text
    assert case.provenance["device"] == "cpu"


def test_an_unexpected_error_is_told_too(parent, random_package, tmp_path):
    asked = Job(str(tmp_path / "absent"), str(random_package.path), str(output(tmp_path)))
    _, last = parent.until_answered(parent.ask(asked))
    assert last["error"] == "ReactKDError"
    assert "Unexpected FileNotFoundError" in last["message"]


def test_the_process_ends_with_its_input_in_the_midst_of_a_job(
    study_folder, random_package, tmp_path
):
    parent = Parent()
    parent.hear()
    parent.ask(Job(str(study_folder), str(random_package.path), str(output(tmp_path))))
    parent.hear()  # it has begun, and now imports libraries
    parent.process.stdin.close()
    assert parent.process.wait(1) == 0
