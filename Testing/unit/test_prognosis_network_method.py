"""Networks as methods of a study: what they learn, what they must not see, what switches change."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.clinical_arrays import to_array
from REACTKDLib.prognosis.metadata import TextEncoderSpec
from REACTKDLib.prognosis.network_inputs import network_batch, stacked_volumes
from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.build import build_network
from REACTKDLib.prognosis.scaling import PrognosisScaling
from REACTKDLib.prognosis.types import ClinicalRecord, ClinicalSchema, PatientArrays, Variable
from training.evaluation.discrimination import binary_auc
from training.prognosis import text_tokens
from training.prognosis.cohort import PrognosisCase
from training.prognosis.methods import Context, make_method
from training.prognosis.nested import NestedSplit, run_fold
from training.prognosis.network_fit import Patients, learn_lesions
from training.prognosis.network_images import LesionTask, augmented, mirrored
from training.prognosis.network_method import FittedNetwork
from training.prognosis.network_settings import Augmentation, NetworkSettings, network_spec
from training.prognosis.platt import SPREAD, fit_platt
from training.prognosis.scaling import ScalingSettings, fit_scaling
from training.prognosis.text_tokens import record_of

SCHEMA = ClinicalSchema(
    "generated",
    "Generated",
    (
        Variable("a", "A", "number"),
        Variable("b", "B", "number"),
        Variable("flag", "Flag", "flag"),
        Variable("stage", "Stage", "category", categories=("I", "II", "III")),
    ),
)
FEATURES = ("original_glcm_x", "original_glcm_y", "log_glcm_x")
CONTEXT = Context(SCHEMA, FEATURES, ScalingSettings(), 3)
#: Quick to learn and without chance; what a test is about, it sets itself.
QUICK: dict[str, Any] = {
    "epochs": 12,
    "learning_rate": 3e-3,
    "patience": 12,
    "shape": {
        "dropout": 0.0,
        "ct": {"layers": [1], "widths": [8], "conv1_kernel": 3, "conv1_stride": [2, 2, 2]},
        "faithful": {
            "ct_features": 8,
            "radiomics_hidden": [16, 8],
            "dense_layers": [1, 1],
            "dense_growth": 4,
            "dense_features": 8,
        },
    },
    "dropout": {"modality": 0.0, "variable": 0.0, "family": 0.0, "nothing": 0.0, "scarce": 0.0},
}


def cases(n: int, rule: str = "a", seed: int = 0, ct: bool = False) -> list[PrognosisCase]:
    """Patients whose outcome follows ``rule``: "a", or "xor" of a and the first feature."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        clinical = np.array([*rng.normal(size=2), rng.integers(2), rng.integers(3)], dtype=float)
        radiomics = rng.normal(size=3)
        label = clinical[0] > 0
        if rule == "xor":
            label ^= radiomics[0] > 0
        if rng.random() < 0.1:
            clinical[1] = np.nan
        volume = roi = None
        if ct:
            shape = (5, 5 + 2 * (number % 2), 5)
            roi = np.ones(shape, np.float32)
            volume = (roi * (1 if label else -1) + 0.5 * rng.normal(size=shape)).astype(np.float32)
        arrays = PatientArrays(clinical, radiomics, volume, roi)
        found.append(PrognosisCase(f"P{number:03d}", int(label), arrays))
    return found


