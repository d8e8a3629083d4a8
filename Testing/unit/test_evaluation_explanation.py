"""Explanation scores on maps, networks and truths made to have known answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from REACTKDLib.errors import InputError, OptionError
from training.evaluation.bootstrap import case_interval
from training.evaluation.localisation import attention_mass, chance_mass, pointing_game
from training.evaluation.perturbation import (
    nearby_value,
    perturbation_curve,
    region_steps,
    voxel_steps,
)
from training.evaluation.randomisation import cascade, map_likeness, randomise

SHAPE = (6, 10, 14)  # (k, j, i)
SPACING = (5.0, 2.0, 1.0)  # mm


def block(k: slice, j: slice, i: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[k, j, i] = True
    return mask


REGION = block(slice(1, 3), slice(2, 5), slice(6, 10))  # 24 voxels
ORGAN = block(slice(0, 4), slice(1, 9), slice(2, 12))  # 320 voxels around it


# Localisation.


def test_mass_in_the_region():
    attention = np.zeros(SHAPE)
    attention[REGION] = 3.0
    assert attention_mass(attention, REGION) == 1.0
    attention[5, 9, 13] = 24.0  # a quarter of all, outside the organ
    attention[0, 1, 2] = -48.0
    assert attention_mass(attention, REGION) == pytest.approx(0.75)
    assert attention_mass(attention, REGION, "absolute") == pytest.approx(0.5)
    assert attention_mass(attention, REGION, domain=ORGAN) == 1.0
    assert attention_mass(attention, REGION, "absolute", ORGAN) == pytest.approx(0.6)
    assert attention_mass(-np.abs(attention), REGION) == 0.0


def test_a_constant_map_gets_its_chance():
    assert chance_mass(REGION) == pytest.approx(24 / 840)
    assert chance_mass(REGION, ORGAN) == pytest.approx(24 / 320)
    assert pointing_game(np.ones(SHAPE), REGION, SPACING, domain=ORGAN) == pytest.approx(24 / 320)


@pytest.mark.parametrize(
    ("voxel", "distance"),
    [
        ((1, 2, 6), 0.0),
        ((3, 2, 6), 5.0),
        ((1, 6, 6), 4.0),
        ((1, 2, 11), 2.0),
        ((4, 1, 11), np.sqrt(10**2 + 2**2 + 2**2)),
    ],
)
def test_the_pointing_game_measures_in_millimetres(voxel, distance):
    attention = np.zeros(SHAPE)
    attention[voxel] = 1.0
    assert pointing_game(attention, REGION, SPACING, distance) == 1.0
    if distance > 0:
        assert pointing_game(attention, REGION, SPACING, distance - 0.01) == 0.0
        assert pointing_game(attention, REGION, SPACING) == 0.0


def test_equal_maxima_share_the_point():
    attention = np.zeros(SHAPE)
    attention[1, 2, 6] = attention[5, 9, 13] = attention[1, 6, 6] = 2.0
    assert pointing_game(attention, REGION, SPACING) == pytest.approx(1 / 3)
    assert pointing_game(attention, REGION, SPACING, 4.0) == pytest.approx(2 / 3)


def test_localisation_refuses_what_has_no_answer():
    good = np.ones(SHAPE)
    with pytest.raises(InputError, match="No voxel"):
        attention_mass(good, np.zeros(SHAPE))
    with pytest.raises(InputError, match="one grid"):
        attention_mass(good[:-1], REGION)
    with pytest.raises(InputError, match="finite"):
        attention_mass(np.full(SHAPE, np.nan), REGION)
    with pytest.raises(OptionError, match="negative"):
        attention_mass(good, REGION, "negative")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="Spacing"):
        pointing_game(good, REGION, (1, 0, 1))


def test_scores_over_cases_have_an_interval():
    rng = np.random.default_rng(0)
    masses = [attention_mass(rng.random(SHAPE), REGION) for _ in range(40)]
    found = case_interval(np.array(masses), seed=0)
    assert found.n == 40 and found.low < chance_mass(REGION) < found.high


# Deletion and insertion.


class _Linear:
    """Says class 1 with the mean over the region of the PET, between 0 and 1."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, np.ndarray]] = []

    def __call__(self, volumes: Mapping[str, np.ndarray]) -> np.ndarray:
        self.seen.append(volumes)
        risk = float(volumes["pet"][REGION].mean())
        return np.array([1 - risk, risk])


