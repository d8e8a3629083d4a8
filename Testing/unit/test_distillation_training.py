"""Batches, forward passes, objectives and the engine of teachers and students."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from random_models import random_student, specification
from training_cases import synthetic_case

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.student import Student
from training.answers import Answers, TeacherEntry, answers_of
from training.batches import DOSED_CT, Batch, CropSettings, crop_batches, whole_case
from training.engine import CHECKPOINT, METRICS, Optimisation, _Steps, fit
from training.forward import batch_cells, view_of
from training.losses import make_distillation
from training.networks.swin import SwinEncoder, SwinSpec
from training.networks.teacher import Teacher, TeacherSpec
from training.objectives import (
    LabelLoss,
    ModalityDropout,
    StudentObjective,
    TeacherObjective,
)

CPU = torch.device("cpu")
SPEC = spec_from_section(specification())
CASES = [synthetic_case(n) for n in range(9)]
SWIN = SwinSpec(patch=(2, 4, 4), window=(2, 2, 2), embedding=8, depths=(2,), heads=(2,))
PET = {"fdg": ("ct", "pet_fdg"), "acetate": ("ct", "pet_acetate")}


def teacher(seed: int = 0, branches: dict | None = None, swin: SwinSpec = SWIN) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Teacher(TeacherSpec(branches or PET, swin, fused_channels=6), 3).eval()


def crops(cases=CASES, dosed: float = 1.0, size=(4, 8, 8), batch_size: int = 3) -> list[Batch]:
    rng = np.random.default_rng(4)
    settings = CropSettings(size, dosed)
    return list(crop_batches(cases, settings, SPEC, batch_size, rng, CPU))


# Batches.


def test_an_epoch_shows_every_case_once_around_its_lesion():
    batches = crops()
    assert [len(batch.labels) for batch in batches] == [3, 3, 3]
    labels = torch.cat([batch.labels for batch in batches])
    assert sorted(labels.tolist()) == sorted(case.label for case in CASES)
    for batch in batches:
        assert batch.volumes["ct"].shape == (3, 1, 4, 8, 8)
        assert torch.allclose(batch.weights.sum(dim=(1, 2, 3, 4)), torch.ones(3), atol=1e-5)
        lesion = batch.regions[:, 0]
        assert (lesion.sum(dim=(1, 2, 3)) > 0).all()
        # Half of the pooling's weight is on the lesion, wherever the crop fell.
        share = (batch.weights[:, 0] * lesion).sum(dim=(1, 2, 3))
        assert torch.allclose(share, torch.full((3,), 0.5), atol=1e-3)
        # The brightness of the lesion is the class, mirrored or not.
        mean = (batch.volumes["ct"][:, 0] * lesion).sum(dim=(1, 2, 3)) / lesion.sum(dim=(1, 2, 3))
        assert torch.allclose(mean, batch.labels.float() - 1, atol=0.3)


def test_the_dosed_ct_is_the_ct_or_a_low_dose_copy():
    assert all(torch.equal(b.volumes[DOSED_CT], b.volumes["ct"]) for b in crops(dosed=0.0))
    for batch in crops(dosed=1.0):
        inside = batch.roi > 0
        assert (batch.volumes[DOSED_CT] - batch.volumes["ct"])[inside].std() > 0.5
    whole = whole_case(CASES[1], SPEC, CPU, photons=1e4)
    assert np.allclose(whole.volumes[DOSED_CT][0, 0], CASES[1].low_dose[1e4])
    assert np.allclose(whole.volumes["ct"][0, 0], CASES[1].volumes["ct"])


def test_cases_without_a_modality_are_marked():
    cases = [synthetic_case(0), synthetic_case(1, ()), synthetic_case(2, ("pet_fdg",))]
    (batch,) = crops(cases)
    order = [int(label) for label in batch.labels]
    assert [bool(v) for v in batch.present["pet_fdg"]] == [label != 1 for label in order]
    assert [bool(v) for v in batch.present["pet_acetate"]] == [label == 0 for label in order]
    missing = torch.tensor(~batch.present["pet_acetate"])
    assert not batch.volumes["pet_acetate"][missing].any()


# Forward passes.


def test_rows_with_different_modalities_are_what_each_gives_alone():
    student = random_student(SPEC, 1)
    (batch,) = crops(CASES[:3])
    names = [("ct",), ("ct", "pet_fdg"), ("ct",)]
    with torch.inference_mode():
        view = view_of(student, batch, names, dosed=False)
        cells = batch_cells(student, batch)
        for row, own in enumerate(names):
            volumes = {name: batch.volumes[name][[row]] for name in own}
            alone = student(volumes, batch.roi[[row]], cells.weights[[row]])
            assert torch.allclose(view.logits[row], alone.logits[0], atol=1e-5)
            assert torch.allclose(view.features[row], alone.features[0], atol=1e-5)
    assert view.graphs.features.shape[:2] == view.graphs.mask.shape
    lesion = cells.regions[:, :1]
    expected = (view.features * lesion).sum(dim=(2, 3, 4)) / lesion.sum(dim=(2, 3, 4))
    assert torch.allclose(view.graphs.features[:, 0], expected, atol=1e-5)


def answers(entry: TeacherEntry, cases=CASES) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        return answers_of(entry, cases, SPEC, CPU, Path(folder, "answers.safetensors"))


def test_a_teacher_answers_where_one_branch_is_complete():
    cases = [synthetic_case(0), synthetic_case(1, ()), synthetic_case(2, ("pet_fdg",))]
    (batch,) = crops(cases)
    network = teacher()
    view = answers(TeacherEntry(network, False), cases).view(batch)
    labels = batch.labels.tolist()
    assert view.present.tolist() == [label != 1 for label in labels]
    whole = whole_case(cases[2], SPEC, CPU)
    cells = batch_cells(network, whole)
    with torch.inference_mode():
        volumes = {name: whole.volumes[name] for name in ("ct", "pet_fdg")}
        alone = network(volumes, whole.roi, cells.weights)
    assert torch.allclose(view.logits[labels.index(2)], alone.logits[0], atol=1e-5)
    assert not view.logits.requires_grad


def test_answers_are_those_at_the_dose_and_place_that_the_crop_shows(tmp_path):
    entry = TeacherEntry(teacher(2, {"ct": ("ct",)}), True)
    kept = tmp_path / "answers.safetensors"
    found = answers_of(entry, CASES, SPEC, CPU, kept)
    assert {photons for _, photons in found.tables} == {None, 1e4}
    stamp = kept.stat().st_mtime_ns
    assert answers_of(entry, CASES, SPEC, CPU, kept).tables.keys() == found.tables.keys()
    assert kept.stat().st_mtime_ns == stamp
    for batch in crops(dosed=0.5):
        view = found.view(batch)
        for row, one in enumerate(batch.shown):
            case = next(c for c in CASES if c.patient == one.patient)
            whole = whole_case(case, SPEC, CPU, one.photons)
            with torch.inference_mode():
                full = view_of(entry.network, whole, [("ct",)], dosed=True)
            assert torch.allclose(view.logits[row], full.logits[0], atol=1e-5)
            first = [a // s for a, s in zip(one.start, (2, 4, 4), strict=True)]
            k, j, i = (slice(a, a + 2) for a in first)
            expected = full.features[0][:, k, j, i].flip([axis + 1 for axis in one.mirrored])
            assert torch.allclose(view.features[row], expected, atol=2e-3)
            shown = (batch.regions[row] * batch.roi[row]).flatten(1).any(dim=1)
            assert torch.equal(view.graphs.mask[row], full.graphs.mask[0] & shown)
            nodes = full.graphs.features[0]
            assert torch.allclose(view.graphs.features[row], nodes, atol=1e-5)


def test_a_dose_blind_teacher_answers_for_the_ct_as_it_is():
    found = answers(TeacherEntry(teacher(), False))
    assert {photons for _, photons in found.tables} == {None}
    (first, *_) = crops(dosed=1.0)
    assert found.view(first).present.all()


def test_a_teacher_needs_a_complete_branch():
    with pytest.raises(ValueError, match="complete none"):
        teacher().fuse({"ct": torch.zeros(1, 1, 4, 8, 8)}, torch.ones(1, 1, 4, 8, 8))


@pytest.mark.parametrize(("depths", "heads"), [((2,), (2,)), ((1, 2), (2, 4))])
def test_swin_cells_have_the_declared_size_and_channels(depths, heads):
    spec = dataclasses.replace(SWIN, depths=depths, heads=heads)
    features = SwinEncoder(spec, 2)(torch.randn(2, 2, 8, 16, 16))
    k, j, i = spec.stride
    assert features.shape == (2, spec.channels, 8 // k, 16 // j, 16 // i)
    network = teacher(swin=spec)
    assert network.cells(torch.zeros(1, 3, 8, 16, 16)).shape[2:] == features.shape[2:]


def test_swin_stages_and_heads_must_fit():
    with pytest.raises(OptionError, match="depths"):
        SwinEncoder(dataclasses.replace(SWIN, depths=(2, 2)), 1)


def test_cells_of_a_teacher_are_means_of_patches():
    voxels = np.random.default_rng(0).random((1, 2, 4, 8, 12))
    expected = voxels.reshape(1, 2, 2, 2, 2, 4, 3, 4).mean(axis=(3, 5, 7))
    assert np.allclose(teacher().cells(torch.tensor(voxels)).numpy(), expected)


# Objectives.


def small_student(seed: int = 0) -> Student:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Student(SPEC.modality_names, 3, SPEC.network)


def student_objective(
    seed: int = 0, sets: dict[str, float] | None = None, kind: str = "react_kd"
) -> StudentObjective:
    teachers = [
        answers(TeacherEntry(teacher(1), False)),
        answers(TeacherEntry(teacher(2, {"ct": ("ct",)}), True)),
    ]
    channels = SPEC.network.fused_channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        distillation = make_distillation(kind, {}, channels, [6, 6], 3)
    dropout = ModalityDropout(sets or {"ct": 0.5, "ct+pet_fdg+pet_acetate": 0.5})
    return StudentObjective(small_student(seed), distillation, teachers, LabelLoss(), dropout)


def test_no_gradient_and_no_state_of_the_teachers_is_in_the_objective():
    objective = student_objective()
    objective.train()
    terms = objective(crops()[0])
    assert set(terms) == {"label", "logits", "node", "edge", "gromov_wasserstein"}
    torch.stack(list(terms.values())).sum().backward()
    for found in objective._teachers:
        assert all(not t.requires_grad for table in found.tables.values() for t in table.values())
    assert not any("teacher" in name for name in objective.state_dict())


def test_graphs_are_centred_over_the_regions_of_the_batch():
    (batch, *_) = crops()
    view = view_of(small_student(), batch, [("ct",)] * 3, dosed=False)
    raw, centred = view.graphs, view.centred().graphs
    mean = raw.features[raw.mask].mean(dim=0)
    assert torch.allclose(centred.features[raw.mask], raw.features[raw.mask] - mean, atol=1e-6)
    assert not centred.features[~raw.mask].any()


def test_modality_dropout_draws_its_sets_by_their_probability():
    torch.manual_seed(0)
    dropout = ModalityDropout({"ct": 0.75, "ct+pet_fdg": 0.25})
    drawn = [dropout.draw() for _ in range(400)]
    assert set(drawn) == {("ct",), ("ct", "pet_fdg")}
    assert 0.65 < np.mean([names == ("ct",) for names in drawn]) < 0.85


def test_a_teacher_learns_with_branches_left_out():
    objective = TeacherObjective(teacher(), LabelLoss(), dosed=False, branch_dropout=1.0).train()
    torch.manual_seed(0)
    batch = crops()[0]
    for _ in range(6):
        objective(batch)["label"].backward()
        seen = [
            any(p.grad is not None and p.grad.any() for p in encoder.parameters())
            for encoder in objective.network.encoders.values()
        ]
        if all(seen):
            break
    assert all(seen)


# The engine.

HOW = Optimisation(epochs=4, batch_size=3, learning_rate=0.01, select_every=2)


def fitted(work: Path, objective: StudentObjective, select=lambda: 0.5, how=HOW, dosed=0.5):
    def batches(rng: np.random.Generator):
        return crop_batches(CASES, CropSettings((4, 8, 8), dosed), SPEC, 3, rng, CPU)

    return fit(objective, batches, select, how, 3, 7, work, "test")


def test_an_interrupted_fit_goes_on_to_the_same_student(tmp_path):
    straight, resumed = student_objective(), student_objective()
    expected = fitted(tmp_path / "straight", straight)
    calls = []

    def power_cut() -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "resumed", resumed, power_cut)
    assert (tmp_path / "resumed" / CHECKPOINT).exists()
    torch.manual_seed(999)
    again = student_objective(seed=5)  # whatever it begins with, the checkpoint decides
    result = fitted(tmp_path / "resumed", again)
    assert result == expected
    state, other = again.state_dict(), straight.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    lines = (tmp_path / "resumed" / METRICS).read_text().splitlines()
    assert len(lines) == 4
    assert list((tmp_path / "resumed" / "tensorboard").glob("events*"))


def test_the_epoch_with_the_best_selection_is_kept(tmp_path):
    objective = student_objective()
    states, values = [], iter([0.9, 0.4])

    def select() -> float:
        states.append({k: v.clone() for k, v in objective.network.state_dict().items()})
        return next(values)

    result = fitted(tmp_path, objective, select)
    assert result.selected == 2
    kept = objective.network.state_dict()
    assert all(torch.equal(kept[name], states[0][name]) for name in kept)
    assert any(not torch.equal(kept[name], states[1][name]) for name in kept)


def test_the_loss_falls(tmp_path):
    objective = student_objective(sets={"ct": 1.0}, kind="none")
    how = dataclasses.replace(HOW, epochs=30, select_every=30, learning_rate=0.02)
    history = fitted(tmp_path, objective, how=how, dosed=0.0).history
    assert history[-1]["label"] < 0.7 * history[0]["label"]


def test_the_head_has_a_learning_rate_of_its_own(tmp_path):
    moved = {}
    for factor in (1.0, 10.0):
        objective = student_objective(sets={"ct": 1.0}, kind="none")
        before = {n: p.clone() for n, p in objective.network.named_parameters()}
        how = dataclasses.replace(HOW, epochs=1, select_every=1, head_factor=factor)
        fitted(tmp_path / str(factor), objective, how=how, dosed=0.0)
        after = dict(objective.network.named_parameters())
        moved[factor] = {n: (after[n] - before[n]).abs().mean().item() for n in before}
    assert moved[10.0]["head.weight"] > 4 * moved[1.0]["head.weight"]
    first = "encoders.ct.conv_init.weight"
    assert moved[10.0][first] < 2 * moved[1.0][first]


def test_supervised_cells_show_the_class_in_the_lesion(tmp_path):
    objective = student_objective(sets={"ct": 1.0}, kind="none")
    objective.cells = 1.0
    how = dataclasses.replace(HOW, epochs=30, select_every=30, learning_rate=0.02, head_factor=10.0)
    history = fitted(tmp_path, objective, how=how, dosed=0.0).history
    assert history[-1]["cells"] < 0.95 * history[0]["cells"]
    (batch, *_) = crops(dosed=0.0)
    student = objective.network
    with torch.inference_mode():
        view = view_of(student, batch, [("ct",)] * 3, dosed=False)
        logits = student.head(view.features.movedim(1, -1)).log_softmax(dim=-1)
    lesion = student.cells(batch.lesion)[:, 0]
    inside, outside = view.weights[:, 0] * lesion, view.weights[:, 0] * (1 - lesion)
    spread = logits.max(dim=-1).values - logits.min(dim=-1).values
    means = [float((spread * part).sum() / part.sum()) for part in (inside, outside)]
    assert means[0] > 1.1 * means[1]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_mixed_precision_is_chosen_for_a_cuda_device_alone(monkeypatch):
    objective = student_objective(sets={"ct": 1.0})
    optimiser = torch.optim.AdamW(objective.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimiser)

    def steps(device: str, mixed: bool = True) -> _Steps:
        return _Steps(objective, optimiser, schedule, torch.device(device), mixed)

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for plain in (steps("cpu"), steps("cuda", mixed=False)):
        assert isinstance(plain.autocast, contextlib.nullcontext)
        assert not plain.scaler.is_enabled()
    assert steps("cuda").autocast.fast_dtype == torch.bfloat16
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *a, enabled: asked.append(enabled))
    assert steps("cuda").autocast.fast_dtype == torch.float16
    assert asked == [True]  # float16 needs its losses scaled


_TWO_PROCESSES = """
import sys, torch
sys.path[:0] = {paths!r}
import test_distillation_training as t
from training.processes import join_processes
from pathlib import Path
objective = t.student_objective(sets={{"ct": 1.0}})  # with a folder of its own
join_processes(torch.device("cpu"))
t.fitted(Path({work!r}) / str(torch.distributed.get_rank()), objective)
total = sum(float(p.double().sum()) for p in objective.network.parameters())
Path({work!r}, f"sum{{torch.distributed.get_rank()}}").write_text(repr(total))
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_one_student(tmp_path):
    here = Path(__file__).resolve().parent
    paths = [str(here), str(here.parent), str(here.parents[1])]
    script = tmp_path / "two.py"
    script.write_text(_TWO_PROCESSES.format(paths=paths, work=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    # One thread each, and nothing of what other tests have set.
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(
        [*command, str(script)],
        capture_output=True,
        encoding="utf-8",
        timeout=900,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sums = [(tmp_path / f"sum{rank}").read_text() for rank in range(2)]
    assert sums[0] == sums[1]
    assert (tmp_path / "0" / CHECKPOINT).exists()
    assert not (tmp_path / "1" / CHECKPOINT).exists()  # process 0 writes
