"""The corrected TMI-CLNet: what its corrections promise, missing parts, comparators."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import pytest
import torch
from prognosis_networks import CT, SPEC, patients, rows
from torch import nn
from torch.nn import functional

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.networks.attention import Attention, masked_mean, masked_softmax
from REACTKDLib.prognosis.networks.build import build_network, log_odds
from REACTKDLib.prognosis.networks.fusion import CrossAttentionLayer, FactorisedBilinear
from REACTKDLib.prognosis.networks.spec import (
    FamilySpec,
    PrognosisNetworkSpec,
    VariableSpec,
    check_spec,
    families_of,
    published_spec,
    variables_of,
)
from REACTKDLib.prognosis.networks.tmi import summaries
from REACTKDLib.prognosis.networks.tokens import TokenSet, places
from REACTKDLib.prognosis.types import MODALITIES, ClinicalSchema, Variable
from REACTKDLib.typed_json import build

VARIANTS = {
    "cyclic": SPEC,
    "all": replace(SPEC, directions="all", layers=2),
    "no IMA": replace(SPEC, intra_modality_aggregation=False),
    "no TCAF": replace(SPEC, cross_attention=False),
    "concatenation": replace(SPEC, fusion="concatenation"),
    "hfb": replace(SPEC, fusion="hfb"),
    "ct": replace(SPEC, modalities=("ct",)),
    "clinical": replace(SPEC, modalities=("clinical",), text_hidden=0),
    "ct + radiomics": replace(SPEC, modalities=("ct", "radiomics")),
    "hfb of one": replace(SPEC, modalities=("radiomics",), fusion="hfb"),
    "whole volume": replace(SPEC, ct=replace(CT, region="volume")),
}


def hide(batch, row, modality):
    present = batch.present.clone()
    present[row, MODALITIES.index(modality)] = False
    return replace(batch, present=present)


def network_of(spec, seed=0):
    return build_network(spec, seed).eval()


def some_missing(count=6):
    """Patients who lack, among them, a modality each, all, a variable, a feature and a family."""
    batch = patients(count)
    for row, modality in ((0, "ct"), (1, "clinical"), (2, "radiomics"), (3, "ct")):
        batch = hide(batch, row, modality)
    for modality in MODALITIES:
        batch = hide(batch, 4, modality)
    clinical, radiomics = batch.clinical.clone(), batch.radiomics.clone()
    clinical[0, 1] = clinical[5, 2] = radiomics[0, 2] = torch.nan
    radiomics[5, 4:7] = torch.nan
    radiomics[1, [0, 5, 8]] = torch.nan
    return replace(batch, clinical=clinical, radiomics=radiomics)


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_gradients_reach_every_parameter(spec):
    network = build_network(spec, 1)
    batch, labels = some_missing(), torch.tensor([0, 1, 0, 1, 1, 0])
    loss = functional.cross_entropy(network(batch).logits, labels)
    loss.backward()
    assert loss.isfinite()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_queries_and_keys_learn():
    """The first correction: attention over several tokens."""
    network = build_network(replace(SPEC, directions="all"), 1)
    network(patients()).logits[:, 0].sum().backward()
    found = [
        parameter.grad.norm()
        for name, parameter in network.named_parameters()
        if "query" in name or "key" in name
    ]
    assert len(found) == 3 * (3 + 6)  # three IMA and six directions, key without bias
    assert all(1e-6 < norm < torch.inf for norm in found)


@pytest.mark.parametrize("query,source", SPEC.cross_directions)
def test_the_fused_output_changes_with_the_other_modalitys_tokens(query, source):
    """The second correction: what another modality holds, and where, has influence."""
    network = network_of(SPEC)
    streams = network.aggregate(network.encode(patients()))
    other = streams[source]

    def fused(tokens):
        changed = {**streams, source: TokenSet(tokens, other.mask, other.grid)}
        return network.fusion.streams(changed)[query].tokens

    before = fused(other.tokens)
    replaced = fused(torch.randn(other.tokens.shape, generator=torch.Generator().manual_seed(1)))
    channels = fused(other.tokens[..., torch.randperm(SPEC.width)])
    assert (replaced - before).abs().max() > 1e-3
    assert (channels - before).abs().max() > 1e-3
    # A set: its order, in which names and values go together, means nothing.
    order = torch.arange(other.mask.shape[1]).flip(0)
    with torch.inference_mode():
        moved = TokenSet(other.tokens[:, order], other.mask[:, order])
        after = network.fusion.streams({**streams, source: moved})[query].tokens
    assert torch.allclose(after, before, atol=1e-6)


def test_values_of_another_modality_change_places():
    """Swapping the values of two variables is another patient, for the CT's stream too."""
    network, batch = network_of(SPEC), patients()
    swapped = replace(batch, clinical=batch.clinical[:, [1, 0, 2, 3]])
    with torch.inference_mode():
        one, other = network(batch), network(swapped)
    assert (one.logits - other.logits).abs().max() > 1e-3
    assert (one.ct_attention - other.ct_attention).abs().max() > 1e-6
    assert torch.equal(one.vectors[:, 0], other.vectors[:, 0])  # before the fusion


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_masked_modalitys_content_has_no_influence(spec):
    network, batch = network_of(spec), some_missing()
    filled = {
        name: getattr(batch, name).clone() for name in ("ct", "text", "clinical", "radiomics")
    }
    filled["ct"][0], filled["radiomics"][2], filled["text"][1] = torch.nan, 1e6, torch.nan
    filled["clinical"][1] = torch.tensor([50.0, -50.0, 1.0, 2.0])
    filled["text"][~batch.text_mask] = 1e4
    roi = batch.roi.clone()
    roi[3] = 0.7
    with torch.inference_mode():
        one, other = network(batch), network(replace(batch, roi=roi, **filled))
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.vectors, other.vectors)
    expected = batch.present & torch.tensor([m in spec.modalities for m in MODALITIES])
    assert torch.equal(one.presence, expected)
    assert one.logits.isfinite().all()
    assert not one.vectors[~one.presence].any()


