"""The student of a model package as an ONNX graph, from its weights alone.

Written with the ``onnx`` package rather than exported by torch: no run needs torch then (its
import takes longer than a case), every set of modalities has a graph of its own in milliseconds,
and nothing that a program could execute lies on the disk. The graph says what :mod:`.student`,
:mod:`.segresnet` and :mod:`.cbam3d` say, and must be changed with them;
``Testing/unit/test_onnx_student.py`` compares both over the shapes that a package can describe.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EnvironmentProblem, ModelPackageError

if TYPE_CHECKING:
    import onnx

    from ..model_package import ModelSpec

#: Outputs in order, as in :class:`~.student.StudentOutput`.
OUTPUTS = ("logits", "features", "attention", "pooled")

#: Axes (k, j, i) of what has the shape (N, C, k, j, i).
_SPACE = (2, 3, 4)

#: Understood by every ONNX Runtime since 1.13 and by OpenVINO; the newest operator is older.
_OPSET, _IR_VERSION = 17, 8

_BATCH_NORM_EPSILON = 1e-5  # torch's default


def student_graph(
    spec: ModelSpec,
    weights: Mapping[str, np.ndarray],
    modalities: Sequence[str],
    notes: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The student for one set of modalities.

    Inputs, float32: every modality and ``roi``, (n, 1, k, j, i), and ``weights``
    (n, 1, k', j', i'), the pooling weights on the feature grid; sizes are free. Outputs:
    :data:`OUTPUTS`, the feature map second. ``weights`` are the tensors of the network's state,
    ``notes`` become the graph's metadata.

    Raises
    ------
    EnvironmentProblem : the package ``onnx`` is not installed.
    ModelPackageError : a tensor is missing or has another shape than the network needs.
    ValueError : no modality, or one that the network does not have.
    """
    unknown = sorted(set(modalities) - set(spec.modality_names))
    if unknown or not modalities:
        raise ValueError(
            f"Modalities {sorted(modalities)} given; the network has {spec.modality_names}."
        )
    return _Graph(spec, weights).model(
        [name for name in spec.modality_names if name in modalities], notes or {}
    )


