"""Background, organ and lesion in the region of interest: truth, crops, network, loss, Dice.

The network sees the region of interest alone, as the student does, for two reasons. Prepared
intensities are 0 outside it, so that a whole crop would hold nothing more; and filters that had
learnt the rest of the body would meet in the student what they were never trained on. What is left
to learn is organ against lesion, and organ against the margin of a few mm around it. The border of
the region lies parallel to the organ's and gives the latter away: the Dice of the organ says that
training works, the Dice of the lesion says what the encoder has learnt.

Sources: Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), 2023, for task and Dice, with
lesions counted as part of the organ; Milletari et al., V-Net, 2016, for the Dice loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.errors import InputError
from REACTKDLib.model_package import NetworkSpec
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.segresnet import (
    SegResEncoder,
    Stride,
    kernel_for,
    padding_for,
    roi_pyramid,
)

from .batches import Batch, Shown
from .engine import Objective
from .prepare import PreparedCase

BACKGROUND, ORGAN, LESION = 0, 1, 2

#: Voxels by which a crop's centre is moved at random, at most a quarter of the crop's length.
_JITTER = 4


@dataclass(frozen=True, eq=False)
class Example:
    """A case to segment; arrays (k, j, i). ``unit``, ``ct`` z-scored and ``roi`` 0..1 as in
    :class:`training.prepare.PreparedCase`; ``truth`` uint8, :data:`BACKGROUND`, ... ."""

    patient: str
    unit: str
    ct: np.ndarray
    roi: np.ndarray
    truth: np.ndarray


def example_of(case: PreparedCase) -> Example:
    """The example that a prepared case makes; what lies outside its region is background.

    Raises
    ------
    InputError : a case without CT, or prepared without regions.
    """
    if "ct" not in case.volumes or case.regions is None:
        lacking = "regions" if "ct" in case.volumes else "CT"
        raise InputError(
            f"{case.patient} was prepared without {lacking}.", "Prepare the case again."
        )
    truth = np.where(case.lesion > 0.5, LESION, np.where(case.regions > 0, ORGAN, BACKGROUND))
    truth = np.where(case.roi > 0, truth, BACKGROUND).astype(np.uint8)
    return Example(case.patient, case.unit, case.volumes["ct"], case.roi, truth)


@dataclass(frozen=True)
class Crops:
    """``size`` of a crop (k, j, i), voxels; ``lesion_share`` 0..1, how often it is drawn around a
    voxel of a lesion (where the case has one) rather than anywhere in the region of interest;
    ``per_case`` crops of every case in an epoch."""

    size: tuple[int, int, int] = (16, 32, 32)
    lesion_share: float = 0.5
    per_case: int = 2


def crop_batches(
    examples: Sequence[Example],
    crops: Crops,
    batch_size: int,
    rng: np.random.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    """An epoch of crops in random order, mirrored at random.

    ``regions`` of a batch are organ and lesion, (N, 2, k, j, i), which do not overlap. A last batch
    of fewer crops is dropped.
    """
    order = rng.permutation(np.repeat(np.arange(len(examples)), crops.per_case))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        chosen = [examples[n] for n in order[start : start + batch_size]]
        yield _batch(chosen, [_draw_crop(example, crops, rng) for example in chosen], device)


def _draw_crop(example: Example, crops: Crops, rng: np.random.Generator) -> Shown:
    around_lesion = rng.random() < crops.lesion_share
    voxels = np.argwhere(example.truth == LESION) if around_lesion else np.empty((0, 3))
    if not len(voxels):
        voxels = np.argwhere(example.roi > 0.5)
    size = np.array(crops.size)
    jitter = np.minimum(_JITTER, size // 4)
    centre = voxels[rng.integers(len(voxels))] + rng.integers(-jitter, jitter + 1)
    last = np.maximum(np.array(example.roi.shape) - size, 0)
    k, j, i = (int(n) for n in np.clip(centre - size // 2, 0, last))
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
    return Shown(example.patient, None, (k, j, i), crops.size, axes)


def _batch(examples: Sequence[Example], shown: Sequence[Shown], device: torch.device) -> Batch:
    def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
        crops = [one.of(array) for one, array in zip(shown, arrays, strict=True)]
        return torch.from_numpy(np.stack(crops).astype(np.float32)).to(device)[:, None]

    roi, truth = stacked([e.roi for e in examples]), stacked([e.truth for e in examples])
    return Batch(
        volumes={"ct": stacked([e.ct for e in examples])},
        present={"ct": np.ones(len(examples), dtype=bool)},
        roi=roi,
        weights=roi / roi.sum(dim=(2, 3, 4), keepdim=True),
        lesion=(truth == LESION).float(),
        regions=torch.cat([truth == ORGAN, truth == LESION], dim=1).float(),
        labels=torch.zeros(len(examples), dtype=torch.long, device=device),
        shown=tuple(shown),
    )


class Decoder(nn.Module):
    """From the deepest level back to voxels: convolution, batch norm, ReLU, upsampling per level.

    Without skip connections: the deepest level, which the student reads, must know everything.
    """

    def __init__(self, init_filters: int, strides: Sequence[Stride]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.steps = nn.ModuleList()
        for level in reversed(range(len(self.strides))):
            kernel, padding = kernel_for(strides[level]), padding_for(strides[level])
            channels = init_filters * 2**level
            conv = nn.Conv3d(2 * channels, channels, kernel, padding=padding, bias=False)
            self.steps.append(nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU()))
        kernel, padding = kernel_for(strides[0]), padding_for(strides[0])
        self.head = nn.Conv3d(init_filters, LESION + 1, kernel, padding=padding)

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Logits (N, 3, k, j, i) on a grid of ``size`` (k, j, i) from features (N, C, k', ...)."""
        sizes = [tuple(size)]
        for stride in self.strides[:-1]:
            sizes.append(tuple(-(-n // s) for n, s in zip(sizes[-1], stride, strict=True)))
        finer = zip(self.steps, reversed(self.strides), reversed(sizes), strict=True)
        for step, stride, wanted in finer:
            features = _upsampled(step(features), stride, wanted)
        return self.head(features)


def _upsampled(features: Tensor, stride: Stride, size: Sequence[int]) -> Tensor:
    """Linear, with cell o on voxel stride * o, as the encoder's strided convolutions put it; the
    voxels beyond the last cell repeat it."""
    lattice = [(n - 1) * s + 1 for n, s in zip(features.shape[2:], stride, strict=True)]
    between = functional.interpolate(features, lattice, mode="trilinear", align_corners=True)
    k, j, i = (n - there for n, there in zip(size, lattice, strict=True))
    return functional.pad(between, (0, i, 0, j, 0, k), mode="replicate")


class SegmentationNetwork(nn.Module):
    """The student's encoder of one modality with a :class:`Decoder`."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = SegResEncoder(spec.init_filters, spec.blocks_down, spec.strides)
        self.decoder = Decoder(spec.init_filters, spec.strides)
        use_onednn(self)

    def forward(self, volume: Tensor, roi: Tensor) -> Tensor:
        """Logits (N, 3, k, j, i), of use where ``roi`` is above 0.

        ``volume`` and ``roi`` (N, 1, k, j, i), as the student's encoders read them.
        """
        cells = roi_pyramid(roi, self.encoder.strides)[-1]
        return self.decoder(self.encoder(volume, roi) * cells, volume.shape[2:])


class SegmentationObjective(Objective):
    """Dice of organ and lesion plus cross entropy, over the voxels of the region of interest.

    The Dice is that of the whole batch, since half of the crops may have no lesion.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network: SegmentationNetwork = network
        self.loss = DiceCELoss(include_background=False, softmax=True, batch=True)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``segmentation``."""
        logits = self.network(batch.volumes["ct"], batch.roi).float()
        background = 1 - batch.regions.sum(dim=1, keepdim=True)
        truth = torch.cat([background, batch.regions], dim=1)
        shown = batch.roi[:, 0] > 0
        # One row (1, 3, voxels): both losses are sums over voxels, whatever their arrangement.
        rows = [t.movedim(1, -1)[shown].T[None] for t in (logits, truth)]
        return {"segmentation": self.loss(*rows)}


@dataclass(frozen=True)
class CaseDice:
    """Dice of one case, 0..1; NaN for lesions where it has none.

    ``organ`` is that of the organ with its lesions. ``organ_chance`` and ``lesion_chance`` are what
    an answer without an image has: that all of the region of interest is the one or the other.
    """

    patient: str
    organ: float
    lesion: float
    organ_chance: float
    lesion_chance: float


def segment(network: SegmentationNetwork, example: Example, device: torch.device) -> np.ndarray:
    """Most probable class of every voxel, uint8 (k, j, i), of a whole case; evaluation mode."""
    network.eval()
    ct, roi = (
        torch.from_numpy(array.astype(np.float32)).to(device)[None, None]
        for array in (example.ct, example.roi)
    )
    with torch.inference_mode():
        found = network(ct, roi)[0].argmax(dim=0)
    return np.where(example.roi > 0, found.cpu().numpy(), BACKGROUND).astype(np.uint8)


def measure(network: SegmentationNetwork, example: Example, device: torch.device) -> CaseDice:
    """Dice of a whole case."""
    found, truth, everything = segment(network, example, device), example.truth, example.roi > 0
    organ, lesion = truth != BACKGROUND, truth == LESION
    return CaseDice(
        example.patient,
        organ=dice(found != BACKGROUND, organ),
        lesion=dice(found == LESION, lesion),
        organ_chance=dice(everything, organ),
        lesion_chance=dice(everything, lesion),
    )


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks of one shape; NaN where there is nothing to find."""
    if not truth.any():
        return float("nan")
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))