def split(n: int) -> NestedSplit:
    """Three fifths train, one fifth selects, one tests."""
    ends = (n * 3 // 5, n * 4 // 5)
    return NestedSplit(
        tuple(range(ends[0])), tuple(range(ends[0], ends[1])), tuple(range(ends[1], n))
    )


def method(kind: str = "tmi", **settings: Any) -> Any:
    return make_method(kind, {**QUICK, **settings}, CONTEXT)


def auc(patients: Sequence[PrognosisCase], logits: dict[str, float]) -> float:
    truth = np.array([case.label for case in patients if case.patient in logits])
    return float(binary_auc(truth == 1, np.array(list(logits.values())))[0])


def test_a_deciding_variable_is_found_and_test_outcomes_have_no_influence() -> None:
    patients, parts = cases(100), split(100)
    before = torch.get_rng_state()
    logits, details = run_fold(method(inputs=["clinical"]), patients, parts, 0)
    assert auc(patients, logits) > 0.95
    assert details["epoch"][0] > 0
    assert torch.equal(before, torch.get_rng_state())  # a study does not move anybody's chance

    turned = [
        replace(c, label=1 - c.label) if n in parts.test else c for n, c in enumerate(patients)
    ]
    assert run_fold(method(inputs=["clinical"]), turned, parts, 0) == (logits, details)
    # Another seed gives other weights: the equality above could fail.
    assert run_fold(method(inputs=["clinical"]), patients, parts, 1)[0] != logits
    turned = [
        replace(c, label=1 - c.label) if n in parts.selection else c for n, c in enumerate(patients)
    ]
    assert run_fold(method(inputs=["clinical"]), turned, parts, 0)[0] != logits


def test_what_two_modalities_say_together_needs_both_and_cross_attention() -> None:
    """Exclusive or: each modality alone says nothing, and neither does a sum of the two."""
    patients, parts = cases(300, "xor"), split(300)
    both = ["clinical", "radiomics"]
    found = {
        name: auc(patients, run_fold(method(epochs=20, **own), patients, parts, 0)[0])
        for name, own in {
            "tmi": {"inputs": both},
            "clinical": {"inputs": ["clinical"]},
            "radiomics": {"inputs": ["radiomics"]},
            "sum": {"inputs": both, "cross_attention": False},
        }.items()
    }
    assert found["tmi"] > 0.9
    assert max(found["clinical"], found["radiomics"], found["sum"]) < 0.7


def test_a_missing_modality_at_test_is_masked() -> None:
    patients = cases(60, ct=True)
    fitted: FittedNetwork = method(epochs=3).fit(patients[:40], patients[40:50], 0)
    whole = patients[50]
    lacking = [
        replace(whole, arrays=replace(whole.arrays, radiomics=None)),
        replace(whole, arrays=replace(whole.arrays, ct=None, roi=None)),
        replace(whole, arrays=replace(whole.arrays, clinical=None)),
        replace(whole, arrays=PatientArrays()),
        whole,
    ]
    together = fitted.predict_logit(lacking)
    assert np.isfinite(together).all()
    assert len(set(together.round(6))) == 5
    alone = [float(fitted.predict_logit([case])[0]) for case in lacking]
    np.testing.assert_allclose(together, alone, atol=1e-5)  # nobody's answer depends on others


@pytest.mark.parametrize("kind", ["faithful", "tmi", "hfb", "concatenation"])
def test_every_form_trains_on_all_three_modalities(kind: str) -> None:
    own: dict[str, Any] = {"epochs": 2}
    if kind == "faithful":
        ct = {**QUICK["shape"]["ct"], "norm": "batch", "region": "volume"}
        loss = {"form": "paper", "queue": 0}
        own |= {"form": "faithful", "shape": {**QUICK["shape"], "ct": ct}, "loss": loss}
        own["balanced"] = False
    patients = cases(41, ct=True)
    made = method("tmi" if kind == "faithful" else kind, **own)
    fitted = made.fit(patients[:30], patients[30:36], 0)
    assert np.isfinite(fitted.predict_logit(patients[36:])).all()
    (member,) = fitted.members
    assert member.size == ((5, 7, 5) if kind == "faithful" else None)
    assert fitted.details["steps"] == [2 * 2] if kind == "faithful" else [2 * 3]


def test_ablations_change_the_network_and_not_the_budget() -> None:
    patients = cases(50, ct=True)
    names, steps = {}, set()
    for title, kind, own in (
        ("whole", "tmi", {}),
        ("- IMA", "tmi", {"intra_modality_aggregation": False}),
        ("- TCAF", "tmi", {"cross_attention": False}),
        ("- TMFF", "tmi", {"loss": {"fusion": 0.0}}),
        ("concatenation", "concatenation", {}),
        ("hfb", "hfb", {}),
    ):
        fitted = method(kind, epochs=1, **own).fit(patients[:32], patients[32:42], 0)
        network = fitted.members[0].network
        names[title] = {name for name, _ in network.named_parameters()}
        steps.add(fitted.details["steps"][0])
        trunk = {name for name in names[title] if name.startswith("encoders.")}
        assert trunk == {name for name in names["whole"] if name.startswith("encoders.")}
    assert len(steps) == 1
    whole = names["whole"]
    assert whole - names["- IMA"] == {n for n in whole if n.startswith("aggregation.")} != set()
    assert whole - names["- TCAF"] == {n for n in whole if n.startswith("fusion.cross.")} != set()
    assert names["- TMFF"] == whole
    assert not any("cross" in name for name in names["concatenation"] | names["hfb"])


def test_the_feature_fusion_loss_has_an_influence() -> None:
    patients = cases(50)
    found = [
        method(epochs=1, inputs=["clinical", "radiomics"], loss={"fusion": weight})
        .fit(patients[:32], patients[32:42], 0)
        .predict_logit(patients[42:])
        for weight in (0.0, 1.0)
    ]
    assert np.abs(found[0] - found[1]).max() > 1e-3


def patients_with_lesions() -> list[PrognosisCase]:
    """Sixty patients with one bright lesion each, every second with the event, by chance."""
    rng = np.random.default_rng(0)
    patients = []
    for number in range(60):
        lesion = np.zeros((5, 9, 9), np.float32)
        place = rng.integers(0, 3, 2) * 4
        lesion[:, place[0] : place[0] + 2, place[1] : place[1] + 2] = 1
        volume = (2 * lesion + 0.3 * rng.normal(size=lesion.shape)).astype(np.float32)
        arrays = PatientArrays(ct=volume, roi=np.ones_like(volume))
        patients.append(PrognosisCase(f"P{number}", number % 2, arrays, lesion=lesion))
    return patients


def test_lesions_are_learnt_before_any_outcome() -> None:
    """Tokens of the CT then tell lesions apart, and outcomes had no part in it."""
    patients = patients_with_lesions()
    settings = NetworkSettings(inputs=("ct",), learning_rate=5e-3, lesion_epochs=10)
    spec = network_spec(settings, "tmi", PrognosisScaling(), None)
    found = []
    for flipped in (False, True):
        cases = [replace(p, label=1 - p.label) for p in patients] if flipped else patients
        whole = Patients.of(cases, PrognosisScaling(), spec)
        network, task = build_network(spec, 0), LesionTask(spec.width)
        with torch.no_grad():
            task.head.weight.zero_()
            task.head.bias.zero_()
        batch = whole.batch(range(len(whole)), torch.device("cpu"))
        assert whole.lesions is not None
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for epochs in (0, 10):
                if epochs:
                    learn_lesions(network, task, settings, whole, 0, torch.device("cpu"))
                network.eval()
                with torch.no_grad():
                    tokens = network.ct_tokens(batch)
                    assert tokens is not None
                    losses.append(task(tokens, whole.lesions).item())
        assert losses[1] < 0.5 * losses[0]
        found.append(network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_second_task_finds_lesions_and_leaves_no_trace() -> None:
    patients = patients_with_lesions()
    spec = network_spec(NetworkSettings(inputs=("ct",)), "tmi", PrognosisScaling(), None)
    whole = Patients.of(patients, PrognosisScaling(), spec)
    assert whole.lesions is not None
    assert whole.lesions.shape == (60, 2, 3, 3)
    tokens = build_network(spec, 0).ct_tokens(whole.batch(range(60), torch.device("cpu")))
    assert tokens is not None
    task = LesionTask(spec.width)
    with torch.no_grad():
        task.head.weight.zero_()
        task.head.bias.fill_(0.3)
    p = 1 / (1 + np.exp(-0.3))
    wanted = whole.lesions.numpy().mean()
    expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
    assert task(tokens, whole.lesions).item() == pytest.approx(expected, rel=1e-5)
    unknown = torch.full_like(whole.lesions, torch.nan)
    assert task(tokens, unknown).item() == 0
    own: dict[str, Any] = {"inputs": ["ct"], "epochs": 1}
    ways = ({"lesions": 0.0}, {"lesions": 5.0}, {"lesions": 5.0, "lesion_epochs": 1})
    fits = [method(**way, **own).fit(patients[:40], patients[40:], 0) for way in ways]
    states = [fit.members[0].network.state_dict() for fit in fits]
    for one, other in itertools.combinations(states, 2):
        assert one.keys() == other.keys()
        assert any(not torch.equal(one[name], other[name]) for name in one)
    blind = patients[0].blind()
    assert (blind.label, blind.lesion) == (-1, None)


def test_mirrored_volumes_and_lesions_stay_together() -> None:
    generator = torch.Generator().manual_seed(0)
    ct = torch.randn(6, 1, 5, 5, 9, generator=generator)
    batch = PrognosisBatch(ct=ct, roi=(ct > 0).float())
    found, turned = augmented(batch, Augmentation(noise=0.0), generator)
    assert turned is not None and 0 < int(turned.sum()) < turned.numel()
    assert found.ct is not None and found.roi is not None
    torch.testing.assert_close(found.ct[:, 0], mirrored(ct[:, 0], turned))
    assert torch.equal(found.roi, (found.ct > 0).float())
    for row in range(6):
        axes = [axis for axis in range(3) if turned[row, axis]]
        assert torch.equal(found.ct[row, 0], ct[row, 0].flip(axes))
    noisy, none = augmented(batch, Augmentation(flip=False, noise=0.5), generator)
    assert none is None and noisy.ct is not None
    assert float((noisy.ct - ct).std()) == pytest.approx(0.5, rel=0.1)


def test_text_alone_is_read_as_a_language_model_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two vectors per word, of which the sign of the second tells the outcome."""
    texts = ("ascites since may", "no complaint at all", "ascites again", "well")

    def encode(spec: TextEncoderSpec, text: str, form: str) -> tuple[torch.Tensor, torch.Tensor]:
        words = text.split()
        sign = 1.0 if "ascites" in words else -1.0
        vectors = torch.tensor([[0.3, sign]] * len(words) + [[9.0, -9.0 * sign]]).half()
        return vectors, torch.tensor([True] * len(words) + [False])  # the last is no token

    monkeypatch.setattr(text_tokens, "encoded", encode)
    monkeypatch.setattr(text_tokens.TextReader, "width", 2)
    patients = []
    for number, case in enumerate(cases(80)):
        text = texts[number % 4] if number % 7 else ""
        label = int(number % 4 in (0, 2))
        patients.append(replace(case, label=label, arrays=replace(case.arrays, text=text)))
    own = {"inputs": ["clinical"], "text": {"name": "generated"}, "variables": False}
    fitted = method(**own).fit(patients[:48], patients[48:64], 0)
    known = [c for c in patients[64:] if c.arrays.text]
    logits = fitted.predict_logit(known)
    assert auc(known, dict(zip([c.patient for c in known], logits, strict=True))) == 1
    spec = fitted.members[0].spec
    assert (spec.variables, spec.text_hidden) == ((), 2)
    without = [c for c in patients[64:] if not c.arrays.text]
    assert np.ptp(fitted.predict_logit(without)) < 1e-6  # nothing is known of them


def test_a_record_comes_back_from_its_array() -> None:
    values = {"a": 1.5, "flag": True, "stage": "II"}
    array = to_array(SCHEMA, ClinicalRecord(values))
    assert record_of(SCHEMA, PatientArrays(array, text="x")) == ClinicalRecord(values, "x")
    assert record_of(SCHEMA, PatientArrays()).values == {}


def test_members_share_the_patients_and_choices_are_made_inside() -> None:
    patients = cases(60)
    choices = [{"learning_rate": 1e-6}, {"learning_rate": 3e-3}]
    made = method(inputs=["clinical"], epochs=6, members=3, choices=choices)
    fitted = made.fit(patients[:40], patients[40:50], 0)
    assert len(fitted.members) == 3
    held_out = [len(m.trained.selection_logits) for m in fitted.members]
    assert sum(held_out) == 50
    assert fitted.details["choice"] == 1
    assert fitted.details["choice_losses"][1] < fitted.details["choice_losses"][0]
    single = [
        replace(fitted, members=(member,)).predict_logit(patients) for member in fitted.members
    ]
    np.testing.assert_allclose(fitted.predict_logit(patients), np.mean(single, axis=0))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(OptionError, match="epochs, patience"):
        method(epochs=0)
    with pytest.raises(OptionError, match="warm_up"):
        method(warm_up=1.0)
    with pytest.raises(OptionError, match="unknown fields"):
        method(epoch=3)
    patients = cases(30)
    with pytest.raises(InputError, match="No training patient has ct"):
        method(epochs=1).fit(patients[:20], patients[20:], 0)
    with pytest.raises(OptionError, match="cannot be built"):
        method(inputs=["radiomics", "clinical"]).fit(patients[:20], patients[20:], 0)


def test_tensors_keep_flags_and_categories_and_mark_what_is_missing() -> None:
    rows = [case.arrays for case in cases(20)]
    rows[1] = replace(rows[1], radiomics=None)
    rows[2] = replace(rows[2], clinical=None)
    scaling = fit_scaling(rows, [0, 1] * 10, SCHEMA, FEATURES, ScalingSettings())
    batch = network_batch(rows, scaling, ("clinical", "radiomics"))
    assert batch.clinical is not None
    assert batch.radiomics is not None
    values = np.array([r.clinical for r in rows if r.clinical is not None])
    given = np.array([n for n in range(20) if n != 2])
    np.testing.assert_array_equal(batch.clinical[given, 2:], values[:, 2:].astype(np.float32))
    expected = (values[:, 0] - values[:, 0].mean()) / values[:, 0].std()
    np.testing.assert_allclose(batch.clinical[given, 0], expected, rtol=1e-5)
    assert batch.radiomics[1].isnan().all()
    assert batch.clinical[2].isnan().all()
    assert batch.ct is None


def test_volumes_are_filled_up_or_cut_to_one_size() -> None:
    small, large = np.full((2, 3, 2), 1.0), np.arange(5.0 * 3 * 2).reshape(5, 3, 2)
    both = stacked_volumes([small, None, large])
    assert both.shape == (3, 1, 5, 3, 2)
    assert both[0].sum() == small.sum()
    assert (both[0, 0, :2] == 1).all()
    assert (both[1] == 0).all()
    cut = stacked_volumes([large], (3, 4, 2))
    np.testing.assert_array_equal(cut[0, 0, :, :3], large[1:4])  # one slice lost on either side
    assert (cut[0, 0, :, 3] == 0).all()


def test_calibration_follows_many_patients_and_is_cautious_with_few() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20000) * 2
    labels = rng.random(20000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    many = fit_platt(labels, logits)
    assert many.slope == pytest.approx(0.5, abs=0.03)
    assert many.intercept == pytest.approx(-1, abs=0.05)
    # Six patients who are all right: maximum likelihood would have an infinite slope.
    few = fit_platt(np.array([0, 0, 0, 1, 1, 1]), np.array([-3.0, -2, -1, 1, 2, 3]))
    assert 1 < few.slope < np.exp(2 * SPREAD)
    assert few.intercept == pytest.approx(0, abs=1e-6)
    # Nothing seen: what was expected.
    assert fit_platt(np.array([]), np.array([]), -0.7).intercept == pytest.approx(-0.7)
    np.testing.assert_allclose(
        many(np.array([0.0, 2])), [many.intercept, many.intercept + 2 * many.slope]
    )
