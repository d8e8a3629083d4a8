"""What an exported MONAI bundle runs: the student as a network of one image, and how a case becomes
that image. Needs torch, not MONAI.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..model_package import ModelSpec, NetworkSpec, spec_from_section
from ..normalise import normalise
from ..read import StudyFiles, read_study
from ..roi import locate_roi
from ..typed_json import build
from .student import Student


class BundleNetwork(nn.Module):
    """The student for a fixed set of modalities, reading one image and giving logits.

    Parameters
    ----------
    modalities : names, in the network's order.
    classes : number of classes.
    network : fields of ``NetworkSpec``.
    """

    def __init__(self, modalities: Sequence[str], classes: int, network: Mapping[str, Any]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        spec: NetworkSpec = build(NetworkSpec, dict(network), "network")
        self.student = Student(self.modalities, classes, spec)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of an image of :class:`PrepareCase`, (N, modalities + 2, k, j, i)."""
        *volumes, roi, weights = image.split(1, dim=1)
        cells = self.student.cells(weights)
        cells = cells / cells.sum(dim=(2, 3, 4), keepdim=True)
        return self.student(dict(zip(self.modalities, volumes, strict=True)), roi, cells).logits


class PrepareCase:
    """A MONAI transform: paths of one case to ``image`` and ``case``, its name.

    The image, float32 (modalities + 2, k, j, i), holds the volumes as
    :func:`REACTKDLib.normalise.normalise` makes them, the region of interest and the pooling
    weights.

    Parameters
    ----------
    metadata : ``metadata.json`` of the bundle.
    modalities : names, in the network's order; a case has a path for each and for
        ``segmentation`` (a path, or a list of them).
    """

    def __init__(self, metadata: str, modalities: Sequence[str]) -> None:
        section = json.loads(Path(metadata).read_text(encoding="utf-8"))["reactkd"]
        names = {field.name for field in dataclasses.fields(ModelSpec)}
        self.spec = spec_from_section({k: v for k, v in section.items() if k in names})
        self.modalities = tuple(modalities)

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Raises
        ------
        InputError : as ``REACTKDLib.pipeline.run_case``, for files that cannot be used.
        """
        labels = case["segmentation"]
        files = StudyFiles(
            ct=Path(case["ct"]),
            segmentation=tuple(map(Path, [labels] if isinstance(labels, (str, Path)) else labels)),
            pet={name: Path(case[name]) for name in self.modalities if name != "ct"},
        )
        study = read_study(files, self.spec.role_rules)
        inputs = normalise(study, locate_roi(study, self.spec), self.spec)
        channels = [*(inputs.volumes[name] for name in self.modalities), inputs.roi, inputs.weights]
        return {"image": torch.from_numpy(np.stack(channels)), "case": study.case_id}
