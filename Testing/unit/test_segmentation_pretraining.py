"""Pretraining by segmentation: what is drawn, learnt, saved, loaded, resumed and kept apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from images import OBLIQUE, label_array, write_image
from random_models import random_student, specification
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_cases import synthetic_case

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.read import read_study
from training import segmentation_pretraining, segmentation_task
from training.engine import Optimisation
from training.manifest import read_manifest, study_files
from training.prepare import Preparation, PreparedCase, prepare_study
from training.public_cohorts import build_manifest
from training.segmentation_pretraining import (
    SegmentationResult,
    SegmentationSettings,
    load_encoder,
    pretrain_encoder,
)
from training.segmentation_task import (
    LESION,
    ORGAN,
    Crops,
    SegmentationNetwork,
    crop_batches,
    dice,
    example_of,
    segment,
)

CPU = torch.device("cpu")
SPEC = spec_from_section(specification())
CROPS = Crops((6, 12, 12), 0.5, 2)


def bright_case(index: int) -> PreparedCase:
    """An easy phantom: a bright lesion, somewhere in a dark organ, in a margin of neither.

    The margin is wide on one side, so that the region's border does not give the organ away.
    """
    rng = np.random.default_rng([5, index])
    shape = (10, 20, 20 + 2 * (index % 2))
    roi, organ, lesion = np.zeros((3, *shape))
    roi[1:9, 1:19, 1:19] = 1
    organ[2:8, 3:17, 3:12] = 1
    k, j, i = rng.integers((2, 3, 3), (4, 11, 7))
    lesion[k : k + 4, j : j + 6, i : i + 5] = 1
    ct = (rng.normal(0, 0.2, shape) - organ + 3 * lesion) * roi
    return dataclasses.replace(
        synthetic_case(0),
        patient=f"patient-{index}",
        unit=f"patient-{index}",
        volumes={"ct": ct.astype(np.float16)},
        roi=roi.astype(np.float16),
        lesion=lesion.astype(np.float16),
        near=lesion.astype(np.float16),
        low_dose={},
        regions=np.where(lesion > 0, 1, 2 * organ).astype(np.uint8),
        region_ids=("lesion-1", "parenchyma"),
        responsible=None,
    )


CASES = [bright_case(n) for n in range(14)]
SHORT = SegmentationSettings(Optimisation(2, 4, 0.01, select_every=1), CROPS, 4, 4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SegmentationResult:
    """A short training on the easy phantom."""
    optimisation = Optimisation(12, 4, 0.02, select_every=4)
    settings = SegmentationSettings(optimisation, dataclasses.replace(CROPS, per_case=4), 4, 4)
    return pretrain_encoder(CASES, settings, SPEC, 3, tmp_path_factory.mktemp("work"), CPU)


def pretrained(work: Path, cases: list[PreparedCase] = CASES, seed: int = 3) -> SegmentationResult:
    return pretrain_encoder(cases, SHORT, SPEC, seed, work, CPU)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


# What is drawn.


def test_the_truth_is_background_organ_and_lesion_within_the_region():
    case = CASES[0]
    outside = dataclasses.replace(case, roi=case.roi * (np.arange(case.roi.shape[2]) < 8))
    truth = example_of(case).truth
    assert np.array_equal(truth == LESION, case.lesion > 0.5)
    assert np.array_equal(truth == ORGAN, (case.regions > 0) & (case.lesion < 0.5))
    assert np.array_equal(example_of(outside).truth, np.where(outside.roi > 0, truth, 0))


@pytest.mark.parametrize(
    "change, lacking", [({"volumes": {}}, "CT"), ({"regions": None}, "regions")]
)
def test_a_case_that_lacks_something_is_an_error(change, lacking):
    with pytest.raises(InputError, match=f"patient-0 was prepared without {lacking}"):
        example_of(dataclasses.replace(CASES[0], **change))


def test_half_of_the_crops_are_drawn_around_lesions():
    """In a long organ a crop from anywhere seldom has the small lesion in it."""
    case = synthetic_case(0)
    shape = (4, 8, 400)
    lesion = np.zeros(shape, np.float16)
    lesion[1:3, 2:6, 40:44] = 1
    ones = np.ones(shape, np.float16)
    long = dataclasses.replace(
        case, volumes={"ct": ones}, roi=ones, lesion=lesion, regions=ones.astype(np.uint8)
    )

    def with_lesion(share: float, source: PreparedCase) -> float:
        crops = Crops((4, 8, 8), share, 200)
        rng = np.random.default_rng(1)
        batches = list(crop_batches([example_of(source)], crops, 20, rng, CPU))
        assert len(batches) == 10
        return float(np.mean([b.regions[:, 1].amax(dim=(1, 2, 3)).numpy() for b in batches]))

    assert with_lesion(1.0, long) == 1
    assert with_lesion(0.0, long) < 0.1
    assert with_lesion(0.5, long) == pytest.approx(0.5, abs=0.1)
    assert with_lesion(1.0, dataclasses.replace(long, lesion=0 * lesion)) == 0


def test_a_batch_holds_what_the_case_holds_in_one_place():
    case = dataclasses.replace(CASES[1], volumes={"ct": CASES[1].lesion + 2 * CASES[1].roi})
    for batch in crop_batches([example_of(case)], CROPS, 2, np.random.default_rng(2), CPU):
        ct, roi, lesion = batch.volumes["ct"], batch.roi, batch.regions[:, 1:]
        assert ct.shape == roi.shape == (2, 1, 6, 12, 12)
        assert batch.regions.shape == (2, 2, 6, 12, 12)
        assert torch.equal(ct, lesion + 2 * roi)
        assert torch.allclose(batch.weights.sum(dim=(1, 2, 3, 4)), torch.ones(2))
        assert batch.regions.sum(dim=1).max() == 1


# The network.


@pytest.mark.parametrize("size", [(6, 12, 12), (5, 13, 15), (1, 4, 7)])
def test_logits_are_on_the_voxels_of_the_volume(size):
    network = SegmentationNetwork(SPEC.network).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, *size), torch.ones(2, 1, *size)).shape == (2, 3, *size)


def test_upsampling_puts_every_cell_on_its_voxel():
    """Features that are the position of their cell become the position of the voxels."""
    k, j, i = (torch.arange(n, dtype=torch.float32) for n in (3, 4, 5))
    cells = torch.stack(torch.meshgrid(k, 2 * j, 2 * i, indexing="ij"))[None]
    found = segmentation_task._upsampled(cells, (1, 2, 2), (3, 8, 9))
    k, j, i = (torch.arange(n, dtype=torch.float32) for n in (3, 8, 9))
    voxels = torch.stack(torch.meshgrid(k, j.clamp(max=6), i, indexing="ij"))[None]
    assert torch.allclose(found, voxels)


def test_what_lies_outside_the_region_has_no_influence():
    network = SegmentationNetwork(SPEC.network)
    example = example_of(CASES[2])
    noise = np.random.default_rng(0).normal(0, 9, example.ct.shape)
    other = dataclasses.replace(example, ct=np.where(example.roi > 0, example.ct, noise))
    found = segment(network, example, CPU)
    assert np.array_equal(found, segment(network, other, CPU))
    assert not found[example.roi == 0].any()


def test_dice():
    one = np.array([True, True, False, False])
    assert dice(one, one) == 1
    assert dice(one, np.array([False, True, True, False])) == 0.5
    assert dice(~one, one) == 0
    assert np.isnan(dice(one, np.zeros(4, bool)))


# Training.


def test_the_loss_falls(trained):
    losses = [row["segmentation"] for row in trained.history]
    assert losses[-1] < 0.6 * losses[0]


def test_an_easy_phantom_is_segmented_far_above_chance(trained):
    assert trained.organ.value > trained.organ_chance.value + 0.1
    assert trained.lesion.value > trained.lesion_chance.value + 0.3
    for estimate in (trained.organ, trained.lesion):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.n == len(trained.cases) == len(trained.test)
    assert trained.lesion.value == pytest.approx(np.mean([c.lesion for c in trained.cases]))


def test_cases_without_lesion_count_for_the_organ_alone(tmp_path):
    free = [
        dataclasses.replace(case, lesion=0 * case.lesion) if n % 3 == 0 else case
        for n, case in enumerate(CASES)
    ]
    result = pretrained(tmp_path, free)
    with_lesion = [case.lesion for case in result.cases if not np.isnan(case.lesion)]
    assert 0 < len(with_lesion) < len(result.cases)
    assert (result.organ.n, result.lesion.n) == (len(result.cases), len(with_lesion))


def test_no_patient_is_on_two_sides_and_held_out_patients_are_not_trained_on(tmp_path, monkeypatch):
    twice = [
        dataclasses.replace(c, patient=f"patient-{n // 2}", unit=f"patient-{n // 2}")
        for n, c in enumerate(CASES)
    ]
    seen: set[str] = set()
    drawn = segmentation_task.crop_batches

    def watched(*arguments):
        for batch in drawn(*arguments):
            seen.update(shown.patient for shown in batch.shown)
            yield batch

    monkeypatch.setattr(segmentation_pretraining, "crop_batches", watched)
    result = pretrained(tmp_path, twice)
    parts = [set(result.train), set(result.selection), set(result.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(CASES) // 2
    assert seen <= parts[0]
    assert result.organ.n == len(parts[2]) < len(result.cases)


def test_what_is_held_out_does_not_change_the_weights(tmp_path, trained):
    """With one epoch there is nothing to select, and other test and selection voxels are the same
    training."""
    once = dataclasses.replace(SHORT, optimisation=Optimisation(1, 4, 0.01))
    altered = [
        case
        if case.patient in trained.train
        else dataclasses.replace(case, volumes={"ct": -case.volumes["ct"]})
        for case in CASES
    ]
    one = pretrain_encoder(CASES, once, SPEC, 3, tmp_path / "one", CPU)
    other = pretrain_encoder(altered, once, SPEC, 3, tmp_path / "other", CPU)
    assert one.train == trained.train
    assert same_weights(one.encoder, other.encoder)
    assert one.cases != other.cases


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    expected = pretrained(tmp_path / "straight")
    measured = segmentation_pretraining.measure
    left = len(expected.selection) + 1  # the power goes in the selection of the second epoch

    def until_the_power_goes(*arguments):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return measured(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(segmentation_pretraining, "measure", until_the_power_goes)
        with pytest.raises(KeyboardInterrupt):
            pretrained(tmp_path / "resumed")
    assert len(list((tmp_path / "resumed").glob("*/checkpoint.pt"))) == 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(999)  # whatever ran in between
        result = pretrained(tmp_path / "resumed")
    assert result.history == expected.history
    assert same_weights(result.encoder, expected.encoder)
    assert result.cases == expected.cases


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path):
    first = pretrained(tmp_path)
    other = pretrained(tmp_path, seed=4)
    redrawn = dataclasses.replace(CASES[0], lesion=np.roll(CASES[0].lesion, 1, axis=2))
    pretrained(tmp_path, [redrawn, *CASES[1:]])
    assert len(list(tmp_path.glob("*/checkpoint.pt"))) == 3
    assert not same_weights(first.encoder, other.encoder)


# The encoder's file.


def test_the_file_holds_the_encoder_and_what_it_is(trained, tmp_path):
    path = tmp_path / "new" / "encoder.safetensors"
    trained.save_encoder(path)
    assert load_file(path).keys() == trained.encoder.state_dict().keys()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    assert json.loads(metadata["network"]) == {
        "init_filters": 4,
        "blocks_down": [1, 1, 1],
        "strides": [[1, 2, 2], [2, 2, 2]],
    }
    assert json.loads(metadata["input"])["window"] == [-160, 240]
    figures = json.loads(metadata["figures"])
    assert figures == trained.figures()
    assert figures["dice"]["lesion"]["n"] == len(trained.test)
    assert figures["patients"] == {
        name: len(getattr(trained, name)) for name in ("train", "selection", "test")
    }
    assert "patient-" not in json.dumps(metadata)


def test_a_loaded_encoder_gives_identical_features(trained, tmp_path):
    path = tmp_path / "encoder.safetensors"
    trained.save_encoder(path)
    student = random_student(SPEC, 8)
    use_onednn(student)  # the same kernels as in training
    others = {k: v.clone() for k, v in student.state_dict().items() if "encoders.ct." not in k}
    assert load_encoder(student, path, SPEC) == trained.figures()
    example = example_of(CASES[0])
    ct, roi = (
        torch.from_numpy(a.astype(np.float32))[None, None] for a in (example.ct, example.roi)
    )
    with torch.inference_mode():
        expected = trained.encoder(ct, roi)
        assert torch.equal(student.encoders["ct"](ct, roi), expected)
    state = student.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in others.items())


def with_network(**changes) -> ModelSpec:
    return dataclasses.replace(SPEC, network=dataclasses.replace(SPEC.network, **changes))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"init_filters": 6}, "init_filters 4, not 6"),
        ({"blocks_down": (1, 2, 1)}, r"blocks_down \[1, 1, 1\], not \[1, 2, 1\]"),
        ({"strides": ((1, 3, 3), (2, 2, 2))}, r"strides \[\[1, 2, 2\], .* not \[\[1, 3, 3\]"),
    ],
)
def test_an_encoder_of_another_shape_is_an_error(changes, told, trained, tmp_path):
    path = tmp_path / "encoder.safetensors"
    trained.save_encoder(path)
    student = random_student(with_network(**changes), 8)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(OptionError, match=told) as caught:
        load_encoder(student, path)
    assert caught.value.advice
    assert all(torch.equal(before[n], t) for n, t in student.state_dict().items())


def test_an_encoder_for_another_grid_is_an_error(trained, tmp_path):
    path = tmp_path / "encoder.safetensors"
    trained.save_encoder(path)
    grid = dataclasses.replace(SPEC.grid, spacing_mm=(1.0, 1.0, 1.0))
    student = random_student(SPEC, 8)
    with pytest.raises(OptionError, match="spacing_mm"):
        load_encoder(student, path, dataclasses.replace(SPEC, grid=grid))


def test_a_student_without_ct_is_an_error(trained, tmp_path):
    student = random_student(SPEC, 8)
    del student.encoders["ct"]
    with pytest.raises(OptionError, match="no SegResNet encoder of CT"):
        load_encoder(student, tmp_path / "encoder.safetensors")


def test_a_file_that_is_none_is_an_error(trained, tmp_path):
    student = random_student(SPEC, 8)
    with pytest.raises(InputError, match=r"no pretrained encoder .*nowhere") as caught:
        load_encoder(student, tmp_path / "nowhere.safetensors")
    assert caught.value.advice
    text, plain = tmp_path / "text.safetensors", tmp_path / "plain.safetensors"
    text.write_text("no tensors")
    save_file(dict(trained.encoder.state_dict()), plain)
    for path in (text, plain):
        with pytest.raises(InputError, match="cannot be read as a pretrained encoder"):
            load_encoder(student, path)


def test_weights_that_are_not_those_announced_are_an_error(trained, tmp_path):
    path = tmp_path / "encoder.safetensors"
    trained.save_encoder(path)
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path, metadata)
    student = random_student(SPEC, 8)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(InputError, match="not those that its metadata announce"):
        load_encoder(student, path)
    assert all(torch.equal(before[n], t) for n, t in student.state_dict().items())


# What cannot be trained on.


@pytest.mark.parametrize("crops", [Crops((0, 8, 8), 0.5, 1), Crops((4, 8, 8), 1.5, 1)])
def test_crops_that_cannot_be_drawn_are_an_error(crops):
    with pytest.raises(OptionError, match="cannot be drawn"):
        dataclasses.replace(SHORT, crops=crops)


def test_cases_without_any_lesion_are_an_error(tmp_path):
    free = [dataclasses.replace(case, lesion=0 * case.lesion) for case in CASES]
    with pytest.raises(OptionError, match="to train on has a lesion"):
        pretrained(tmp_path, free)


def test_one_patient_is_an_error(tmp_path):
    with pytest.raises(OptionError, match="4 folds of 1 patients"):
        pretrained(tmp_path, CASES[:1])


def test_a_model_without_organ_is_an_error(tmp_path):
    regions = dataclasses.replace(SPEC.regions, organ_role=None)
    with pytest.raises(OptionError, match="no organ"):
        pretrain_encoder(CASES, SHORT, dataclasses.replace(SPEC, regions=regions), 3, tmp_path, CPU)


def test_one_collection_under_two_names_is_an_error(tmp_path):
    names = [f"LiTS17-{n}" if n % 2 else f"MSD03-liver_{n}" for n in range(len(CASES))]
    both = [dataclasses.replace(c, patient=n) for c, n in zip(CASES, names, strict=True)]
    with pytest.raises(OptionError, match="the same patients"):
        pretrained(tmp_path, both)


# Label trees.


def test_a_tree_without_class_labels_is_enough(tmp_path):
    """LiTS17 as downloaded, by its manifest, to an encoder."""
    tree = tmp_path / "tree"
    tree.mkdir()
    labels = label_array()
    for n in range(6):
        noise = np.random.default_rng(n).normal(0, 10, labels.shape)
        ct = np.array([-100, 100, 40])[labels] + noise  # fat, organ, lesion
        write_image(tree / f"volume-{n}.nii", ct.astype(np.int16), OBLIQUE)
        write_image(tree / f"segmentation-{n}.nii", labels, OBLIQUE)
    built = build_manifest("lits17", tree, tree / "lits.csv", {})
    grid = dataclasses.replace(SPEC.grid, spacing_mm=(2.0, 2.0, 2.5))
    spec = dataclasses.replace(SPEC, grid=grid)
    preparation = Preparation(spec, 1)
    cases = []
    for number, case in enumerate(read_manifest(built.path, spec=spec).cases):
        assert case.label is None
        study = read_study(study_files(case), spec.role_rules)
        arrays = prepare_study(study, preparation, number)
        cases.append(
            dataclasses.replace(
                CASES[0],
                patient=case.patient,
                unit=case.unit,
                volumes={"ct": arrays["volume_ct"]},
                **{name: arrays[name] for name in ("roi", "lesion", "near", "regions")},
                region_ids=tuple(arrays["region_ids"]),
            )
        )
    settings = SegmentationSettings(Optimisation(1, 2, 0.01), Crops((4, 8, 8), 0.5, 1), 3, 2)
    result = pretrain_encoder(cases, settings, spec, 1, tmp_path / "work", CPU)
    assert {c.patient for c in result.cases} <= {f"LiTS17-{n}" for n in range(6)}
    assert result.lesion.n == len(result.test) == 2
