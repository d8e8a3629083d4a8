"""What a prognosis network is made of. No torch: the panel and the model packages read it.

Source: TMI-CLNet (arXiv 2502.00695) and the authors' code. ``form`` "corrected" is the method with
real token sequences and logits; "faithful" is the published form with its degeneracies
(:mod:`.faithful`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ...errors import InputError, OptionError
from ..types import CLINICAL, CT, MODALITIES, RADIOMICS, ClinicalSchema, family

#: The published cycle: who asks whom. Text asks radiomics, radiomics the image, the image text.
CYCLE = (CLINICAL, RADIOMICS, CT)
_MOST = 4096


@dataclass(frozen=True)
class ResNetSpec:
    """3D ResNet of one channel, the layers of MONAI's ``ResNet`` with shortcuts of type B.

    ``block`` "basic" or "bottleneck"; ``layers`` blocks and ``widths`` channels of each stage, one
    to four stages; every stage but the first halves the grid. ``conv1_stride`` is (k, j, i), each 1
    or 2. ``norm`` "group" (of ``groups``) or "batch". ``region`` "roi": nothing outside the region
    of interest has influence; "volume": the whole volume is read.
    """

    block: str = "basic"
    layers: tuple[int, ...] = (1, 1, 1)
    widths: tuple[int, ...] = (16, 32, 64)
    conv1_kernel: int = 7
    conv1_stride: tuple[int, int, int] = (1, 2, 2)
    max_pool: bool = False
    norm: str = "group"
    groups: int = 8
    region: str = "roi"

    @property
    def channels(self) -> int:
        """Channels of the last stage's output."""
        return self.widths[-1] * (4 if self.block == "bottleneck" else 1)

    @property
    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """(k, j, i) steps from the volume to the feature map, one after the other."""
        pool = ((2, 2, 2),) if self.max_pool else ()
        return (self.conv1_stride, *pool, *(((2, 2, 2),) * (len(self.widths) - 1)))

    @property
    def total_stride(self) -> tuple[int, int, int]:
        """Voxels per position of the feature map along (k, j, i)."""
        k, j, i = 1, 1, 1
        for stride in self.strides:
            k, j, i = k * stride[0], j * stride[1], i * stride[2]
        return (k, j, i)


_WIDTHS = (64, 128, 256, 512)
#: Sizes by name. "small" keeps a finer feature map: 8 voxels per position in plane.
RESNETS = {
    "small": ResNetSpec(),
    "resnet10": ResNetSpec("basic", (1, 1, 1, 1), _WIDTHS, max_pool=True),
    "resnet18": ResNetSpec("basic", (2, 2, 2, 2), _WIDTHS, max_pool=True),
    "resnet50": ResNetSpec("bottleneck", (3, 4, 6, 3), _WIDTHS, max_pool=True),
}


@dataclass(frozen=True)
class VariableSpec:
    """One clinical variable as a token: ``kind`` number, flag or category (of ``categories``)."""

    name: str
    kind: str = "number"
    categories: int = 0


@dataclass(frozen=True)
class FamilySpec:
    """One radiomics family as a token; its ``features`` stand together in the input."""

    name: str
    features: int


@dataclass(frozen=True)
class FaithfulSpec:
    """Sizes that only the published form has: image vector, radiomics layers, 1-D DenseNet."""

    ct_features: int = 400
    radiomics_hidden: tuple[int, int] = (1024, 512)
    dense_layers: tuple[int, ...] = (6, 12, 24, 16)
    dense_growth: int = 32
    dense_features: int = 64


@dataclass(frozen=True)
class PrognosisNetworkSpec:
    """Shape of a network of prognosis.

    ``modalities`` : those it has, in the order of ``MODALITIES``. ``classes`` of the outcome.
    ``variables`` : clinical tokens, in input order; ``text_hidden`` : width of a language model's
    token vectors, 0 for none; the clinical modality may have both. ``families`` : radiomics tokens.
    ``layers`` : self-attention layers of every intra-modality aggregation. ``directions`` of the
    cross-attention: "cyclic" (three) or "all" (six). ``fusion`` : "tmi", or the comparators
    "concatenation" and "hfb" (factorised bilinear, after HFBSurv).
    ``intra_modality_aggregation`` and ``cross_attention`` False are ablations.
    """

    classes: int = 2
    modalities: tuple[str, ...] = MODALITIES
    variables: tuple[VariableSpec, ...] = ()
    text_hidden: int = 0
    families: tuple[FamilySpec, ...] = ()
    ct: ResNetSpec = field(default_factory=ResNetSpec)
    width: int = 64
    heads: int = 4
    layers: int = 1
    directions: str = "cyclic"
    form: str = "corrected"
    fusion: str = "tmi"
    dropout: float = 0.1
    intra_modality_aggregation: bool = True
    cross_attention: bool = True
    faithful: FaithfulSpec = field(default_factory=FaithfulSpec)

    @property
    def radiomics_features(self) -> int:
        """Length of the radiomics input."""
        return sum(f.features for f in self.families)

    @property
    def cross_directions(self) -> tuple[tuple[str, str], ...]:
        """(query, source) pairs of the cross-attention; of two modalities, each asks the other."""
        used = [name for name in CYCLE if name in self.modalities]
        if not self.cross_attention or len(used) < 2:
            return ()
        if self.directions == "all":
            return tuple((query, source) for query in used for source in used if source != query)
        return tuple(zip(used, [*used[1:], used[0]], strict=True))


