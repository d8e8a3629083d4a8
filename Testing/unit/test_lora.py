"""Low-rank updates of frozen layers, and the student whose Swin encoders learn by them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from random_models import specification
from torch import Tensor, nn
from training_cases import synthetic_case

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.cbam3d import NoAttention
from training.batches import CropSettings, crop_batches
from training.engine import Optimisation, fit
from training.forward import batch_cells, view_of
from training.losses import make_distillation
from training.networks.lora import SWIN_LAYERS, LoraLinear, LoraSpec, add_lora, has_lora, merge_lora
from training.networks.swin import SwinEncoder, SwinSpec
from training.networks.swin_student import SwinStudent, SwinStudentSpec
from training.networks.teacher import Teacher, TeacherSpec
from training.objectives import LabelLoss, ModalityDropout, StudentObjective

SWIN = SwinSpec(patch=(2, 4, 4), window=(2, 2, 2), embedding=8, depths=(1, 2), heads=(2, 4))
SPEC = SwinStudentSpec(SWIN, fused_channels=6)
MODALITIES = ("ct", "pet_fdg", "pet_acetate")
LORA = LoraSpec(rank=2, alpha=8.0)


def student(seed: int = 0, spec: SwinStudentSpec = SPEC) -> SwinStudent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SwinStudent(MODALITIES, 3, spec).eval()


def teacher(branches: dict[str, tuple[str, ...]], swin: SwinSpec = SWIN) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return Teacher(TeacherSpec(branches, swin, fused_channels=6), 3).eval()


def volumes(*names: str, size: tuple[int, int, int] = (4, 16, 16)) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    return {name: torch.randn(2, 1, *size, generator=random) for name in names or MODALITIES}


def layers_of(module: nn.Module) -> dict[str, LoraLinear]:
    return {n: m for n, m in module.named_modules() if isinstance(m, LoraLinear)}


def trained(network: SwinStudent, steps: int = 2) -> SwinStudent:
    """The network after a few steps for the labels 0 and 2."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        logits = network(volumes()).logits
        nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
        optimiser.step()
    return network


# One layer.


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_adds_the_scaled_product_of_its_factors(bias):
    torch.manual_seed(0)
    linear = nn.Linear(5, 7, bias)
    layer = LoraLinear(linear, rank=3, alpha=12.0)
    nn.init.normal_(layer.lora_b)
    x, w, a, b = (
        t.detach().double().numpy()
        for t in (torch.randn(2, 4, 5), linear.weight, layer.lora_a, layer.lora_b)
    )
    offset = linear.bias.detach().double().numpy() if bias else 0.0
    expected = x @ w.T + offset + 12.0 / 3 * (x @ a.T @ b.T)
    inputs = torch.tensor(x, dtype=torch.float32)
    assert np.allclose(layer(inputs).detach().numpy(), expected, atol=1e-5)

    before, state = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    merged = layer.merge()
    assert type(merged) is nn.Linear
    assert np.allclose(merged(inputs).detach().numpy(), expected, atol=1e-5)
    assert np.allclose(merged.weight.detach().numpy(), w + 4 * b @ a, atol=1e-5)
    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_are_chosen_by_whole_parts_of_their_names():
    names = add_lora(SwinEncoder(SWIN, 1), 2, 8.0, ("qkv",))
    blocks = ("stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1")
    assert names == tuple(f"{block}.attn.qkv" for block in blocks)
    with pytest.raises(OptionError, match="'kv'"):
        add_lora(SwinEncoder(SWIN, 1), 2, 8.0, ("kv",))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rank": 0}, "rank 0"),
        ({"rank": 2.5}, "rank 2.5"),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"layers": ()}, "without layers"),
    ],
)
def test_specifications_that_mean_nothing_are_refused(changes, problem):
    with pytest.raises(OptionError, match=problem) as caught:
        dataclasses.replace(LORA, **changes)
    assert caught.value.advice


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            LoraSpec(layers=("attn.qkv", "attn.query")),
            r"No linear layer .*'attn\.query'.*attn\.qkv",
        ),
        (LoraSpec(layers=("patch_embed.proj",)), "No linear layer"),  # a convolution
        (LoraSpec(rank=9), "rank 9 for a layer of 8 inputs"),
    ],
)
def test_what_does_not_fit_the_network_leaves_it_as_it_is(spec, problem):
    encoder = SwinEncoder(SWIN, 1)
    with pytest.raises(OptionError, match=problem):
        add_lora(encoder, spec.rank, spec.alpha, spec.layers)
    assert not has_lora(encoder)
    assert all(p.requires_grad for p in encoder.parameters())


def test_a_network_is_adapted_once():
    network = student()
    network.freeze_with_lora(LORA)
    with pytest.raises(OptionError, match="already"):
        network.freeze_with_lora(LORA)
    with pytest.raises(OptionError, match="LoRA layers"):
        network.load_encoder("ct", student(1).encoders["ct"].state_dict())


# The student.