def volumes() -> dict[str, np.ndarray]:
    ct = np.random.default_rng(1).normal(60, 10, SHAPE).astype(np.float32)
    return {"ct": ct, "pet": REGION.astype(np.float16)}


FILL = {"ct": 55.0, "pet": 0.0}


def test_a_true_map_deletes_early_and_inserts_early():
    truth, given = REGION.astype(float), volumes()
    before = {name: v.copy() for name, v in given.items()}
    predict = _Linear()
    steps = voxel_steps(truth, 35)  # 24 voxels each: the first is the region
    deleted = perturbation_curve(predict, given, FILL, steps, 1)
    assert deleted.probability == pytest.approx([1.0] + [0.0] * 35)
    assert deleted.auc == pytest.approx(0.5 / 35)
    inserted = perturbation_curve(predict, given, FILL, steps, 1, "insertion")
    assert inserted.probability == pytest.approx([0.0] + [1.0] * 35)
    assert inserted.auc == pytest.approx(1 - 0.5 / 35)
    wrong = voxel_steps(-truth, 35)
    assert perturbation_curve(predict, given, FILL, wrong, 1).auc > 0.98
    assert all(np.array_equal(given[n], before[n]) for n in given)


def test_deletion_fills_every_modality_and_nothing_else():
    given, predict = volumes(), _Linear()
    steps = voxel_steps(REGION.astype(float), 35)
    perturbation_curve(predict, given, FILL, steps, 1)
    one = predict.seen[1]
    assert (one["ct"][REGION] == 55.0).all()
    assert np.array_equal(one["ct"][~REGION], given["ct"][~REGION])
    assert {n: v.dtype for n, v in one.items()} == {n: v.dtype for n, v in given.items()}
    assert (predict.seen[-1]["ct"] == 55.0).all()


def test_a_random_order_lies_between():
    rng, predict = np.random.default_rng(0), _Linear()
    steps = [voxel_steps(rng.random(SHAPE), 20) for _ in range(20)]
    areas = [perturbation_curve(predict, volumes(), FILL, s, 1).auc for s in steps]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)


def test_voxel_steps_divide_the_domain():
    steps = voxel_steps(np.random.default_rng(0).random(SHAPE), 7, ORGAN)
    assert np.array_equal(np.sum(steps, axis=0), ORGAN.astype(int))
    assert {int(s.sum()) for s in steps} == {45, 46}
    with pytest.raises(OptionError, match="320 voxels"):
        voxel_steps(np.ones(SHAPE), 321, ORGAN)


def test_regions_go_by_their_share():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[ORGAN], labels[REGION] = 1, 2
    steps = region_steps(labels, {1: -0.2, 2: 0.9})
    assert np.array_equal(steps[0], REGION) and np.array_equal(steps[1], ORGAN & ~REGION)
    predict = _Linear()
    curve = perturbation_curve(predict, volumes(), FILL, steps, 1)
    assert curve.auc == pytest.approx(0.25)  # 1, 0, 0 at 0, 1/2, 1
    assert np.array_equal(predict.seen[-1]["ct"][labels == 0], volumes()["ct"][labels == 0])
    with pytest.raises(InputError, match=r"\[7\]"):
        region_steps(labels, {1: 0.1, 7: 0.2})


def test_the_fill_is_the_parenchyma_around():
    volume = np.full(SHAPE, -100.0)
    volume[ORGAN] = 50.0
    near = block(slice(1, 3), slice(2, 5), slice(5, 11))
    volume[near] = 80.0
    volume[REGION] = 20.0
    assert nearby_value(volume, REGION, ORGAN, SPACING, reach_mm=1.0) == 80.0
    assert nearby_value(volume, REGION, ORGAN, SPACING, reach_mm=30.0) == 50.0
    with pytest.raises(InputError, match=r"within 0\.5 mm"):
        nearby_value(volume, REGION, ORGAN, SPACING, reach_mm=0.5)
    with pytest.raises(InputError, match="0 voxels"):
        nearby_value(volume, np.zeros(SHAPE), ORGAN, SPACING)


