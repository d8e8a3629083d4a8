"""What every distillation loss keeps to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_views import CLASSES, teach, view

from REACTKDLib.errors import InputError, OptionError
from training.losses import DISTILLATIONS, RegionGraphs, TeacherView, make_distillation

NAMES = sorted(DISTILLATIONS)
TAUGHT = [name for name in NAMES if name != "none"]
LABELS = torch.tensor([0, 1, 2, 1])
WIDTHS = (8, 5)


def loss_of(name: str, **settings):
    torch.manual_seed(4)
    return make_distillation(name, settings, 8, WIDTHS, CLASSES)


def teachers(n: int = 4, requires_grad: bool = False) -> list[TeacherView]:
    passes = (view(n, c, 10 + c, requires_grad=requires_grad) for c in WIDTHS)
    return [teach(network) for network in passes]


def spoiled(teacher: TeacherView, present: list[bool]) -> TeacherView:
    """Not a number wherever the teacher has no answer."""
    here = torch.tensor(present)

    def cut(x: torch.Tensor) -> torch.Tensor:
        return torch.where(here.reshape(-1, *[1] * (x.ndim - 1)), x, torch.nan)

    graphs = RegionGraphs(cut(teacher.graphs.features), teacher.graphs.mask)
    parts = {k: cut(getattr(teacher, k)) for k in ("logits", "features", "pooled", "weights")}
    return TeacherView(**parts, graphs=graphs, present=here)


def test_the_names_are_those_of_the_comparison():
    assert set(NAMES) == {"none", "kd", "at", "cirkd", "mskd", "mtcm_kd", "awmtkd", "react_kd"}
    assert loss_of("none")(view(4, 8, 0), teachers(), LABELS) == {}
    assert make_distillation("none", {}, 8, (), CLASSES)(view(4, 8, 0), [], LABELS) == {}


@pytest.mark.parametrize("name", TAUGHT)
def test_the_student_learns_and_no_teacher_does(name):
    loss = loss_of(name)
    student, taught = view(4, 8, 0, requires_grad=True), teachers(requires_grad=True)
    for _ in range(2):  # the second time memory banks are filled
        terms = loss(student, taught, LABELS)
    assert all(term.ndim == 0 and term > 0 for term in terms.values())
    sum(terms.values()).backward()
    gradients = [x.grad for x in (student.logits, student.features) if x.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    for teacher in taught:
        assert teacher.logits.grad is None
        assert teacher.features.grad is None


@pytest.mark.parametrize("name", TAUGHT)
def test_what_an_absent_teacher_holds_has_no_influence(name):
    presence = [[True, False, True, False], [False, False, True, True]]
    results = []
    for make in (lambda t, p: replace(t, present=torch.tensor(p)), spoiled):
        loss, student = loss_of(name), view(4, 8, 0, requires_grad=True)
        given = [make(t, p) for t, p in zip(teachers(), presence, strict=True)]
        for _ in range(2):
            terms = loss(student, given, LABELS)
        parameters = [student.features, student.logits, *loss.parameters()]
        gradients = torch.autograd.grad(sum(terms.values()), parameters, allow_unused=True)
        results.append((terms, [g for g in gradients if g is not None]))
    torch.testing.assert_close(results[0], results[1])
    assert all(torch.isfinite(g).all() for g in results[1][1])


@pytest.mark.parametrize("name", TAUGHT)
def test_without_any_teacher_every_term_is_there_and_zero(name):
    student = view(4, 8, 0, requires_grad=True)
    nobody = [spoiled(t, [False] * 4) for t in teachers()]
    terms = loss_of(name)(student, nobody, LABELS)
    assert set(terms) == set(loss_of(name)(student, teachers(), LABELS))
    assert all(term == 0 for term in terms.values())
    (student.logits.sum() + sum(terms.values())).backward()
    assert student.logits.grad.unique().tolist() == [1]
    assert student.features.grad is None or student.features.grad.abs().max() == 0


@pytest.mark.parametrize("name", TAUGHT)
def test_a_batch_of_one_and_one_teacher_work(name):
    loss = make_distillation(name, {}, 8, (8,), CLASSES)
    student = view(1, 8, 0, requires_grad=True)
    terms = loss(student, [teach(view(1, 8, 1))], LABELS[:1])
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("name", [n for n in TAUGHT if n not in ("cirkd", "mtcm_kd")])
def test_a_batch_is_the_mean_of_its_samples(name):
    """Not so for CIRKD, which relates images, and MTCM-KD, which measures teachers on the batch."""
    loss, student, taught = loss_of(name), view(4, 8, 0), teachers()
    whole = loss(student, taught, LABELS)
    ones = []
    for index in range(4):
        pick = torch.tensor([index])
        ones.append(loss(student[pick], [teach(t[pick]) for t in taught], LABELS[pick]))
    for key, value in whole.items():
        expected = torch.stack([one[key] for one in ones]).mean()
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TAUGHT)
def test_half_precision_views_are_compared_in_single(name):
    def half(network):
        graphs = replace(network.graphs, features=network.graphs.features.half())
        parts = {k: getattr(network, k).half() for k in ("logits", "features", "pooled", "weights")}
        return replace(network, graphs=graphs, **parts)

    student, taught = view(4, 8, 0), teachers()
    expected = loss_of(name)(student, taught, LABELS)
    found = loss_of(name)(half(student), [half(t) for t in taught], LABELS)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(name)(student, taught, LABELS)
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_teachers_is_checked(name):
    with pytest.raises(InputError, match="1 teachers; the loss was made for 2"):
        loss_of(name)(view(4, 8, 0), teachers()[:1], LABELS)
    if name != "none":
        with pytest.raises(OptionError, match="without a teacher"):
            make_distillation(name, {}, 8, (), CLASSES)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(OptionError, match=r"'fitnet'.*react_kd"):
        make_distillation("fitnet", {}, 8, WIDTHS, CLASSES)
    for name in NAMES:
        with pytest.raises(OptionError, match=f"{name} has no settings \\['magic'\\]"):
            loss_of(name, magic=1)