def test_training_starts_at_the_frozen_network():
    network = student()
    expected = network(volumes())
    names = network.freeze_with_lora(LORA)
    assert len(names) == 3 * 3 * len(SWIN_LAYERS)  # modalities, blocks
    found = network(volumes())
    assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    assert torch.allclose(found.features, expected.features, atol=1e-6)


def test_updates_projections_attention_and_head_learn_and_the_encoder_does_not():
    network = student()
    network.freeze_with_lora(LORA)
    before = copy.deepcopy(network.state_dict())
    trained(network)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    in_encoders = {name for name in learning if name.startswith("encoders.")}
    assert {name.rpartition(".")[2] for name in in_encoders} == {"lora_a", "lora_b"}
    outside = {n for n in before if n.startswith(("projections.", "cbam.", "head."))}
    assert learning - in_encoders == outside
    for name, p in network.named_parameters():
        assert (p.grad is not None) == (name in learning), name
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == learning


def test_the_learnt_parameters_are_as_many_as_the_ranks_say():
    network = student()
    linears = [
        m
        for name, m in network.encoders.named_modules()
        if isinstance(m, nn.Linear) and name.endswith(SWIN_LAYERS)
    ]
    expected = sum(LORA.rank * (m.in_features + m.out_features) for m in linears)
    network.freeze_with_lora(LORA)
    assert sum(p.numel() for p in network.encoders.parameters() if p.requires_grad) == expected


def test_a_merged_student_answers_the_same_without_lora_layers():
    network = student()
    names = [name for name, _ in network.named_parameters()]
    network.freeze_with_lora(LORA)
    trained(network)
    expected = network(volumes()).logits
    assert not torch.allclose(expected, student()(volumes()).logits, atol=1e-2)
    assert merge_lora(network) is network
    assert not layers_of(network)
    assert torch.allclose(network(volumes()).logits, expected, atol=1e-5)
    assert [name for name, _ in network.named_parameters()] == names
    fresh = student(5)
    fresh.load_state_dict(network.state_dict())
    assert torch.allclose(fresh(volumes()).logits, expected, atol=1e-5)


def test_an_encoder_that_is_not_named_is_trained_whole():
    network = student()
    network.freeze_with_lora(LORA, ["ct"])
    assert layers_of(network.encoders["ct"])
    assert not layers_of(network.encoders["pet_fdg"])
    assert all(p.requires_grad for p in network.encoders["pet_fdg"].parameters())
    with pytest.raises(OptionError, match="mri"):
        network.freeze_with_lora(LORA, ["mri"])


def test_any_modalities_give_an_answer():
    network = student()
    network.freeze_with_lora(LORA)
    trained(network)
    given = volumes("ct", "pet_acetate")
    both = network(given)
    parts = [network.fuse({name: given[name]})[0].logit() for name in given]
    assert torch.allclose(both.features, torch.sigmoid(sum(parts)), atol=1e-5)
    # The order in which a caller names them makes no difference at all.
    assert torch.equal(network(dict(reversed(given.items()))).logits, both.logits)
    with pytest.raises(ValueError, match="given"):
        network({})
    with pytest.raises(ValueError, match="mri"):
        network({**given, "mri": given["ct"]})


def test_the_student_reads_the_region_of_interest_alone():
    network = student()
    given = volumes("ct", size=(8, 16, 24))
    roi = torch.zeros(2, 1, 8, 16, 24)
    roi[:, :, 1:7, 3:12, 2:20] = 1
    changed = {"ct": given["ct"] + 5 * (1 - roi)}
    assert torch.equal(network(given, roi).logits, network(changed, roi).logits)
    features = network(given, roi).features
    assert network.total_stride == (4, 8, 8)
    assert features.shape == (2, 6, 2, 2, 3)
    weights = network.cells(roi)
    weights = weights / weights.sum(dim=(2, 3, 4), keepdim=True)
    output = network(given, roi, weights)
    assert torch.allclose(output.pooled, (features * weights).sum(dim=(2, 3, 4)))
    assert torch.allclose(output.logits, network.head(output.pooled))
    part, attention = network.branch("ct", given["ct"], roi, network.inside(roi))
    assert torch.allclose(torch.sigmoid(part), output.features)
    assert torch.equal(attention, output.attention)


def test_without_cbam_the_attention_is_one():
    network = student(spec=dataclasses.replace(SPEC, cbam=False))
    assert isinstance(network.cbam, NoAttention)
    assert (network(volumes()).attention == 1).all()


# Weights of other encoders.


def test_a_branch_of_a_teacher_that_reads_one_modality_gives_its_encoder():
    network, source = student(), teacher({"ct": ("ct",)})
    kept = copy.deepcopy(network.encoders["pet_fdg"].state_dict())
    network.load_encoder("ct", source.encoders["ct"].state_dict())
    network.freeze_with_lora(LORA)
    ct = volumes()["ct"]
    assert torch.allclose(network.encoders["ct"](ct), source.encoders["ct"](ct), atol=1e-6)
    trained(network)
    assert torch.equal(source.encoders["ct"](ct), teacher({"ct": ("ct",)}).encoders["ct"](ct))
    own = network.encoders["pet_fdg"].state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in kept)