def test_what_is_missing_changes_the_answer():
    network, batch = network_of(SPEC), patients(1)
    with torch.inference_mode():
        answers = [network(hide(batch, 0, m)).logits for m in MODALITIES]
        answers += [network(batch).logits, network(replace(batch, roi=batch.roi * 0)).logits]
    assert torch.equal(answers[0], answers[4])  # an empty region is a missing CT
    found = torch.cat(answers[:4])[:, 1]
    assert len({round(float(x), 4) for x in found}) == 4


def test_a_modality_not_given_is_a_modality_hidden():
    network, batch = network_of(SPEC), patients()
    hidden = batch
    for row in range(len(batch)):
        for modality in ("ct", "radiomics"):
            hidden = hide(hidden, row, modality)
    bare = replace(batch, ct=None, roi=None, radiomics=None, present=None)
    with torch.inference_mode():
        assert torch.allclose(network(bare).logits, network(hidden).logits, atol=1e-6)
        assert network(bare).ct_attention is None


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("training", [False, True])
def test_no_patient_depends_on_another(spec, training):
    network, batch = network_of(spec).train(training), some_missing()
    with torch.inference_mode():
        together = network(batch)
        for index in ([2], [5, 0]):
            alone = network(rows(batch, index))
            assert torch.allclose(alone.logits, together.logits[index], atol=2e-5)


def test_the_order_of_variables_means_nothing():
    """Tokens and what they are called move together."""
    order = [3, 1, 0, 2]
    moved = replace(SPEC, variables=tuple(SPEC.variables[n] for n in order))
    one, other = network_of(SPEC), network_of(moved)
    state = one.state_dict()
    before, after = "encoders.clinical.variables.", [1, 0]
    state[before + "variable"] = state[before + "variable"][order]
    for name in ("slope", "offset"):
        state[before + name] = state[before + name][after]
    state[before + "value"] = state[before + "value"][[2, 3, 4, 0, 1]]
    other.load_state_dict(state)
    batch = patients()
    with torch.inference_mode():
        expected = one(batch).logits
        found = other(replace(batch, clinical=batch.clinical[:, order])).logits
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_map_of_the_ct_is_exact():
    network, batch = network_of(SPEC), some_missing()
    fusion = network.fusion
    with torch.inference_mode():
        output = network(batch)
        # The same fused streams, the CT's part of the head replaced by that of a missing CT.
        streams = network.aggregate(network.encode(batch))
        shown = output.presence.clone()
        shown[:, 0] = False
        without = fusion(streams, output.vectors, shown).logits
    added = output.ct_logits.sum(dim=(2, 3, 4))
    assert torch.allclose(output.logits - without, added, atol=1e-5)
    there = output.presence[:, 0]
    assert torch.allclose(output.ct_attention.sum(dim=(1, 2, 3)), there.float())
    assert (output.ct_attention >= 0).all()
    k, j, i = output.ct_attention.shape[1:]
    cells = functional.adaptive_max_pool3d(batch.roi, (k, j, i))[:, 0]
    assert not output.ct_attention[cells == 0][:1].any()
    assert output.ct_attention[there].std() > 1e-4


def test_the_box_around_the_region_has_no_influence():
    network, batch = network_of(SPEC), patients(2)
    around = (8, 16, 16, 8, 16, 4)
    roi = functional.pad(batch.roi, around)
    wide = torch.where(roi > 0, functional.pad(batch.ct, around), -30.0)
    with torch.inference_mode():
        one, other = network(batch), network(replace(batch, ct=wide, roi=roi))
    assert torch.allclose(one.logits, other.logits, atol=1e-5)
    assert other.ct_attention.shape != one.ct_attention.shape


