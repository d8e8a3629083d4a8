"""What a network says of whole cases: logits, pooled features, and where its evidence lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.student import gate, pool

from .batches import whole_case
from .evaluation.localisation import attention_mass, pointing_game
from .forward import AnyStudent, Network, batch_cells, view_of
from .losses import NetworkView
from .prepare import PreparedCase

Table = dict[str, list[float]]


def rounded(values: torch.Tensor | np.ndarray, digits: int = 4) -> list[float]:
    """Numbers as they are kept in a results file."""
    return [round(float(v), digits) for v in values]


def views(
    network: Network,
    cases: Sequence[PreparedCase],
    names: tuple[str, ...],
    spec: ModelSpec,
    device: torch.device,
    photons: float | None = None,
) -> Iterator[tuple[PreparedCase, NetworkView]]:
    """One pass over every whole case with those of ``names`` that it has, the CT at a dose; no
    graphs."""
    network.eval()
    with torch.inference_mode():
        for case in cases:
            batch = whole_case(case, spec, device, photons, regions=False)
            yield case, view_of(network, batch, [batch.names(0, names)], dosed=True)


def logits_of(
    network: Network,
    cases: Sequence[PreparedCase],
    names: tuple[str, ...],
    spec: ModelSpec,
    device: torch.device,
    photons: float | None = None,
) -> Table:
    """Patient -> logits."""
    found = views(network, cases, names, spec, device, photons)
    return {case.patient: rounded(view.logits[0]) for case, view in found}


def logits_by_modalities(
    student: AnyStudent,
    cases: Sequence[PreparedCase],
    sets: Sequence[tuple[str, ...]],
    spec: ModelSpec,
    device: torch.device,
) -> dict[tuple[str, ...], Table]:
    """Modality set -> patient -> logits, of the cases that have all of a set's modalities.

    As :func:`logits_of` for each set; each encoder runs once a case.
    """
    found: dict[tuple[str, ...], Table] = {names: {} for names in sets}
    student.eval()
    with torch.inference_mode():
        for case in cases:
            batch = whole_case(case, spec, device, regions=False)
            cells = student.inside(batch.roi)
            weights = batch_cells(student, batch).weights
            branches = {
                name: student.branch(name, batch.volumes[name], batch.roi, cells)[0]
                for name in student.modalities
                if name in case.volumes and any(name in names for names in sets)
            }
            for names in sets:
                if set(names) <= set(branches):
                    ordered = [branches[name] for name in student.modalities if name in names]
                    pooled = pool(gate(ordered), weights)
                    found[names][case.patient] = rounded(student.head(pooled)[0])
    return found


def evidence(
    student: AnyStudent, view: NetworkView, label: int, reference: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The exact contribution of every cell to the contrast of class ``label`` with the others,
    measured from ``reference`` (C,), and where cells count at all; (k, j, i) on the feature grid.
    """
    weight = student.head.weight.detach()
    others = [c for c in range(len(weight)) if c != label]
    contrast = weight[label] - weight[others].mean(dim=0)
    density = torch.einsum(
        "c,ckji->kji", contrast, view.features[0] - reference[:, None, None, None]
    )
    share = (density * view.weights[0, 0]).cpu().numpy()
    return share, view.weights[0, 0].cpu().numpy() > 0


def mean_pooled(
    student: AnyStudent, cases: Sequence[PreparedCase], spec: ModelSpec, device: torch.device
) -> torch.Tensor:
    """Mean pooled feature (C,) of cases by their CT: what evidence is measured from."""
    found = views(student, cases, ("ct",), spec, device)
    return torch.stack([view.pooled[0] for _, view in found]).mean(dim=0)


def explain_tests(
    student: AnyStudent,
    cases: Sequence[PreparedCase],
    reference: torch.Tensor,
    spec: ModelSpec,
    device: torch.device,
) -> tuple[Table, dict[str, dict[str, float]]]:
    """Pooled features of every case by its CT, and how well the explanation of its true class
    points at the responsible region: patient -> score, for ``attention mass``, ``pointing game``.

    A case is left out of the scores where its truth is not known, or smaller than a cell.
    """
    spacing = cell_spacing_mm(student, spec)
    pooled: Table = {}
    mass: dict[str, float] = {}
    hit: dict[str, float] = {}
    for case, view in views(student, cases, ("ct",), spec, device):
        pooled[case.patient] = rounded(view.pooled[0], 3)
        if case.responsible is None:
            continue
        share, domain = evidence(student, view, case.label, reference)
        region = responsible_cells(student, case) & domain
        if region.any():
            mass[case.patient] = round(attention_mass(share, region, domain=domain), 5)
            hit[case.patient] = pointing_game(share, region, spacing, domain=domain)
    return pooled, {"attention mass": mass, "pointing game": hit}


def chance_masses(
    student: AnyStudent, cases: Sequence[PreparedCase], spec: ModelSpec
) -> dict[str, float]:
    """Patient -> the attention mass of evidence that is the same everywhere: the part of the
    pooling weights that lies in the responsible region. Any student of the study will do, trained
    or not: the weights follow from the masks alone.

    Cases are left out as in :func:`explain_tests`.
    """
    found = {}
    for case in cases:
        if case.responsible is None:
            continue
        batch = whole_case(case, spec, torch.device("cpu"), regions=False)
        weights = batch_cells(student, batch).weights[0, 0].numpy()
        region = responsible_cells(student, case) & (weights > 0)
        if region.any():
            found[case.patient] = attention_mass(weights, region, domain=weights > 0)
    return found


def responsible_cells(student: AnyStudent, case: PreparedCase) -> np.ndarray:
    """Cells of the feature grid that lie in the responsible region for the greater part."""
    truth = torch.tensor(np.asarray(case.responsible, dtype=np.float32))[None, None]
    return student.cells(truth)[0, 0].numpy() > 0.5


def cell_spacing_mm(student: AnyStudent, spec: ModelSpec) -> tuple[float, float, float]:
    """Distances (k, j, i) between cells of the student's feature grid, mm."""
    k, j, i = (s * n for s, n in zip(spec.grid.spacing_mm[::-1], student.total_stride, strict=True))
    return (k, j, i)
