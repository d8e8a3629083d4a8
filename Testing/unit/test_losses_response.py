"""Focal loss and distillation of logits, against MONAI, numpy and numbers found by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loss_views import CLASSES, generator, teach, view
from monai.losses import FocalLoss
from torch.nn import functional

from REACTKDLib.errors import OptionError
from training.losses import focal_loss, make_distillation
from training.losses.response import combined_divergence, divergence, teacher_weights

LOGITS = torch.randn((6, CLASSES), generator=generator(1), dtype=torch.float64) * 2
LABELS = torch.tensor([0, 1, 2, 2, 0, 1])
WEIGHTS = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_focal_loss_is_monais(weights, gamma, smoothing):
    oracle = FocalLoss(gamma=gamma, use_softmax=True, weight=weights, reduction="none")
    target = functional.one_hot(LABELS, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    expected = oracle(LOGITS, target).sum(dim=1).mean()
    torch.testing.assert_close(
        focal_loss(LOGITS, LABELS, gamma, weights, smoothing), expected.double(), atol=1e-6, rtol=0
    )


def test_focal_loss_by_hand_and_at_its_ends():
    # Logits ln 3 and 0 are probabilities 3/4 and 1/4: (1/4)^2 ln(4/3) and (3/4)^2 ln 4.
    logits = torch.tensor([[math.log(3.0), 0.0]] * 2)
    expected = (math.log(4 / 3) / 16 + math.log(4) * 9 / 16) / 2
    assert focal_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)
    torch.testing.assert_close(
        focal_loss(LOGITS, LABELS, 0, label_smoothing=0.1),
        functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1),
    )
    certain = torch.tensor([[200.0, 0.0]], requires_grad=True)
    for gamma in (0.0, 0.5, 2.0):
        (gradient,) = torch.autograd.grad(focal_loss(certain, torch.tensor([0]), gamma), certain)
        assert torch.isfinite(gradient).all()


def test_class_weights_count_in_a_batch_of_one():
    one = focal_loss(LOGITS[2:3], LABELS[2:3], class_weights=WEIGHTS)
    torch.testing.assert_close(one, 3 * focal_loss(LOGITS[2:3], LABELS[2:3]))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_divergence_by_hand():
    # At T = 2 the teacher's logits 2 ln 3 and 0 are 3/4 and 1/4; the student knows nothing:
    # 4 * (3/4 ln(3/2) + 1/4 ln(1/2)).
    teacher, student = torch.tensor([[2 * math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert divergence(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


TEACHERS = torch.randn((6, 3, CLASSES), generator=generator(2), dtype=torch.float64) * 2
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()


def expected_weights(weighting: str) -> np.ndarray:
    p = softmax(TEACHERS.numpy())
    raw = {
        "equal": np.ones((6, 3)),
        "fixed": np.tile([1.0, 2.0, 5.0], (6, 1)),
        "confidence": np.exp((p * np.log(p)).sum(-1)),
    }[weighting]
    raw = raw * PRESENT.numpy()
    return raw / np.maximum(raw.sum(1, keepdims=True), 1e-300)


@pytest.mark.parametrize("combination", ["mean_of_probabilities", "mean_of_losses"])
@pytest.mark.parametrize("weighting", ["equal", "fixed", "confidence"])
def test_kd_of_several_teachers_is_numpys(combination, weighting):
    w = expected_weights(weighting)
    own, theirs = softmax(LOGITS.numpy() / 3), softmax(TEACHERS.numpy() / 3)
    if combination == "mean_of_losses":
        each = (w * kl(theirs, own[:, None])).sum(1)
    else:
        mixture = (w[..., None] * theirs).sum(1)
        mixture[3] = own[3]  # no teacher, no divergence
        each = kl(mixture, own)
    settings = {"alpha": 0.5, "temperature": 3.0, "combination": combination}
    settings |= {"weighting": weighting, "fixed_weights": [1, 2, 5]}
    loss = make_distillation("kd", settings, 8, (8, 8, 8), CLASSES)
    student, teachers = passes()
    terms = loss(student, teachers, LABELS)
    assert terms["logits"].item() == pytest.approx(0.5 * 9 * each.sum() / 5, rel=1e-9)


def passes():
    student = view(6, 8, 0)
    teachers = []
    for number in range(3):
        here = PRESENT[:, number]
        logits = torch.where(here[:, None], TEACHERS[:, number], torch.nan)
        teachers.append(teach(replaced(view(6, 8, number + 1), logits), here.tolist()))
    return replaced(student, LOGITS), teachers


def replaced(network, logits):
    return type(network)(**{**vars(network), "logits": logits})


def test_teachers_that_agree_are_as_one_and_disagreement_costs():
    agreed = TEACHERS[:, :1].expand(-1, 3, -1)
    weights = teacher_weights(agreed, torch.ones(6, 3, dtype=torch.bool))
    single = divergence(LOGITS, TEACHERS[:, 0], 2.0)
    for combination in ("mean_of_probabilities", "mean_of_losses"):
        torch.testing.assert_close(
            combined_divergence(LOGITS, agreed, weights, 2.0, combination), single
        )
    mixed = combined_divergence(LOGITS, TEACHERS, weights, 2.0)
    assert (combined_divergence(LOGITS, TEACHERS, weights, 2.0, "mean_of_losses") > mixed).all()


@pytest.mark.parametrize("sharpness", [1.0, 0.25])
def test_awmtkd_weighs_each_sample_by_the_teachers_cross_entropy(sharpness):
    right = np.take_along_axis(softmax(TEACHERS.numpy()), LABELS.numpy()[:, None, None], 2)[..., 0]
    w = right ** (1 / sharpness) * PRESENT.numpy()
    w /= np.maximum(w.sum(1, keepdims=True), 1e-300)
    each = kl(softmax(TEACHERS.numpy() / 2), softmax(LOGITS.numpy() / 2)[:, None])
    loss = make_distillation("awmtkd", {"sharpness": sharpness}, 8, (8, 8, 8), CLASSES)
    found = loss(*passes(), LABELS)["logits"].item()
    assert found == pytest.approx(0.7 * 4 * (w * each).sum() / 5, rel=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        {"combination": "median"},
        {"weighting": "best"},
        {"weighting": "fixed"},
        {"weighting": "fixed", "fixed_weights": [1, 0]},
        {"temperature": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    for name in ("kd", "react_kd"):
        with pytest.raises(OptionError):
            make_distillation(name, settings, 8, (8, 8), CLASSES)
