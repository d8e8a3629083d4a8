"""Shapley values of modalities and Owen values inside them, against enumeration of all orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from prognosis_networks import FAITHFUL, SPEC, patients

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.explain import (
    Game,
    Part,
    explain_contributions,
    owen_values,
)
from REACTKDLib.prognosis.network_game import network_game, parts_of
from REACTKDLib.prognosis.networks.build import build_network, log_odds


def random_game(parts: int, seed: int = 0) -> Game:
    """A value of its own for every coalition: nothing additive about it."""
    values = np.random.default_rng(seed).normal(size=2**parts)

    def game(masks: np.ndarray) -> np.ndarray:
        return values[masks @ (1 << np.arange(parts))]

    return game


def by_orders(game: Game, groups: Sequence[int]) -> np.ndarray:
    """Owen's definition: the mean gain over all orders in which groups stay together."""
    members = [[n for n, g in enumerate(groups) if g == group] for group in range(max(groups) + 1)]
    total, count = np.zeros(len(groups)), 0
    for order in permutations(range(len(members))):
        for inner in product(*(permutations(members[group]) for group in order)):
            mask = np.zeros((len(groups) + 1, len(groups)), dtype=bool)
            sequence = [part for group in inner for part in group]
            for step, part in enumerate(sequence, start=1):
                mask[step:, part] = True
            total[sequence] += np.diff(game(mask))
            count += 1
    return total / count


def shapley_by_orders(game: Game, players: int) -> np.ndarray:
    return by_orders(game, range(players))


@pytest.mark.parametrize(
    "groups", [[0, 1, 1, 1, 2, 2], [0, 0, 0, 0], [1, 0, 2, 1, 0], [0], [1, 0, 0]]
)
def test_exact_values_are_those_of_the_definition(groups):
    game = random_game(len(groups))
    found = owen_values(game, groups)
    np.testing.assert_allclose(found.parts, by_orders(game, groups), atol=1e-12)
    assert not found.errors.any()
    # Groups: Shapley values of the game in which each group is one player.
    of, count = np.asarray(groups), max(groups) + 1
    quotient = shapley_by_orders(lambda masks: game(masks[:, of]), count)
    np.testing.assert_allclose(found.groups, quotient, atol=1e-12)
    for group in range(count):
        assert found.parts[of == group].sum() == pytest.approx(found.groups[group])
    assert found.base + found.groups.sum() == pytest.approx(found.total)
    ends = game(np.array([[False] * len(groups), [True] * len(groups)]))
    assert [found.base, found.total] == pytest.approx(ends)


def test_one_part_per_group_is_the_shapley_value():
    game = random_game(4)
    found = owen_values(game, range(4))
    np.testing.assert_allclose(found.parts, shapley_by_orders(game, 4), atol=1e-12)
    np.testing.assert_allclose(found.parts, found.groups)


