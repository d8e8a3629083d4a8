"""Every model that ships gives an answer with exact shares on a phantom, and says what it is."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import CT_GRID, PET_GRID, Phantom

from REACTKDLib.model_package import load_package, shipped_packages
from REACTKDLib.pipeline import run_case

PACKAGES = {path.name: path for path in shipped_packages()}


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("pet", [None, PET_GRID], ids=["ct", "ct and pet"])
def test_it_answers_and_its_shares_add_up(name, pet):
    package = load_package(PACKAGES[name])
    case = run_case(Phantom().study(CT_GRID, pet=pet), package)
    assert sum(case.probabilities.values()) == pytest.approx(1)
    assert set(case.probabilities) == set(package.class_names)
    total = sum(share.share for share in case.shares) + case.outside_share
    assert total == pytest.approx(case.contrast - case.reference_contrast, abs=1e-4)
    assert np.isfinite(case.attention.array).all()
    assert case.simulated_model == package.simulated


@pytest.mark.parametrize("name", PACKAGES)
def test_its_card_says_what_it_learnt_from_and_gives_n_with_every_figure(name):
    package = load_package(PACKAGES[name])
    assert "Research use only" in package.intended_use
    assert ("SIMULATED" in package.card) == package.simulated
    assert "| n |" in package.card
    size = sum(f.stat().st_size for f in PACKAGES[name].rglob("*") if f.is_file())
    assert size < 15e6
