"""Patients as the tensors that a prognosis network reads; the same in training and in use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .networks.batch import PrognosisBatch
from .scaling import ClinicalScaling, PrognosisScaling
from .types import CLINICAL, CT, RADIOMICS, PatientArrays

__all__ = ["clinical_tokens", "network_batch", "stacked_volumes", "table_arrays"]


def clinical_tokens(scaling: ClinicalScaling, values: np.ndarray) -> np.ndarray:
    """Clinical values (..., variables) as the network reads them, float32: numbers scaled, a flag 0
    or 1 and a category its index as they are, NaN where missing.

    Raises
    ------
    InputError : as :meth:`ClinicalScaling.scaled`.
    """
    scaled = scaling.scaled(values)
    numbers = np.array([kind == "number" for kind in scaling.kinds], dtype=bool)
    return np.where(numbers, scaled, values).astype(np.float32)


def table_arrays(
    patients: Sequence[PatientArrays], scaling: PrognosisScaling, modalities: Sequence[str]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Clinical values (N, variables) and radiomics (N, kept features), float32, NaN where missing.

    None for a modality that is not among ``modalities``, or that the scaling does not know.

    Raises
    ------
    InputError : arrays that do not fit the scaling.
    """
    clinical = radiomics = None
    if CLINICAL in modalities and (own := scaling.clinical) is not None:
        unknown = np.full(len(own.names), np.nan)
        rows = [unknown if p.clinical is None else p.clinical for p in patients]
        clinical = np.stack([clinical_tokens(own, row) for row in rows])
    if RADIOMICS in modalities and (kept := scaling.radiomics) is not None:
        unknown = np.full(len(kept.names), np.nan)
        rows = [unknown if p.radiomics is None else p.radiomics for p in patients]
        radiomics = np.stack([kept.scaled(row).astype(np.float32) for row in rows])
    return clinical, radiomics


def stacked_volumes(
    arrays: Sequence[np.ndarray | None], size: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Volumes (k, j, i) on one grid, float32 (N, 1, k, j, i); zeros where a patient has none.

    Smaller ones are filled up with zeros at their ends, which changes nothing for a network that is
    restricted to the region of interest.

    Parameters
    ----------
    size : (k, j, i) for all; larger volumes lose as much on either side. None: of the largest.
    """
    given = [a for a in arrays if a is not None]
    if size is None:
        k, j, i = (max(n) for n in zip(*(a.shape for a in given), strict=True))
        size = (k, j, i)
    found = np.zeros((len(arrays), 1, *size), dtype=np.float32)
    for row, array in enumerate(arrays):
        if array is not None:
            starts = [max(0, (n - m) // 2) for n, m in zip(array.shape, size, strict=True)]
            cut = array[tuple(slice(a, a + m) for a, m in zip(starts, size, strict=True))]
            k, j, i = cut.shape
            found[row, 0, :k, :j, :i] = cut
    return found


def network_batch(
    patients: Sequence[PatientArrays],
    scaling: PrognosisScaling,
    modalities: Sequence[str],
    size: tuple[int, int, int] | None = None,
) -> PrognosisBatch:
    """Patients for a network of these modalities; what a patient lacks is not ``present``.

    Text is not part of it: a caller that has a language model adds its tokens.

    Parameters
    ----------
    size : as :func:`stacked_volumes`.

    Raises
    ------
    InputError : arrays that do not fit the scaling.
    """
    clinical, radiomics = table_arrays(patients, scaling, modalities)
    ct = roi = None
    if CT in modalities and any(p.ct is not None for p in patients):
        ct = torch.from_numpy(stacked_volumes([p.ct for p in patients], size))
        roi = torch.from_numpy(stacked_volumes([p.roi for p in patients], size))
    present = torch.ones(len(patients), 3, dtype=torch.bool)
    present[:, 0] = torch.tensor([p.ct is not None for p in patients])
    return PrognosisBatch(ct, roi, _tensor(clinical), None, None, _tensor(radiomics), present)


def _tensor(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)