def test_known_games():
    """Additive: each what it adds. Unanimity of a group: even. A dummy: nothing."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    additive = owen_values(lambda masks: masks @ weights, [0, 1, 1, 2])
    np.testing.assert_allclose(additive.parts, weights)
    together = owen_values(lambda masks: masks[:, :3].all(axis=1) * 6.0, [0, 1, 1, 2])
    np.testing.assert_allclose(together.groups, [3, 3, 0])
    np.testing.assert_allclose(together.parts, [3, 1.5, 1.5, 0])


@pytest.mark.parametrize("pairs", [1, 7])
def test_sampled_values_sum_exactly(pairs):
    groups = [0] + [1] * 6 + [2] * 5
    game = random_game(len(groups))
    found = owen_values(game, groups, pairs=pairs, exact_up_to=2, seed=3)
    of = np.asarray(groups)
    for group in range(3):
        assert found.parts[of == group].sum() == pytest.approx(found.groups[group], abs=1e-12)
    exact = owen_values(game, groups)
    np.testing.assert_allclose(found.groups, exact.groups, atol=1e-12)
    again = owen_values(game, groups, pairs=pairs, exact_up_to=2, seed=3)
    assert np.array_equal(found.parts, again.parts)
    if pairs > 1:
        other = owen_values(game, groups, pairs=pairs, exact_up_to=2, seed=4)
        assert not np.array_equal(found.parts, other.parts)
        assert found.errors[0] == 0 and (found.errors[1:] > 0).all()


def test_sampled_values_come_near_and_know_their_error():
    groups = [0] + [1] * 5 + [2] * 4
    game = random_game(len(groups), seed=2)
    exact = owen_values(game, groups).parts
    found = owen_values(game, groups, pairs=400, exact_up_to=1, seed=0)
    z = (found.parts - exact)[1:] / found.errors[1:]
    assert np.abs(z).max() < 4
    assert found.errors[1:].max() < 0.15
    rough = owen_values(game, groups, pairs=4, exact_up_to=1, seed=0)
    assert rough.errors[1:].mean() > 3 * found.errors[1:].mean()


def test_orders_are_drawn_until_the_errors_are_within_the_tolerance():
    groups, game = [0] + [1] * 6 + [2] * 6, random_game(13)
    of = np.asarray(groups)

    def values(pairs: int, tolerance: float = 0.0):
        found = owen_values(game, groups, pairs, exact_up_to=2, tolerance=tolerance)
        for group in range(3):
            assert found.parts[of == group].sum() == pytest.approx(found.groups[group], abs=1e-12)
        return found

    eight, at_once = values(8), values(1000, tolerance=1e3)
    assert np.array_equal(at_once.parts, eight.parts)
    aim = eight.errors.max() / 3
    near = values(1000, tolerance=aim)
    assert near.errors.max() <= aim and near.evaluations > eight.evaluations
    exact = owen_values(game, groups).parts
    assert np.abs(near.parts - exact).max() < 4 * aim
    limited = values(20, tolerance=aim / 100)
    assert limited.errors.max() > aim / 100
    assert np.array_equal(limited.parts, values(20).parts)


def test_a_group_that_is_known_well_enough_costs_no_more():
    """Group 0 is additive, so its first orders are exact; group 1 is not."""
    weights, noisy = np.array([1.0, -2.0, 0.5, 3.0]), random_game(8)
    asked = []

    def game(masks: np.ndarray) -> np.ndarray:
        asked.append(masks)
        return masks[:, :4] @ weights + noisy(masks[:, 4:])

    found = owen_values(game, [0] * 4 + [1] * 8, pairs=16, exact_up_to=2, tolerance=1e-6)
    np.testing.assert_allclose(found.parts[:4], weights, atol=1e-12)
    assert found.errors[4:].min() > 1e-6
    later = np.concatenate(asked[2:])
    assert len(later) and set(later[:, :4].sum(axis=1).tolist()) <= {0, 4}
    masks = np.concatenate(asked)
    assert len(masks) == len({row.tobytes() for row in masks}) == found.evaluations


def test_forwards_and_backwards_is_exact_for_pairwise_games():
    """Where parts interact in pairs at most, an order and its reverse give the exact value."""
    matrix = np.random.default_rng(0).normal(size=(9, 9))
    groups = [0, 0, 0, 0, 1, 1, 1, 1, 1]

    def game(masks: np.ndarray) -> np.ndarray:
        return np.einsum("np,pq,nq->n", masks, matrix, masks)

    exact = owen_values(game, groups)
    one = owen_values(game, groups, pairs=1, exact_up_to=1)
    np.testing.assert_allclose(one.parts, exact.parts, atol=1e-12)
    assert one.evaluations < exact.evaluations


def test_every_coalition_is_evaluated_once_and_all_at_once():
    calls = []

    def game(masks: np.ndarray) -> np.ndarray:
        calls.append(masks)
        return masks.sum(axis=1).astype(float)

    found = owen_values(game, [0, 1, 1, 2, 2, 2])
    (masks,) = calls
    assert len({row.tobytes() for row in masks}) == len(masks) == found.evaluations


@pytest.mark.parametrize("groups,pairs", [([0, 2], 1), ([1], 1), ([0, 1], 0)])
def test_unnumbered_groups_are_refused(groups, pairs):
    with pytest.raises(InputError, match="Owen values"):
        owen_values(random_game(2), groups, pairs=pairs)


def test_nothing_to_explain():
    found = explain_contributions(lambda masks: np.full(len(masks), -0.7), [])
    assert (found.base_logit, found.logit, found.modalities, found.parts) == (-0.7, -0.7, (), ())


def one_patient():
    batch = patients(1)
    clinical, radiomics = batch.clinical.clone(), batch.radiomics.clone()
    clinical[0, 1] = torch.nan
    radiomics[0, 4:7] = torch.nan
    radiomics[0, 0] = torch.nan
    return replace(batch, clinical=clinical, radiomics=radiomics)


def test_parts_are_what_the_patient_has():
    network, batch = build_network(SPEC, 0).eval(), one_patient()
    found = [(part.modality, part.name) for part in parts_of(network, batch)]
    assert found == [
        ("ct", "ct"),
        ("clinical", "age"),
        ("clinical", "hbv"),
        ("clinical", "stage"),
        ("clinical", "text"),
        ("radiomics", "original_glcm"),
        ("radiomics", "shape"),
    ]
    batch.present[0, 1] = False
    assert "age" not in [part.name for part in parts_of(network, batch)]


@pytest.mark.parametrize("spec", [SPEC, FAITHFUL], ids=["corrected", "faithful"])
def test_the_networks_contributions_add_up(spec):
    network, batch = build_network(spec, 0).eval(), one_patient()
    parts = tuple(replace(part, title=part.name.title()) for part in parts_of(network, batch))
    game = network_game(network, batch, parts, outcome=1, rows=7)
    found = explain_contributions(game, parts, {"ct": "CT"})
    with torch.inference_mode():
        expected = float(log_odds(network(batch).logits, 1, spec.form)[0])
        nothing = replace(batch, present=torch.zeros(1, 3, dtype=torch.bool))
        base = float(log_odds(network(nothing).logits, 1, spec.form)[0])
    assert found.logit == pytest.approx(expected, abs=1e-5)
    assert found.base_logit == pytest.approx(base, abs=1e-5)
    added = [c.logit for c in found.modalities]
    assert found.base_logit + sum(added) == pytest.approx(found.logit, abs=1e-9)
    assert [c.title for c in found.modalities] == ["CT", "clinical", "radiomics"]
    for modality in found.modalities[1:]:
        inner = [c.logit for c in found.parts if c.modality == modality.name]
        assert sum(inner) == pytest.approx(modality.logit, abs=1e-9)
    assert [c.title for c in found.parts[:2]] == ["Age", "Hbv"]
    assert min(abs(c.logit) for c in found.modalities) > 1e-4
    # A modality's value by its definition: every set of the others, from the network itself.
    of = {part.modality for part in parts}
    assert of == {"ct", "clinical", "radiomics"}

    def shown(*modalities: bool) -> float:
        present = replace(batch, present=torch.tensor([modalities]))
        with torch.inference_mode():
            return float(log_odds(network(present).logits, 1, spec.form)[0])

    value = (
        (shown(True, False, False) - shown(False, False, False)) / 3
        + (shown(True, True, False) - shown(False, True, False)) / 6
        + (shown(True, False, True) - shown(False, False, True)) / 6
        + (shown(True, True, True) - shown(False, True, True)) / 3
    )
    assert found.modalities[0].logit == pytest.approx(value, abs=1e-5)


def test_a_calibrated_answer_is_divided_as_it_is():
    network, batch = build_network(SPEC, 0).eval(), one_patient()
    parts = parts_of(network, batch)
    plain = network_game(network, batch, parts, 1)
    cooler = network_game(network, batch, parts, 1, lambda logits: log_odds(logits / 2, 1) - 1)
    one, other = (explain_contributions(game, parts) for game in (plain, cooler))
    halves = [c.logit / 2 for c in one.parts]
    assert [c.logit for c in other.parts] == pytest.approx(halves, abs=1e-9)
    assert other.base_logit == pytest.approx(one.base_logit / 2 - 1)


def test_only_one_patient_and_no_training():
    network, parts = build_network(SPEC, 0), (Part("ct", "CT", "ct"),)
    with pytest.raises(ValueError, match="evaluation mode"):
        network_game(network, patients(1), parts, 1)
    with pytest.raises(ValueError, match="one patient"):
        network_game(network.eval(), patients(2), parts, 1)