def test_weights_that_do_not_fit_are_refused_and_change_nothing():
    network = student()
    before = copy.deepcopy(network.state_dict())
    two = teacher({"fdg": ("ct", "pet_fdg")}).encoders["fdg"].state_dict()
    with pytest.raises(OptionError, match=r"reads 1 channel.*weights 2.*CT and PET together"):
        network.load_encoder("ct", two)
    for changes in ({"embedding": 16}, {"window": (4, 4, 4)}, {"heads": (2, 8)}):
        other = dataclasses.replace(SWIN, **changes)
        with pytest.raises(OptionError, match="instead of"):
            network.load_encoder("ct", SwinEncoder(other, 1).state_dict())
    shallow = dataclasses.replace(SWIN, depths=(1,), heads=(2,))
    with pytest.raises(OptionError, match=r"missing.* and \d+ more"):
        network.load_encoder("ct", SwinEncoder(shallow, 1).state_dict())
    with pytest.raises(OptionError, match="unknown"):
        network.load_encoder("ct", {**network.encoders["ct"].state_dict(), "x": torch.ones(1)})
    with pytest.raises(OptionError, match="mri"):
        network.load_encoder("mri", network.encoders["ct"].state_dict())
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def monai_transformer(**options: bool) -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer(
        in_chans=1,
        embed_dim=SWIN.embedding,
        window_size=SWIN.window,
        patch_size=SWIN.patch,
        depths=(1, 2),
        num_heads=(2, 4),
        **options,
    ).eval()


@pytest.mark.parametrize(("prefix", "layer"), [("", "linear"), ("module.", "fc"), ("swinViT.", "")])
def test_weights_of_monais_transformer_give_monais_features(prefix, layer):
    source = monai_transformer()
    state = {
        prefix + name.replace("mlp.linear", f"mlp.{layer or 'linear'}"): value
        for name, value in source.state_dict().items()
    }
    state |= {f"{prefix}rotation_head.weight": torch.ones(4, 2)} if prefix else {}
    network = student()
    nn.init.normal_(network.encoders["ct"].norm.weight)
    network.load_encoder("ct", state)
    merges = []
    source.layers2[0].downsample.register_forward_pre_hook(lambda _, a: merges.append(a[0]))
    ct = volumes()["ct"]
    # The whole of MONAI's network takes four stages, these two do not.
    source.layers2[0](source.layers1[0](source.patch_embed(ct)).contiguous())
    tokens = merges[0]  # (N, k, j, i, C), as they are before the merge that the encoder lacks
    expected = nn.functional.layer_norm(tokens, tokens.shape[-1:]).movedim(-1, 1)
    assert torch.allclose(network.encoders["ct"](ct), expected, atol=1e-5)


def test_monais_second_version_of_the_transformer_is_another_network():
    with pytest.raises(OptionError, match=r"layers1c.* is unknown"):
        student().load_encoder("ct", monai_transformer(use_v2=True).state_dict())


# Training.


def test_rows_with_different_modalities_are_what_each_gives_alone():
    spec = spec_from_section(specification())
    network = student()
    rng = np.random.default_rng(4)
    cases = [synthetic_case(n) for n in range(3)]
    settings = CropSettings((4, 8, 8), 0.0)
    (batch,) = crop_batches(cases, settings, spec, 3, rng, torch.device("cpu"))
    names = [("ct",), ("ct", "pet_fdg"), ("ct",)]
    with torch.inference_mode():
        view = view_of(network, batch, names, dosed=False)
        cells = batch_cells(network, batch)
        for row, own in enumerate(names):
            alone = network(
                {name: batch.volumes[name][[row]] for name in own},
                batch.roi[[row]],
                cells.weights[[row]],
            )
            assert torch.allclose(view.logits[row], alone.logits[0], atol=1e-5)


def test_the_loss_falls_and_the_encoder_stays(tmp_path: Path):
    spec = spec_from_section(specification())
    cases = [synthetic_case(n) for n in range(9)]
    # One stage: the crops below have cells enough for an attention, and train in a second.
    swin = dataclasses.replace(SWIN, depths=(2,), heads=(2,))
    network = student(spec=dataclasses.replace(SPEC, swin=swin))
    network.freeze_with_lora(LoraSpec())
    before = copy.deepcopy(network.state_dict())
    objective = StudentObjective(
        network,
        make_distillation("none", {}, 6, [], 3),
        [],
        LabelLoss(),
        ModalityDropout({"ct": 0.5, "ct+pet_fdg+pet_acetate": 0.5}),
    )

    def batches(rng: np.random.Generator):
        settings = CropSettings((4, 8, 8), dosed=0.0)
        return crop_batches(cases, settings, spec, 3, rng, torch.device("cpu"))

    how = Optimisation(epochs=30, batch_size=3, learning_rate=0.02, select_every=30)
    history = fit(objective, batches, lambda: 0.5, how, 3, 7, tmp_path, "test").history
    assert history[-1]["label"] < 0.7 * history[0]["label"]
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen and not changed & frozen
    assert {n for n in before if n.endswith(("lora_a", "lora_b"))} <= changed
