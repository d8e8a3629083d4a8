"""What teachers say of whole cases, computed once and kept.

A teacher is frozen while students learn from it, so it answers each training case once, at each
dose, as it would in use: with the whole region of interest before it. Crops of its feature map and
the regions that a crop shows are then cut out for every batch, at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from REACTKDLib.model_package import ModelSpec

from .batches import Batch, whole_case
from .forward import view_of
from .losses import RegionGraphs, TeacherView
from .networks.teacher import Teacher
from .prepare import PreparedCase
from .processes import make_once

_FIELDS = ("logits", "pooled", "features", "nodes", "mask")


@dataclass(frozen=True)
class TeacherEntry:
    """A trained teacher; ``dosed`` : its CT is the one at the drawn dose. Its logits are divided by
    ``temperature``, fitted on held-out cases: a teacher that is sure of too little or too much
    teaches its own error."""

    network: Teacher
    dosed: bool
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one teacher.

    ``tables`` : (patient, photons) -> ``logits`` (classes,), ``pooled`` (C,), ``features``
    (C, k, j, i) in half precision on cells of ``stride`` voxels, and of the region graph of the
    whole case ``nodes`` (R, C) and ``mask`` (R,). Photons are None where the CT is as it is, and
    for a teacher that is not ``dosed``. A patient who completes no branch of the teacher is absent.
    """

    tables: dict[tuple[str, float | None], dict[str, Tensor]]
    stride: tuple[int, int, int]
    channels: int
    classes: int
    dosed: bool

    def view(self, batch: Batch) -> TeacherView:
        """The answers to the rows of a batch: logits and pooled features of the whole case, the
        feature map of the crop, the graph of the regions that the crop shows."""
        device = batch.labels.device
        found = [
            self.tables.get((s.patient, s.photons if self.dosed else None)) for s in batch.shown
        ]
        weights = functional.avg_pool3d(
            batch.weights, self.stride, ceil_mode=True, count_include_pad=False
        )
        regions = batch.regions.shape[1]
        shown = (batch.regions * batch.roi).flatten(2).amax(dim=2) > 0
        features = np.zeros((len(found), self.channels, *weights.shape[2:]), dtype=np.float16)
        nodes = torch.zeros(len(found), regions, self.channels)
        mask = torch.zeros(len(found), regions, dtype=torch.bool)
        for row, (table, one) in enumerate(zip(found, batch.shown, strict=True)):
            if table is not None:
                features[row] = one.of(table["features"].numpy(), self.stride)
                own = min(regions, len(table["mask"]))
                nodes[row, :own], mask[row, :own] = table["nodes"][:own], table["mask"][:own]

        def rows(name: str, width: int) -> Tensor:
            empty = torch.zeros(width)
            return torch.stack([empty if t is None else t[name] for t in found]).to(device)

        return TeacherView(
            logits=rows("logits", self.classes),
            features=torch.from_numpy(features).to(device).float(),
            pooled=rows("pooled", self.channels),
            graphs=RegionGraphs(nodes.to(device), mask.to(device) & shown),
            weights=weights / weights.sum(dim=(2, 3, 4), keepdim=True),
            present=torch.tensor([table is not None for table in found], device=device),
        )


def answers_of(
    teacher: TeacherEntry,
    cases: Sequence[PreparedCase],
    spec: ModelSpec,
    device: torch.device,
    kept: Path,
) -> Answers:
    """Answers of a teacher to ``cases``, at every dose that they were prepared at if it is dosed;
    from the file ``kept`` if it is there, which is written otherwise."""

    def write() -> None:
        flat = {
            f"{patient}|{'' if photons is None else repr(photons)}|{name}": tensor
            for patient, photons, table in _answer(teacher, cases, spec, device)
            for name, tensor in table.items()
        }
        temporary = kept.with_suffix(".partial")
        save_file(flat, temporary)
        temporary.replace(kept)

    make_once(kept, write)
    tables: dict[tuple[str, float | None], dict[str, Tensor]] = {}
    wanted = {case.patient for case in cases}
    with safe_open(kept, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  (the handle is no mapping)
            patient, photons, name = key.rsplit("|", 2)
            if patient in wanted:
                row = tables.setdefault((patient, float(photons) if photons else None), {})
                row[name] = file.get_tensor(key)
    network = teacher.network
    return Answers(
        tables,
        network.spec.swin.stride,
        network.spec.fused_channels,
        network.head.out_features,
        teacher.dosed,
    )


def _answer(
    teacher: TeacherEntry, cases: Sequence[PreparedCase], spec: ModelSpec, device: torch.device
) -> Iterator[tuple[str, float | None, dict[str, Any]]]:
    network = teacher.network.eval()
    with torch.inference_mode():
        for case in cases:
            read = network.modalities_of(network.branches_for(case.volumes))
            if not read:
                continue
            for photons in (None, *(case.low_dose if teacher.dosed else ())):
                batch = whole_case(case, spec, device, photons)
                view = view_of(network, batch, [read], teacher.dosed)
                values = (
                    view.logits[0].float() / teacher.temperature,
                    view.pooled[0].float(),
                    view.features[0].half(),
                    view.graphs.features[0].float(),
                    view.graphs.mask[0],
                )
                table = {n: v.cpu().contiguous() for n, v in zip(_FIELDS, values, strict=True)}
                yield case.patient, photons, table