def test_ct_tokens_can_be_used_again():
    network, batch = network_of(SPEC), patients()
    with torch.inference_mode():
        expected = network(batch)
        found = network(replace(batch, ct=None, roi=None), network.ct_tokens(batch))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.ct_attention, expected.ct_attention)


def test_attention_is_torchs():
    ours = Attention(16, 4, 0.0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    queries, tokens = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    mask = torch.rand(3, 7) > 0.3
    mask[:, 0] = True
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
        )
        bias = torch.cat([ours.query.bias, torch.zeros(16), ours.value.bias])
        theirs.in_proj_bias.copy_(bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
        expected, _ = theirs(queries, tokens, tokens, key_padding_mask=~mask)
        assert torch.allclose(ours(queries, tokens, mask), expected, atol=1e-6)


def test_no_valid_key_is_the_context_zero():
    attention = Attention(16, 4, 0.0)
    queries = torch.randn(2, 5, 16, requires_grad=True)
    mask = torch.tensor([[False, False], [True, False]])
    context = attention(queries, torch.randn(2, 2, 16), mask)
    assert not context[0].any() and context[1].abs().min() > 0
    context.sum().backward()
    assert queries.grad.isfinite().all()
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    assert not masked_softmax(torch.randn(1, 4), nothing).any()
    assert not masked_mean(torch.full((1, 4, 2), torch.nan), nothing).any()


def test_places_are_of_the_region():
    occupied = torch.zeros(2, 4, 6, 5, dtype=torch.bool)
    occupied[0, 1:4, 2:5, 3] = True
    occupied[1] = True
    place = places(occupied)[..., :3].unflatten(1, (4, 6, 5))
    assert place[0, 1, 2, 3].tolist() == [-1, -1, 0]
    assert place[0, 3, 3, 3].tolist() == [1, 0, 0]
    assert place[1, 0, 0, 2].tolist() == [-1, -1, 0]
    assert place[1, 3, 5, 4].tolist() == [1, 1, 1]


def test_cross_attention_reads_the_sources_in_order():
    layer = CrossAttentionLayer(replace(SPEC, directions="all"), ("ct", "radiomics"))
    layer.eval()
    own = TokenSet(torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool))
    other = TokenSet(torch.randn(2, 4, 64), torch.ones(2, 4, dtype=torch.bool))
    gone = TokenSet(other.tokens, torch.zeros_like(other.mask))
    context = layer.attentions["radiomics"](own.tokens, other.tokens, other.mask)
    joined = torch.cat([own.tokens, torch.zeros_like(context), context], dim=2)
    expected = layer.norm(own.tokens + layer.project(joined))
    found = layer(own, {"ct": gone, "radiomics": other}).tokens
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_bilinear_product_is_a_bilinear_form():
    product = FactorisedBilinear(3, 4, outputs=2, rank=5, dropout=0.0).double()
    one, other = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    homogeneous = [torch.cat([x, torch.ones(6, 1)], dim=1).double() for x in (one, other)]
    factors = [
        torch.cat([layer.weight, layer.bias[:, None]], dim=1).unflatten(0, (2, 5))
        for layer in (product.first, product.second)
    ]
    matrix = torch.einsum("ora,orb->oab", *factors)
    summed = torch.einsum("na,oab,nb->no", homogeneous[0], matrix, homogeneous[1])
    rooted = summed.sign() * summed.abs().sqrt()
    expected = rooted / rooted.norm(dim=1, keepdim=True)
    assert torch.allclose(product(one, other), expected, atol=1e-5)


def test_the_same_seed_gives_the_same_network():
    one, other, third = network_of(SPEC, 4), network_of(SPEC, 4), network_of(SPEC, 5)
    batch = patients()
    with torch.inference_mode():
        assert torch.equal(one(batch).logits, other(batch).logits)
        assert not torch.equal(one(batch).logits, third(batch).logits)


def test_log_odds_of_the_outcome():
    logits = torch.tensor([[0.2, 1.5, -0.3]])
    p = logits.softmax(dim=1)[0, 1]
    assert log_odds(logits, 1)[0] == pytest.approx(float((p / (1 - p)).log()), rel=1e-5)
    assert log_odds(torch.tensor([[50.0, -50.0]]), 0, "faithful")[0] == pytest.approx(1)


def test_the_cycle_and_its_subsets():
    assert SPEC.cross_directions == (
        ("clinical", "radiomics"),
        ("radiomics", "ct"),
        ("ct", "clinical"),
    )
    assert len(replace(SPEC, directions="all").cross_directions) == 6
    pair = replace(SPEC, modalities=("ct", "radiomics"))
    assert set(pair.cross_directions) == {("radiomics", "ct"), ("ct", "radiomics")}
    assert replace(SPEC, modalities=("ct",)).cross_directions == ()


