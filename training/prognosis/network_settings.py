"""Settings of a network as a method of a study, and the network that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.metadata import TextEncoderSpec
from REACTKDLib.prognosis.networks.spec import (
    FaithfulSpec,
    PrognosisNetworkSpec,
    ResNetSpec,
    check_spec,
    families_of,
    variables_of,
)
from REACTKDLib.prognosis.scaling import PrognosisScaling
from REACTKDLib.prognosis.types import CLINICAL, CT, MODALITIES, RADIOMICS, ClinicalSchema

from .dropout import DropoutSpec
from .losses import PrognosisLossSpec

__all__ = ["NetworkSettings", "NetworkShape", "network_spec"]


@dataclass(frozen=True)
class NetworkShape:
    """Sizes, as in :class:`REACTKDLib.prognosis.networks.spec.PrognosisNetworkSpec`.

    The default CT encoder is small: a few hundred patients teach no large one.
    """

    width: int = 64
    heads: int = 4
    layers: int = 1
    directions: str = "cyclic"
    dropout: float = 0.2
    ct: ResNetSpec = field(
        default_factory=lambda: ResNetSpec(
            layers=(1, 1), widths=(16, 32), conv1_kernel=3, conv1_stride=(2, 2, 2)
        )
    )
    faithful: FaithfulSpec = field(default_factory=FaithfulSpec)


@dataclass(frozen=True)
class Augmentation:
    """Of the CT in training: ``flip`` mirrors along each axis for one patient in two; ``noise`` is
    the standard deviation of what is added to normalised intensities."""

    flip: bool = True
    noise: float = 0.05


@dataclass(frozen=True)
class NetworkSettings:
    """How a network is built and trained.

    Parameters
    ----------
    inputs : the modalities that it has, in the order of ``MODALITIES``.
    form, intra_modality_aggregation, cross_attention, shape : the network; ablations change it and
        nothing of the budget. ``loss.fusion`` 0 is the ablation of the feature-fusion loss.
    text : the language model that reads the clinical text, and what it is given; None for none.
    variables : False hides the clinical variables' own tokens, so that the text alone speaks.
    epochs : at most; an epoch shows every patient of the more frequent outcome once where batches
        are ``balanced``, else every patient once.
    patience : training ends when so many measurements on the selection patients, one every
        ``select_every`` epochs, were no better than the best; the best one's weights are kept.
    warm_up : part of the steps in which the learning rate rises; it then falls as a cosine.
    clip : greatest norm of the gradient.
    lesions : weight of a second task in training, where patients have lesions drawn: each position
        of the CT says how much of it is lesion. An outcome of one bit per patient teaches a CT
        encoder little. Nothing of it is in the network that comes out.
    lesion_epochs : of that task alone, before the outcome is learnt; none where ``lesions`` is 0.
    members : 1 trains one network on the training part; more split all patients of both parts into
        so many, train a network on all but each, which selects on that one, and average log odds.
    """

    inputs: tuple[str, ...] = MODALITIES
    form: str = "corrected"
    intra_modality_aggregation: bool = True
    cross_attention: bool = True
    shape: NetworkShape = field(default_factory=NetworkShape)
    text: TextEncoderSpec | None = None
    variables: bool = True
    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1
    clip: float = 1.0
    patience: int = 15
    select_every: int = 1
    balanced: bool = True
    lesions: float = 1.0
    lesion_epochs: int = 0
    members: int = 1
    dropout: DropoutSpec = field(default_factory=DropoutSpec)
    loss: PrognosisLossSpec = field(default_factory=PrognosisLossSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        counts = (self.epochs, self.patience, self.select_every, self.members, self.batch_size - 1)
        rates = (self.learning_rate, self.clip)
        if (
            min(counts) < 1
            or min(rates) <= 0
            or self.weight_decay < 0
            or min(self.augmentation.noise, self.lesions, self.lesion_epochs) < 0
        ):
            raise OptionError(
                "A network's training has a number that cannot be: epochs, patience, select_every"
                " and members are 1 or more, batch_size 2 or more, learning_rate and clip above 0,"
                " weight_decay, lesions, lesion_epochs and noise not below.",
                "Correct the settings of the method.",
            )
        if not 0 <= self.warm_up < 1:
            raise OptionError(f"warm_up is {self.warm_up}.", "Give a part below 1.")


def network_spec(
    settings: NetworkSettings,
    fusion: str,
    scaling: PrognosisScaling,
    schema: ClinicalSchema | None,
    imaged: bool = True,
    text_hidden: int = 0,
) -> PrognosisNetworkSpec:
    """The network for what the scaling of the training patients knows.

    ``imaged`` : some of them have a CT. ``text_hidden`` : width of the language model, 0 for none.

    Raises
    ------
    InputError : no training patient has an input that the network reads.
    OptionError : settings from which no network can be built.
    """
    tabular = settings.variables and scaling.clinical is not None and schema is not None
    known = {CT: imaged, CLINICAL: tabular or bool(text_hidden)}
    known[RADIOMICS] = scaling.radiomics is not None
    if absent := [name for name in settings.inputs if not known.get(name, True)]:
        raise InputError(
            f"No training patient has {' or '.join(absent)}.",
            "Leave the method out, or give it other inputs.",
        )
    shape = settings.shape
    clinical = CLINICAL in settings.inputs
    kept: Sequence[str] = scaling.radiomics.kept if scaling.radiomics is not None else ()
    spec = PrognosisNetworkSpec(
        modalities=settings.inputs,
        variables=variables_of(schema) if clinical and tabular and schema is not None else (),
        text_hidden=text_hidden if clinical else 0,
        families=families_of(kept) if RADIOMICS in settings.inputs else (),
        ct=shape.ct,
        width=shape.width,
        heads=shape.heads,
        layers=shape.layers,
        directions=shape.directions,
        form=settings.form,
        fusion=fusion,
        dropout=shape.dropout,
        intra_modality_aggregation=settings.intra_modality_aggregation,
        cross_attention=settings.cross_attention,
        faithful=shape.faithful,
    )
    check_spec(spec)
    return spec
