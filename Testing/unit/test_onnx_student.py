"""The student as an ONNX graph says what the student in torch says."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from random_models import random_student, specification

from REACTKDLib.errors import ModelPackageError
from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.onnx_student import OUTPUTS, check_weights, student_graph
from REACTKDLib.networks.student import Student

onnx = pytest.importorskip("onnx", reason="the graph is written with the package onnx")

SPEC = spec_from_section(specification())
MODALITIES = SPEC.modality_names
SETS = [
    names for n in range(1, len(MODALITIES) + 1) for names in itertools.combinations(MODALITIES, n)
]
SHAPES = {
    "no attention": {"cbam": False},
    "one wide channel": {"fused_channels": 4, "attention_ratio": 8, "attention_kernel": 3},
    "blocks": {"blocks_down": (2, 1, 3), "init_filters": 2},
    "strides": {"strides": ((2, 1, 2), (1, 2, 1))},
}


def student(spec=SPEC, seed=0) -> Student:
    """Random weights, norms that have seen data, features spread over 0..1."""
    made = random_student(spec, seed)
    rng = torch.Generator().manual_seed(seed)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3, generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
            module.weight.data.uniform_(0.5, 1.5, generator=rng)
            module.bias.data.normal_(0, 0.3, generator=rng)
    for name, projection in made.projections.items():
        inputs = torch.from_numpy(case((name,), spec.network.total_stride)[name])
        deepest = made.encoders[name](inputs)
        projection.weight.data *= 20 / made.projections[name](deepest).std()
    return made.requires_grad_(False)


def state(network: Student) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def case(names, stride, shape=(11, 21, 17), count=1, seed=0) -> dict[str, np.ndarray]:
    """Volumes, a soft region of interest with empty cells, and pooling weights of that sum."""
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(size=(count, 1, *shape)) for name in names}
    inputs["roi"] = rng.random((count, 1, *shape))
    inputs["roi"][..., : shape[1] // 2, :] = 0
    cells = tuple(-(-n // step) for n, step in zip(shape, stride, strict=True))
    weights = rng.random((count, 1, *cells))
    inputs["weights"] = weights / weights.sum(axis=(2, 3, 4), keepdims=True)
    return {name: array.astype(np.float32) for name, array in inputs.items()}


def in_torch(network: Student, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    roi, weights = tensors.pop("roi"), tensors.pop("weights")
    output = network(tensors, roi, weights)
    return [getattr(output, name).numpy() for name in OUTPUTS]


def by_the_reference(graph, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the ONNX standard's own evaluator says, operator by operator, in numpy."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(graph).run(None, inputs)


def assert_same(found, expected) -> None:
    for name, ours, theirs in zip(OUTPUTS, found, expected, strict=True):
        assert ours.shape == theirs.shape, name
        assert np.allclose(ours, theirs, atol=2e-5), (name, np.abs(ours - theirs).max())


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_every_set_of_modalities_gives_torchs_output(names):
    runtime = pytest.importorskip("onnxruntime")
    network, inputs = student(), case(names, SPEC.network.total_stride, count=2)
    graph = student_graph(SPEC, state(network), names)
    onnx.checker.check_model(graph, full_check=True)
    session = runtime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [value.name for value in session.get_outputs()] == list(OUTPUTS)
    expected = in_torch(network, inputs)
    assert 0.05 < expected[1].std() < 0.45  # features that say something
    assert_same(session.run(None, inputs), expected)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_network_gives_torchs_output_by_the_standards_evaluator(name):
    spec = dataclasses.replace(SPEC, network=dataclasses.replace(SPEC.network, **SHAPES[name]))
    network = student(spec, seed=3)
    names = ("ct", "pet_acetate")
    inputs = case(names, spec.network.total_stride, shape=(5, 7, 6), seed=4)
    graph = student_graph(spec, state(network), names)
    onnx.checker.check_model(graph, full_check=True)
    assert_same(by_the_reference(graph, inputs), in_torch(network, inputs))


def test_the_order_of_the_modalities_does_not_matter():
    weights = state(student())
    one = student_graph(SPEC, weights, ("ct", "pet_fdg"))
    assert student_graph(SPEC, weights, ("pet_fdg", "ct")) == one


def test_notes_are_the_graphs_metadata():
    graph = student_graph(SPEC, state(student()), ("ct",), {"package": "a", "use": "b"})
    assert {p.key: p.value for p in graph.metadata_props} == {"package": "a", "use": "b"}


@pytest.mark.parametrize("names", [(), ("ct", "mri")])
def test_modalities_that_the_network_does_not_have_are_refused(names):
    with pytest.raises(ValueError, match="the network has"):
        student_graph(SPEC, state(student()), names)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.bias", None, "head.bias is missing"),
        ("encoders.pet_fdg.conv_init.weight", np.zeros((1, 1), np.float32), r"float32 \(1, 1\)"),
        ("cbam.spatial.weight", np.zeros((1, 2, 7, 7, 7)), "float64"),
        ("extra", np.zeros(1, np.float32), "has no extra"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_name(name, value, message):
    weights = state(student())
    check_weights(SPEC, weights)
    weights.pop(name, None)
    if value is not None:
        weights[name] = value
    with pytest.raises(ModelPackageError, match=message):
        check_weights(SPEC, weights)