def test_a_specification_survives_json():
    for spec in (SPEC, PrognosisNetworkSpec(), published_spec([FamilySpec("shape", 14)])):
        assert build(PrognosisNetworkSpec, json.loads(json.dumps(asdict(spec))), "network") == spec


def test_tokens_of_a_schema_and_of_feature_names():
    number, stage = (
        Variable("age", "Age", "number"),
        Variable("stage", "Stage", "category", categories=("A", "B")),
    )
    found = variables_of(ClinicalSchema("s", "S", (number, stage)))
    assert found == (VariableSpec("age"), VariableSpec("stage", "category", 2))
    names = ["original_shape_A", "original_shape_B", "wavelet-LLH_glcm_Contrast"]
    families = families_of(names)
    assert families == (FamilySpec("original_shape", 2), FamilySpec("wavelet-LLH_glcm", 1))
    with pytest.raises(InputError, match="original_shape do not stand together"):
        families_of([*names, "original_shape_C"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32, "heads": 4}, "width is 32, not in 64"),
        ({"heads": 5}, "no multiple of 5 heads"),
        ({"form": "right"}, "form is 'right'"),
        ({"form": "faithful", "fusion": "hfb"}, "faithful form does not have"),
        ({"modalities": ("radiomics", "ct")}, "in their order"),
        ({"modalities": ()}, "modalities are"),
        ({"variables": (), "text_hidden": 0}, "neither variables nor text"),
        ({"families": ()}, "no family"),
        ({"variables": (VariableSpec("x", "category"),)}, "x has 0 categories"),
        ({"variables": (VariableSpec("x", "date"),)}, "kind of x is 'date'"),
        ({"ct": replace(CT, widths=(8, 10, 16))}, "no multiples of 4 groups"),
        ({"ct": replace(CT, layers=(1,))}, "differ in length"),
        ({"ct": replace(CT, conv1_kernel=4)}, "not odd"),
        ({"ct": replace(CT, conv1_stride=(1, 2, 4))}, "conv1_stride is 4"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(OptionError, match=message):
        build_network(replace(SPEC, **change))
    check_spec(SPEC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clinical": torch.zeros(5, 3)}, "clinical variables"),
        ({"radiomics": torch.zeros(5, 11)}, "radiomics"),
        ({"ct": torch.zeros(5, 2, 9, 17, 17)}, "CT"),
        ({"ct": torch.zeros(5, 1, 9, 17, 16)}, "no region of interest"),
        ({"text": torch.zeros(5, 6, 11)}, "text"),
        ({"text_mask": None}, "text mask"),
        ({"present": torch.ones(5, 2, dtype=torch.bool)}, "modality mask"),
        ({"clinical": torch.tensor([[0.0, 0, 0, 3]] * 5)}, "index 3 of stage"),
        ({"clinical": torch.tensor([[0.0, 0, 0.5, 1]] * 5)}, "index 0.5 of hbv"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        network_of(SPEC)(replace(patients(), **change))


def test_the_specification_needs_no_torch():
    import subprocess

    code = (
        "import sys, REACTKDLib.prognosis.networks.spec, REACTKDLib.prognosis.explain;"
        "assert not {'torch', 'SimpleITK', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, fusion="concatenation")], ids=["tmi", "cat"])
def test_positions_outside_the_region_are_left_out_and_come_back(spec):
    """Packing saves time and changes nothing: the network on all positions gives the same."""
    network, batch = network_of(spec), some_missing()
    roi = batch.roi.clone()
    roi[:, :, :, :, roi.shape[4] // 2 :] = 0
    batch = replace(batch, roi=roi)
    with torch.inference_mode():
        streams = network.encode(batch)
        packed, index = streams["ct"].packed()
        most = int(streams["ct"].mask.sum(dim=1).max())
        assert packed.mask.shape[1] == most < streams["ct"].mask.shape[1]
        for row, tokens in enumerate(streams["ct"].tokens):
            assert torch.equal(packed.tokens[row], tokens[index[row]])
        whole = network.aggregate(streams)
        vectors, presence = summaries(whole, spec.width)
        expected, found = network.fusion(whole, vectors, presence), network(batch)
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert torch.allclose(found.vectors, vectors, atol=1e-5)
    if expected.attention is not None:
        grid = streams["ct"].grid
        assert torch.allclose(found.ct_attention.flatten(1), expected.attention, atol=1e-6)
        assert torch.allclose(
            found.ct_logits, expected.ct_logits.transpose(1, 2).unflatten(2, grid), atol=1e-6
        )
