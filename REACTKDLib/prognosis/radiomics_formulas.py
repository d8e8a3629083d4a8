"""Formulas of the features of intensity and texture, from intensities and matrices to numbers.

Definitions and names: PyRadiomics 3.0.1, with its conventions where a formula has no value in a
region of one grey level (correlation 1, skewness 0, coarseness 10^6, ...).
"""

from __future__ import annotations

import numpy as np

_EPSILON = np.spacing(1.0)

#: Coarseness of a region without any difference of tone.
_FLAT_COARSENESS = 1e6

Features = dict[str, float]


def _entropy(probability: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Shannon entropy, bits."""
    return -np.sum(probability * np.log2(probability + _EPSILON), axis=axis)


def first_order(
    values: np.ndarray, level_counts: np.ndarray, voxel_mm3: float, energy_shift: float
) -> Features:
    """Statistics of the intensities (voxels,); ``level_counts`` (n,) voxels per grey level."""
    mean = values.mean()
    low, q1, median, q3, high = np.percentile(values, [10, 25, 50, 75, 90])
    middle = values[(values >= low) & (values <= high)]
    variance = values.var()
    # Constant but for rounding: as PyRadiomics defines a constant region.
    flat = values.min() == values.max()
    deviation = values - mean
    energy = np.sum((values + energy_shift) ** 2)
    part = level_counts / level_counts.sum()
    return {
        "10Percentile": low,
        "90Percentile": high,
        "Energy": energy,
        "Entropy": float(_entropy(part)),
        "InterquartileRange": q3 - q1,
        "Kurtosis": 0.0 if flat else np.mean(deviation**4) / variance**2,
        "Maximum": values.max(),
        "MeanAbsoluteDeviation": np.abs(deviation).mean(),
        "Mean": mean,
        "Median": median,
        "Minimum": values.min(),
        "Range": values.max() - values.min(),
        "RobustMeanAbsoluteDeviation": np.abs(middle - middle.mean()).mean(),
        "RootMeanSquared": np.sqrt(energy / len(values)),
        "Skewness": 0.0 if flat else np.mean(deviation**3) / variance**1.5,
        "TotalEnergy": energy * voxel_mm3,
        "Uniformity": np.sum(part**2),
        "Variance": variance,
    }


def cooccurrence(counts: np.ndarray, levels: np.ndarray) -> Features:
    """Mean over the directions that have pairs; ``counts`` (directions, n, n), ``levels`` (n,).

    No pair in any direction: NaN.
    """
    totals = counts.sum(axis=(1, 2))
    p = counts[totals > 0] / totals[totals > 0, None, None]
    if not len(p):
        return dict.fromkeys(_cooccurrence(np.ones((1, 1, 1)), np.ones(1)), float("nan"))
    return {name: float(np.mean(value)) for name, value in _cooccurrence(p, levels).items()}


def _cooccurrence(p: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    """As :func:`cooccurrence`, of probabilities, per direction (directions,)."""
    both = (1, 2)
    i, j = levels[:, None], levels[None, :]
    gap = np.abs(i - j)
    px, py = p.sum(axis=2), p.sum(axis=1)
    ux, uy = px @ levels, py @ levels
    variance_x = np.sum(px * (levels - ux[:, None]) ** 2, axis=1)
    variance_y = np.sum(py * (levels - uy[:, None]) ** 2, axis=1)
    spread = np.sqrt(variance_x * variance_y)
    product = np.sum(p * (i * j), axis=both)
    correlation = np.where(spread > 0, (product - ux * uy) / np.where(spread > 0, spread, 1), 1.0)
    differences, total = _along(p, gap), _along(p, i + j)
    k = np.arange(differences.shape[1])
    average = differences @ k
    together = i + j - (ux + uy)[:, None, None]
    tendency = [np.sum(p * together**power, axis=both) for power in (2, 3, 4)]
    entropy, outer = _entropy(p, both), px[:, :, None] * py[:, None, :]
    across = -np.sum(p * np.log2(outer + _EPSILON), axis=both)
    independent = _entropy(outer, both)
    largest = np.maximum(_entropy(px, 1), _entropy(py, 1))
    number = levels.max()
    return {
        "Autocorrelation": product,
        "ClusterProminence": tendency[2],
        "ClusterShade": tendency[1],
        "ClusterTendency": tendency[0],
        "Contrast": np.sum(p * gap**2, axis=both),
        "Correlation": correlation,
        "DifferenceAverage": average,
        "DifferenceEntropy": _entropy(differences, 1),
        "DifferenceVariance": np.sum(differences * (k - average[:, None]) ** 2, axis=1),
        "Id": np.sum(p / (1 + gap), axis=both),
        "Idm": np.sum(p / (1 + gap**2), axis=both),
        "Idmn": np.sum(p / (1 + gap**2 / number**2), axis=both),
        "Idn": np.sum(p / (1 + gap / number), axis=both),
        "Imc1": np.where(largest > 0, (entropy - across) / np.where(largest > 0, largest, 1), 0.0),
        "Imc2": np.sqrt(1 - np.exp(-2 * np.maximum(independent - entropy, 0))),
        "InverseVariance": differences[:, 1:] @ (1 / k[1:] ** 2.0),
        "JointAverage": ux,
        "JointEnergy": np.sum(p**2, axis=both),
        "JointEntropy": entropy,
        "MCC": _maximal_correlation(p, px),
        "MaximumProbability": p.max(axis=both),
        "SumAverage": ux + uy,
        "SumEntropy": _entropy(total, 1),
        "SumSquares": variance_x,
    }


def _along(p: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Probabilities (directions, keys) summed where ``key`` (n, n), whole numbers, is the same."""
    key = key.astype(int).ravel()
    return np.stack([np.bincount(key, weights=one.ravel()) for one in p])


def _maximal_correlation(p: np.ndarray, px: np.ndarray) -> np.ndarray:
    """Second largest correlation that functions of both grey levels can have, per direction.

    PyRadiomics takes the root of the second eigenvalue of Q = D^-1 P D^-1 P with D the marginal
    probabilities. P is symmetric, so Q has the squared eigenvalues of D^-1/2 P D^-1/2, which is
    symmetric too: quicker, and no complex rounding noise.
    """
    if p.shape[1] < 2:
        return np.ones(len(p))
    root = np.sqrt(np.where(px > 0, px, 1.0))
    eigenvalues = np.linalg.eigvalsh(p / (root[:, :, None] * root[:, None, :]))
    return np.sort(np.abs(eigenvalues), axis=1)[:, -2]


def emphases(counts: np.ndarray, levels: np.ndarray, sizes: np.ndarray, voxels: int) -> Features:
    """What the matrices of runs, zones and dependence have in common, named by its meaning.

    ``counts`` (n, sizes) of parts by grey level and size, ``levels`` (n,), ``sizes`` (sizes,);
    ``voxels`` of the region.
    """
    parts = counts.sum()
    p = counts / parts
    by_level, by_size = p.sum(axis=1), p.sum(axis=0)
    i2, j2 = levels**2, sizes**2
    return {
        "small": by_size @ (1 / j2),
        "large": by_size @ j2,
        "low": by_level @ (1 / i2),
        "high": by_level @ i2,
        "small low": (1 / i2) @ p @ (1 / j2),
        "small high": i2 @ p @ (1 / j2),
        "large low": (1 / i2) @ p @ j2,
        "large high": i2 @ p @ j2,
        "level nonuniformity": parts * np.sum(by_level**2),
        "level nonuniformity normalised": np.sum(by_level**2),
        "size nonuniformity": parts * np.sum(by_size**2),
        "size nonuniformity normalised": np.sum(by_size**2),
        "percentage": parts / voxels,
        "level variance": by_level @ (levels - by_level @ levels) ** 2,
        "size variance": by_size @ (sizes - by_size @ sizes) ** 2,
        "entropy": float(_entropy(p)),
    }


_RUNS = {
    "GrayLevelNonUniformity": "level nonuniformity",
    "GrayLevelNonUniformityNormalized": "level nonuniformity normalised",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelRunEmphasis": "high",
    "LongRunEmphasis": "large",
    "LongRunHighGrayLevelEmphasis": "large high",
    "LongRunLowGrayLevelEmphasis": "large low",
    "LowGrayLevelRunEmphasis": "low",
    "RunEntropy": "entropy",
    "RunLengthNonUniformity": "size nonuniformity",
    "RunLengthNonUniformityNormalized": "size nonuniformity normalised",
    "RunPercentage": "percentage",
    "RunVariance": "size variance",
    "ShortRunEmphasis": "small",
    "ShortRunHighGrayLevelEmphasis": "small high",
    "ShortRunLowGrayLevelEmphasis": "small low",
}
_ZONES = {
    "GrayLevelNonUniformity": "level nonuniformity",
    "GrayLevelNonUniformityNormalized": "level nonuniformity normalised",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelZoneEmphasis": "high",
    "LargeAreaEmphasis": "large",
    "LargeAreaHighGrayLevelEmphasis": "large high",
    "LargeAreaLowGrayLevelEmphasis": "large low",
    "LowGrayLevelZoneEmphasis": "low",
    "SizeZoneNonUniformity": "size nonuniformity",
    "SizeZoneNonUniformityNormalized": "size nonuniformity normalised",
    "SmallAreaEmphasis": "small",
    "SmallAreaHighGrayLevelEmphasis": "small high",
    "SmallAreaLowGrayLevelEmphasis": "small low",
    "ZoneEntropy": "entropy",
    "ZonePercentage": "percentage",
    "ZoneVariance": "size variance",
}
_DEPENDENCE = {
    "DependenceEntropy": "entropy",
    "DependenceNonUniformity": "size nonuniformity",
    "DependenceNonUniformityNormalized": "size nonuniformity normalised",
    "DependenceVariance": "size variance",
    "GrayLevelNonUniformity": "level nonuniformity",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelEmphasis": "high",
    "LargeDependenceEmphasis": "large",
    "LargeDependenceHighGrayLevelEmphasis": "large high",
    "LargeDependenceLowGrayLevelEmphasis": "large low",
    "LowGrayLevelEmphasis": "low",
    "SmallDependenceEmphasis": "small",
    "SmallDependenceHighGrayLevelEmphasis": "small high",
    "SmallDependenceLowGrayLevelEmphasis": "small low",
}


def run_lengths(
    found: list[tuple[np.ndarray, np.ndarray]], levels: np.ndarray, voxels: int
) -> Features:
    """Mean over the directions of :func:`~.radiomics_textures.runs`; NaN where there is none."""
    each = [emphases(counts, levels, lengths, voxels) for counts, lengths in found]
    return {
        name: float(np.mean([one[key] for one in each])) if each else float("nan")
        for name, key in _RUNS.items()
    }


def zone_sizes(counts: np.ndarray, sizes: np.ndarray, levels: np.ndarray, voxels: int) -> Features:
    """Features of :func:`~.radiomics_textures.zones`."""
    values = emphases(counts, levels, sizes, voxels)
    return {name: values[key] for name, key in _ZONES.items()}


def dependence(counts: np.ndarray, levels: np.ndarray, voxels: int) -> Features:
    """Features of the counts (n, 27) by level and number of neighbours of the same level."""
    values = emphases(counts, levels, np.arange(1.0, 28.0), voxels)
    return {name: values[key] for name, key in _DEPENDENCE.items()}


def tone_differences(counts: np.ndarray, sums: np.ndarray, levels: np.ndarray) -> Features:
    """Features of voxels (n,) with neighbours and the sums (n,) of their differences from them.

    No voxel with a neighbour: NaN.
    """
    total = counts.sum()
    if total == 0:
        return dict.fromkeys(
            ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength"), float("nan")
        )
    there = counts > 0
    p, s, i = counts[there] / total, sums[there], levels[there]
    gap, pair = np.abs(i[:, None] - i), p[:, None] + p
    weighted = p * s
    spread = np.abs((i * p)[:, None] - i * p).sum()
    pairs = len(p) * (len(p) - 1)
    return {
        "Busyness": weighted.sum() / spread if spread else 0.0,
        "Coarseness": 1 / weighted.sum() if weighted.sum() else _FLAT_COARSENESS,
        "Complexity": np.sum(gap * (weighted[:, None] + weighted) / pair) / total,
        "Contrast": p @ gap**2 @ p / pairs * s.sum() / total if pairs else 0.0,
        "Strength": np.sum(pair * gap**2) / s.sum() if s.sum() else 0.0,
    }