def check_weights(spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> None:
    """Refuse weights that do not fit the network, whatever the modalities.

    Raises
    ------
    EnvironmentProblem : as :func:`student_graph`.
    ModelPackageError : a tensor is missing, has another shape, or is none of the network's.
    """
    graph = student_graph(spec, weights, spec.modality_names)
    used = {tensor.name for tensor in graph.graph.initializer}
    unused = [n for n in weights if n not in used and not n.endswith(".num_batches_tracked")]
    if unused:
        raise ModelPackageError(
            f"{spec.name}: the weights do not fit the network: it has no {', '.join(unused[:3])}.",
            "Download the package again.",
        )


class _Graph:
    """Nodes and constants under construction. Methods take and return names of values."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> None:
        try:
            import onnx
        except ImportError as error:
            raise EnvironmentProblem(
                "The Python package onnx is not installed.",
                "Install it: pip install 'reactkd[onnx]', or 'reactkd[openvino]'.",
            ) from error
        self._onnx = onnx
        self._spec = spec
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def model(self, modalities: list[str], notes: Mapping[str, str]) -> onnx.ModelProto:
        network = self._spec.network
        rois = ["roi"]
        for stride in network.strides:
            rois.append(self._pool_maximum(rois[-1], stride))
        found = [self._branch(name, rois) for name in modalities]
        total = found[0][0] if len(found) == 1 else self._add("Sum", [b for b, _ in found])
        self._add("Sigmoid", [total], output="features")
        self._add("Mean", [attention for _, attention in found], output="attention")
        weighted = self._add("Mul", ["features", "weights"])
        pooled = self._reduce("ReduceSum", weighted, _SPACE)
        self._add("Flatten", [pooled], output="pooled")
        shape = (len(self._spec.classes), network.fused_channels)
        weight, bias = self._weight("head.weight", shape), self._weight("head.bias", shape[:1])
        self._add("Gemm", ["pooled", weight, bias], output="logits", transB=1)
        return self._finish(modalities, notes)

    def _branch(self, modality: str, rois: list[str]) -> tuple[str, str]:
        """Encoder, projection and attention of one modality: its features, its attention."""
        network = self._spec.network
        encoder, features, channels = f"encoders.{modality}", modality, 1
        strides = (*network.strides, network.strides[-1])
        width = network.init_filters
        kernel = _kernel(strides[0])
        inside = self._add("Mul", [features, rois[0]])
        features = self._convolution(f"{encoder}.conv_init", inside, channels, width, kernel)
        for level, (blocks, stride) in enumerate(zip(network.blocks_down, strides, strict=True)):
            layer, kernel = f"{encoder}.layers.{level}", _kernel(stride)
            for block in range(blocks):
                inner = features
                for part in (1, 2):
                    name = f"{layer}.blocks.{block}"
                    inner = self._add("Relu", [self._norm(f"{name}.norm{part}", inner, width)])
                    inner = self._add("Mul", [inner, rois[level]])
                    name = f"{name}.conv{part}"
                    inner = self._convolution(name, inner, width, width, kernel)
                features = self._add("Add", [features, inner])
            if level < len(network.strides):
                inside = self._add("Mul", [features, rois[level]])
                name = f"{layer}.downsample"
                features = self._convolution(name, inside, width, 2 * width, kernel, stride)
                width *= 2
        name = f"projections.{modality}"
        fused = self._convolution(
            name, features, width, network.fused_channels, (1, 1, 1), bias=True
        )
        return self._cbam(fused, rois[-1])

    def _cbam(self, features: str, roi: str) -> tuple[str, str]:
        """As :class:`~.cbam3d.CBAM3D` or, without ``cbam``, :class:`~.cbam3d.NoAttention`."""
        network = self._spec.network
        if not network.cbam:
            return features, self._add("Exp", [self._add("Sub", [roi, roi])])
        outside = self._add("Equal", [roi, self._constant("zero", np.float32(0))])
        lowest = self._constant("lowest", np.float32(-np.inf))
        masked = self._add("Where", [outside, lowest, features])
        maximum = self._reduce("ReduceMax", masked, _SPACE)
        summed = self._add("Add", [self._mlp(self._mean_within(features, roi)), self._mlp(maximum)])
        features = self._add("Mul", [features, self._add("Sigmoid", [summed])])
        summary = self._add(
            "Concat",
            [self._reduce("ReduceMean", features, (1,)), self._reduce("ReduceMax", features, (1,))],
            axis=1,
        )
        kernel = (network.attention_kernel,) * 3
        inside = self._add("Mul", [summary, roi])
        logits = self._convolution("cbam.spatial", inside, 2, 1, kernel)
        centred = self._add("Sub", [logits, self._mean_within(logits, roi)])
        attention = self._add("Sigmoid", [centred])
        return self._add("Mul", [features, attention]), attention

    def _mlp(self, pooled: str) -> str:
        """The shared MLP of (N, C, 1, 1, 1), its layers as convolutions of one position."""
        channels = self._spec.network.fused_channels
        hidden = max(1, channels // self._spec.network.attention_ratio)
        inner = self._linear("cbam.shared_mlp.0", pooled, channels, hidden)
        return self._linear("cbam.shared_mlp.2", self._add("Relu", [inner]), hidden, channels)

    def _linear(self, name: str, values: str, before: int, after: int) -> str:
        weight = self._weight(f"{name}.weight", (after, before), (after, before, 1, 1, 1))
        return self._add("Conv", [values, weight, self._weight(f"{name}.bias", (after,))])

    def _mean_within(self, features: str, roi: str) -> str:
        inside = self._reduce("ReduceSum", self._add("Mul", [features, roi]), _SPACE)
        return self._add("Div", [inside, self._reduce("ReduceSum", roi, _SPACE)])

    def _pool_maximum(self, values: str, stride: tuple[int, int, int]) -> str:
        kernel = _kernel(stride)
        return self._add(
            "MaxPool", [values], kernel_shape=kernel, strides=stride, pads=_padding(kernel)
        )

    def _convolution(
        self,
        name: str,
        values: str,
        before: int,
        after: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        bias: bool = False,
    ) -> str:
        inputs = [values, self._weight(f"{name}.weight", (after, before, *kernel))]
        if bias:
            inputs.append(self._weight(f"{name}.bias", (after,)))
        return self._add("Conv", inputs, kernel_shape=kernel, strides=stride, pads=_padding(kernel))

    def _norm(self, name: str, values: str, channels: int) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [values, *(self._weight(f"{name}.{part}", (channels,)) for part in parts)]
        return self._add("BatchNormalization", inputs, epsilon=_BATCH_NORM_EPSILON)

    def _reduce(self, kind: str, values: str, axes: tuple[int, ...]) -> str:
        # Only the sum takes its axes as an input in this operator set.
        if kind == "ReduceSum":
            name = "axes_" + "_".join(map(str, axes))
            return self._add(kind, [values, self._constant(name, np.array(axes, np.int64))])
        return self._add(kind, [values], axes=axes)

    def _weight(
        self, name: str, shape: tuple[int, ...], stored: tuple[int, ...] | None = None
    ) -> str:
        """A tensor of the network's state, checked; in the graph it has the shape ``stored``."""
        tensor = self._weights.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
            found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
            raise ModelPackageError(
                f"{self._spec.name}: the weights do not fit the network: {name} is {found}, not"
                f" float32 {shape}.",
                "Download the package again.",
            )
        return self._constant(name, tensor.reshape(stored or shape))

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        )
        return output

    def _finish(self, modalities: list[str], notes: Mapping[str, str]) -> onnx.ModelProto:
        helper = self._onnx.helper
        fine, coarse = ["k", "j", "i"], ["feature_k", "feature_j", "feature_i"]
        channels = self._spec.network.fused_channels
        shapes: dict[str, list[str | int]] = {
            **{name: ["n", 1, *fine] for name in (*modalities, "roi")},
            "weights": ["n", 1, *coarse],
            "logits": ["n", len(self._spec.classes)],
            "features": ["n", channels, *coarse],
            "attention": ["n", 1, *coarse],
            "pooled": ["n", channels],
        }
        values = {
            name: helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        }
        graph = helper.make_graph(
            self._nodes,
            self._spec.name,
            [value for name, value in values.items() if name not in OUTPUTS],
            [values[name] for name in OUTPUTS],
            list(self._constants.values()),
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="reactkd"
        )
        helper.set_model_props(model, dict(notes))
        return model


def _kernel(stride: tuple[int, int, int]) -> tuple[int, int, int]:
    """As :func:`~.segresnet.kernel_for`, which needs torch."""
    k, j, i = (3 if step > 1 else 1 for step in stride)
    return (k, j, i)


def _padding(kernel: Sequence[int]) -> list[int]:
    """Zeros before and after each axis that centre a kernel on its voxel."""
    return list(itertools.chain([n // 2 for n in kernel], [n // 2 for n in kernel]))