def variables_of(schema: ClinicalSchema) -> tuple[VariableSpec, ...]:
    """Tokens of a schema's variables, in its order."""
    return tuple(VariableSpec(v.name, v.kind, len(v.categories)) for v in schema.variables)


def families_of(features: Sequence[str]) -> tuple[FamilySpec, ...]:
    """Tokens of radiomics features, in their order.

    Raises
    ------
    InputError : the features of a family do not stand together.
    """
    found = tuple(FamilySpec(name, len(list(rows))) for name, rows in groupby(features, family))
    names = [f.name for f in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"The radiomics features of the family {name} do not stand together.",
                "Sort the features by family.",
            )
    return found


def published_spec(
    families: Iterable[FamilySpec],
    text_hidden: int = 768,
    variables: Iterable[VariableSpec] = (),
    classes: int = 2,
) -> PrognosisNetworkSpec:
    """The published form at the published size: ResNet-50 of the whole volume, batch norm."""
    resnet = RESNETS["resnet50"]
    return PrognosisNetworkSpec(
        classes=classes,
        variables=tuple(variables),
        text_hidden=text_hidden,
        families=tuple(families),
        ct=ResNetSpec(resnet.block, resnet.layers, resnet.widths, 7, (1, 2, 2), True, "batch",
                      region="volume"),
        width=256,
        heads=16,
        form="faithful",
    )  # fmt: skip


def check_spec(spec: PrognosisNetworkSpec) -> None:
    """Refuse a network that cannot be built.

    Raises
    ------
    OptionError : names every problem.
    """
    problems = list(spec_problems(spec))
    if problems:
        raise OptionError(
            f"The prognosis network cannot be built: {' '.join(problems)}",
            "Correct the network's specification.",
        )


def spec_problems(spec: PrognosisNetworkSpec) -> Iterator[str]:
    """What cannot be built, one sentence each."""
    for name, value, known in (
        ("directions", spec.directions, ("cyclic", "all")),
        ("form", spec.form, ("corrected", "faithful")),
        ("fusion", spec.fusion, ("tmi", "concatenation", "hfb")),
        ("ct.block", spec.ct.block, ("basic", "bottleneck")),
        ("ct.norm", spec.ct.norm, ("group", "batch")),
        ("ct.region", spec.ct.region, ("roi", "volume")),
        *((f"kind of {v.name}", v.kind, ("number", "flag", "category")) for v in spec.variables),
    ):
        if value not in known:
            yield f"{name} is {value!r}, not one of {', '.join(known)}."
    if not spec.modalities or spec.modalities != tuple(
        m for m in MODALITIES if m in spec.modalities
    ):
        yield f"modalities are {spec.modalities}, not some of {MODALITIES} in their order."
    if spec.form == "faithful" and spec.fusion != "tmi":
        yield f"fusion is {spec.fusion!r}, which the faithful form does not have."
    if CLINICAL in spec.modalities and not spec.variables and not spec.text_hidden:
        yield "the clinical modality has neither variables nor text."
    if RADIOMICS in spec.modalities and not spec.families:
        yield "the radiomics have no family."
    for variable in spec.variables:
        if variable.kind == "category" and not 1 <= variable.categories <= _MOST:
            yield f"{variable.name} has {variable.categories} categories."
    yield from _size_problems(spec)


def _size_problems(spec: PrognosisNetworkSpec) -> Iterator[str]:
    ct = spec.ct
    # Width 1 is what makes the published cross-attention degenerate.
    smallest = 64 if spec.form == "corrected" else 1
    for name, low, high, values in (
        ("classes", 2, _MOST, (spec.classes,)),
        ("width", smallest, _MOST, (spec.width,)),
        ("heads", 1, spec.width, (spec.heads,)),
        ("layers", 1, 32, (spec.layers,)),
        ("text_hidden", 0, 65536, (spec.text_hidden,)),
        ("dropout", 0, 0.9, (spec.dropout,)),
        ("features of a family", 1, 65536, tuple(f.features for f in spec.families)),
        ("the number of ct stages", 1, 4, (len(ct.widths),)),
        ("ct.widths", 1, _MOST, ct.widths),
        ("ct.layers", 1, 64, ct.layers),
        ("ct.conv1_kernel", 1, 15, (ct.conv1_kernel,)),
        ("ct.conv1_stride", 1, 2, ct.conv1_stride),
        ("ct.groups", 1, _MOST, (ct.groups,)),
        ("faithful.ct_features", 1, 65536, (spec.faithful.ct_features,)),
        ("faithful.radiomics_hidden", 1, 65536, spec.faithful.radiomics_hidden),
        ("faithful.dense_layers", 1, 64, spec.faithful.dense_layers),
        ("faithful.dense_growth", 1, _MOST, (spec.faithful.dense_growth,)),
        ("faithful.dense_features", 2, _MOST, (spec.faithful.dense_features,)),
        ("the number of dense blocks", 1, 4, (len(spec.faithful.dense_layers),)),
    ):
        for value in values:
            if not low <= value <= high:
                yield f"{name} is {value}, not in {low}..{high}."
    if spec.heads > 0 and spec.width % spec.heads:
        yield f"width {spec.width} is no multiple of {spec.heads} heads."
    if len(ct.layers) != len(ct.widths):
        yield f"ct.layers {ct.layers} and ct.widths {ct.widths} differ in length."
    if ct.conv1_kernel % 2 == 0:
        yield f"ct.conv1_kernel is {ct.conv1_kernel}, not odd."
    if ct.norm == "group" and ct.groups > 0 and any(w % ct.groups for w in ct.widths):
        yield f"ct.widths {ct.widths} are no multiples of {ct.groups} groups."