def test_perturbation_refuses_what_does_not_fit():
    steps = voxel_steps(np.ones(SHAPE), 2)
    with pytest.raises(InputError, match="pet"):
        perturbation_curve(_Linear(), volumes(), {"ct": 0.0}, steps, 1)
    with pytest.raises(OptionError, match="0 steps"):
        perturbation_curve(_Linear(), volumes(), FILL, [], 1)
    with pytest.raises(OptionError, match="erase"):
        perturbation_curve(_Linear(), volumes(), FILL, steps, 1, "erase")  # type: ignore[arg-type]


# Parameter randomisation.


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv3d(1, 6, 3, padding=1)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 6))
        self.head = nn.Linear(6, 2)

    def cam(self, volume: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.encoder(volume))[0] * self.gain[:, None, None, None]
        return torch.einsum("c,ckji->kji", self.head.weight[1] - self.head.weight[0], features)


@pytest.fixture
def network() -> _Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Small()


IMAGE = gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 1.0)


def cam(network: nn.Module) -> np.ndarray:
    assert isinstance(network, _Small)
    with torch.inference_mode():
        return network.cam(torch.tensor(IMAGE, dtype=torch.float32)[None, None]).numpy()


def test_a_map_of_the_network_loses_its_likeness_and_one_of_the_image_keeps_it(network):
    before = {n: p.clone() for n, p in network.state_dict().items()}
    state = torch.random.get_rng_state()
    steps = cascade(network, ["head", "encoder"], cam, seed=0)
    assert [s.block for s in steps] == ["head", "encoder"]
    assert all(torch.equal(p, before[n]) for n, p in network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert abs(steps[-1].rank_correlation) < 0.7 and steps[-1].structural_similarity < 0.7
    blind = cascade(network, ["head", "encoder"], lambda _: IMAGE, seed=0)
    assert all(s.rank_correlation == pytest.approx(1) for s in blind)
    assert all(s.structural_similarity == pytest.approx(1) for s in blind)
    assert steps == cascade(network, ["head", "encoder"], cam, seed=0)


def test_randomising_reaches_all_parameters(network):
    before = {n: p.clone() for n, p in network.state_dict().items()}
    randomise(network, seed=3)
    after = network.state_dict()
    assert not any(torch.allclose(after[n], before[n]) for n in before)
    # As torch initialises: uniform within 1 / sqrt(fan in).
    assert after["head.weight"].abs().max() <= 6**-0.5
    first = {n: p.clone() for n, p in after.items()}
    randomise(network, seed=3)
    parameters = ("head.weight", "head.bias", "encoder.weight", "encoder.bias")
    assert all(torch.equal(network.state_dict()[n], first[n]) for n in parameters)


def test_likeness_is_scipys_and_knows_sign():
    rng = np.random.default_rng(0)
    a, b = IMAGE, IMAGE + rng.normal(0, 0.1, SHAPE)
    rank, absolute, ssim = map_likeness(a, b, ORGAN)
    assert rank == pytest.approx(spearmanr(a[ORGAN], b[ORGAN]).statistic)
    assert absolute == pytest.approx(spearmanr(np.abs(a[ORGAN]), np.abs(b[ORGAN])).statistic)
    assert 0.3 < ssim < 1
    assert map_likeness(a, a) == pytest.approx((1, 1, 1))
    flipped = map_likeness(a, -a)
    assert flipped[:2] == pytest.approx((-1, 1)) and flipped[2] < 0
    assert map_likeness(a, np.zeros(SHAPE))[:2] == (0.0, 0.0)
    assert map_likeness(5 * a, a)[2] == pytest.approx(1)


def test_likeness_and_cascade_refuse_what_does_not_fit(network):
    with pytest.raises(InputError, match="SSIM needs"):
        map_likeness(IMAGE[:2], IMAGE[:2])
    with pytest.raises(InputError, match="one grid"):
        map_likeness(IMAGE, IMAGE[:2])
    with pytest.raises(OptionError, match="neck"):
        cascade(network, ["head", "neck"], cam, 0)
