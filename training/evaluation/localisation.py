"""Does a map point where the truth is? Scores of one case; maps and masks are (k, j, i).

``case_interval`` of the bootstrap module averages them over cases with an interval.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from REACTKDLib.errors import InputError, OptionError

Kind = Literal["positive", "absolute"]


def _checked(
    attention: np.ndarray, region: np.ndarray, domain: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    attention = np.asarray(attention, dtype=np.float64)
    region = np.asarray(region).astype(bool)
    domain = np.ones_like(region) if domain is None else np.asarray(domain).astype(bool)
    if attention.ndim != 3 or not attention.shape == region.shape == domain.shape:
        raise InputError(
            f"Map {attention.shape}, region {region.shape}, domain {domain.shape} are not on one"
            " grid (k, j, i).",
            "Resample them to one grid.",
        )
    if not np.isfinite(attention).all():
        raise InputError("The map holds values that are not finite.", "Repair the explanation.")
    if not (region & domain).any():
        raise InputError(
            "No voxel of the region lies in the domain.", "Leave out cases without a true region."
        )
    return attention, region & domain, domain


def attention_mass(
    attention: np.ndarray,
    region: np.ndarray,
    kind: Kind = "positive",
    domain: np.ndarray | None = None,
) -> float:
    """Part of the map's mass that lies in the responsible region, 0 to 1.

    A map without mass points nowhere and gets 0.

    Parameters
    ----------
    attention : map on the grid of the region; the target class speaks with positive values.
    region : mask of the responsible region.
    kind : ``positive`` counts the positive part, ``absolute`` the absolute values.
    domain : where the map counts (the organ); None is everywhere.

    Raises
    ------
    InputError : grids differ, the region is empty, values are not finite.
    OptionError : another kind.
    """
    attention, region, domain = _checked(attention, region, domain)
    if kind not in ("positive", "absolute"):
        raise OptionError(f"Unknown kind {kind!r}.", "Choose positive or absolute.")
    mass = np.maximum(attention, 0) if kind == "positive" else np.abs(attention)
    total = mass[domain].sum()
    return float(mass[region].sum() / total) if total > 0 else 0.0


def chance_mass(region: np.ndarray, domain: np.ndarray | None = None) -> float:
    """The region's part of the domain's volume: :func:`attention_mass` of a map that is constant.

    Raises
    ------
    InputError : as :func:`attention_mass`.
    """
    return attention_mass(np.ones(np.shape(region)), region, domain=domain)


def pointing_game(
    attention: np.ndarray,
    region: np.ndarray,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = 0.0,
    domain: np.ndarray | None = None,
) -> float:
    """1 if the map's maximum lies in the region or within a tolerance of it, else 0.

    Of several equal maxima the part that hits is given, so a constant map scores its chance.
    Source: Zhang et al., IJCV 2018, with the tolerance in millimetres between voxel centres.

    Parameters
    ----------
    spacing_mm : of the grid along k, j, i.
    tolerance_mm : largest distance that still counts; choose it for the resolution of the map.

    Raises
    ------
    InputError : as :func:`attention_mass`. OptionError : spacing or tolerance is impossible.
    """
    attention, region, domain = _checked(attention, region, domain)
    if len(spacing_mm) != 3 or min(spacing_mm) <= 0 or tolerance_mm < 0:
        raise OptionError(
            f"Spacing {spacing_mm} mm with a tolerance of {tolerance_mm} mm.",
            "Give three spacings above 0 and a tolerance of 0 or more.",
        )
    highest = np.argwhere(domain & (attention == attention[domain].max()))
    inside = region[tuple(highest.T)]
    if tolerance_mm == 0 or inside.all():
        return float(inside.mean())
    tree = cKDTree(np.argwhere(region) * np.asarray(spacing_mm))
    distance, _ = tree.query(highest * np.asarray(spacing_mm))
    return float((distance <= tolerance_mm + 1e-9).mean())
