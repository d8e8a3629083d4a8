"""Balanced batches, and what is left out at random."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from prognosis_networks import SPEC, patients

from REACTKDLib.errors import InputError
from training.prognosis.dropout import DropoutSpec, drop_modalities, thin_out
from training.prognosis.sampling import balanced_batches

LABELS = np.array([0] * 11 + [1] * 4)


@pytest.mark.parametrize("size", [2, 4, 5, 8])
def test_batches_are_balanced_and_complete(size):
    batches = list(balanced_batches(LABELS, size, seed=1))
    assert len(batches) == -(-22 // size)
    for batch in batches:
        counts = Counter(LABELS[batch].tolist())
        assert len(batch) == size and abs(counts[0] - counts[1]) <= 1
    drawn = Counter(index for batch in batches for index in batch)
    assert set(drawn) == set(range(15))
    rare = [drawn[index] for index in range(11, 15)]
    assert max(rare) - min(rare) <= 1
    assert abs(sum(rare) - sum(drawn[index] for index in range(11))) <= 1


def test_batches_depend_on_seed_and_epoch_alone():
    def of(seed, epoch):
        return list(balanced_batches(LABELS, 4, seed, epoch))

    assert of(1, 0) == of(1, 0)
    assert of(1, 0) != of(1, 1) != of(2, 0)


def test_batches_too_small_for_the_classes_are_refused():
    with pytest.raises(InputError, match="Batches of 1 cannot hold 2 classes"):
        next(balanced_batches(LABELS, 1, 0))
    with pytest.raises(InputError, match="hold 0 classes"):
        next(balanced_batches([], 4, 0))


def test_modalities_are_left_out_at_the_rate_asked_for():
    presence = torch.ones(20000, 3, dtype=torch.bool)
    presence[::4, 2] = False
    presence[1::4, :2] = False
    presence[3] = False
    kept = drop_modalities(presence, 0.3, torch.Generator().manual_seed(2))
    assert not (kept & ~presence).any()
    there = presence.any(dim=1)
    assert torch.equal(kept.any(dim=1), there)
    assert kept[1::4, 2].all()  # the only one stays
    # Two or three modalities: each stays unless it goes and is not the survivor of all going.
    full = kept[2::4].double().mean(dim=0)
    assert full.tolist() == pytest.approx([0.7 + 0.3**3 / 3] * 3, abs=0.02)
    pair = kept[::4, :2].double().mean(dim=0)
    assert pair.tolist() == pytest.approx([0.7 + 0.3**2 / 2] * 2, abs=0.02)
    assert torch.equal(drop_modalities(presence, 0.0), presence)
    assert (drop_modalities(presence, 1.0).sum(dim=1)[there] == 1).all()
    with pytest.raises(InputError, match=r"1\.5 is no probability"):
        drop_modalities(presence, 1.5)


def test_a_batch_is_thinned_out():
    batch = patients(40)
    clinical, radiomics = batch.clinical.clone(), batch.radiomics.clone()
    clinical[:, 1], radiomics[0], radiomics[1, 1] = torch.nan, torch.nan, torch.nan
    batch = replace(batch, clinical=clinical, radiomics=radiomics)
    spec = DropoutSpec(0.4, 0.5, 0.5, nothing=0.1, scarce=0.0)
    generator = torch.Generator().manual_seed(0)
    thinned = thin_out(batch, SPEC, spec, generator)
    again = thin_out(batch, SPEC, spec, torch.Generator().manual_seed(0))
    assert torch.equal(thinned.present, again.present)
    assert torch.equal(thinned.clinical.isnan(), again.clinical.isnan())
    assert torch.equal(batch.clinical.isnan(), clinical.isnan())  # the given one is as it was
    known = thinned.clinical.isfinite()
    assert torch.equal(thinned.clinical[known], clinical[known])
    assert known.any(dim=1).all() and not known[:, 1].any()
    assert 0.4 < known[:, [0, 2, 3]].double().mean() < 0.75
    # Families go as a whole; what was missing stays missing.
    parts = [part.isfinite() for part in thinned.radiomics.split([4, 3, 5], dim=1)]
    assert not parts[0][0].any() and not parts[0][1, 1]
    for part in parts:
        assert (part[2:].all(dim=1) | ~part[2:].any(dim=1)).all()
    share = torch.stack([part[2:, 0] for part in parts]).double().mean()
    assert 0.4 < share < 0.75
    assert not thinned.present[0, 2] and not thinned.present.all()
    assert (~thinned.present.any(dim=1)).sum() in range(1, 12)
    whole = thin_out(batch, SPEC, DropoutSpec(0.0, 0.0, 0.0, 0.0, 0.0))
    assert torch.equal(whole.clinical.isnan(), clinical.isnan())
    assert whole.present.sum() == 3 * 40 - 1  # who has no radiomics at all


def test_some_patients_keep_little():
    batch = patients(600)
    spec = DropoutSpec(variable=0.0, family=0.0, scarce=0.5)
    thinned = thin_out(batch, SPEC, spec, torch.Generator().manual_seed(1))
    counts = torch.bincount(thinned.clinical.isfinite().sum(dim=1), minlength=5) / 600
    # Half keep all four. Of the others, at a uniform rate, a fifth each would keep 0..4; one stays.
    assert counts.tolist() == pytest.approx([0, 0.2, 0.1, 0.1, 0.6], abs=0.05)
    families = thinned.radiomics[:, [0, 4, 7]].isfinite().sum(dim=1)
    counts = torch.bincount(families, minlength=4) / 600
    assert counts.tolist() == pytest.approx([0, 0.25, 0.125, 0.625], abs=0.05)


def test_a_modality_that_is_not_given_is_not_present():
    batch = replace(patients(4), ct=None, roi=None, text=None, text_mask=None, present=None)
    thinned = thin_out(batch, SPEC, DropoutSpec(0.0, 0.0, 0.0, 0.0, 0.0))
    assert thinned.present.tolist() == [[False, True, True]] * 4
