"""How much a simulated cohort tells about grade: the check behind the constants of the cohort.

A plain ridge logistic regression, cross-validated, on features measured in the images within the
true lesion masks. It knows nothing of the networks. A cohort is useful if CT alone lands near a
macro AUC of 0.75 to 0.85, CT with both tracers near 0.90 to 0.95, and one tracer in between.

Run ``python -m training.cohort_check --cases 300 --seed 0``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from REACTKDLib.geometry import resample_array
from REACTKDLib.simulation import GRADES, TRACERS, SimulatedCase

from .cohort import PROFILES, sample_case_parameters, simulate_cohort_case
from .evaluation.discrimination import binary_auc

_FOLDS = 5


def ct_features(case: SimulatedCase) -> dict[str, float]:
    """Contrast, heterogeneity, dark core, capsule, rim, shape and size of the index lesion."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    spacing = case.ct.geometry.spacing_mm[::-1]
    hu = gaussian_filter(case.ct.array.astype(np.float32), [1.2 / s for s in spacing])
    ids, labels = case.truth.lesion_ids.array, case.segmentation.labels
    mask = ids == 1
    box = _box_around(mask, 14.0, spacing)
    lesion, rim = mask[box], (case.truth.rim_ids.array == 1)[box]
    inner = distance_transform_edt(lesion, sampling=spacing)
    outer = distance_transform_edt(~lesion, sampling=spacing)
    parenchyma = (labels == 1) & (case.truth.rim_ids.array == 0)
    liver, spread = float(np.median(hu[parenchyma])), float(hu[parenchyma].std())
    inside, local = hu[box][lesion] - liver, hu[box] - liver
    core = local[inner > 0.5 * inner.max()]
    near = local[rim & (outer < 6)]
    faces = [
        np.count_nonzero(np.diff(lesion, axis=a))
        * np.prod([s for b, s in enumerate(spacing) if b != a])
        for a in range(3)
    ]
    volume = float(lesion.sum() * np.prod(spacing))
    return {
        "contrast": float(np.median(inside)),
        "spread": float(inside.std()),
        "dark": float(np.percentile(inside, 5)),
        "bright": float(np.percentile(inside, 95)),
        "shell": float(local[lesion & (inner < 4)].mean() - core.mean()),
        "rim": float(near.mean()) if near.size else 0.0,
        "roundness": float(volume ** (2 / 3) / np.sum(faces)),
        "size": float(np.log(volume)),
        "tumours": float(np.log1p(_pieces(ids))),
        "liver": liver,
        "liver_spread": spread,
    }


def _pieces(ids: np.ndarray) -> int:
    from scipy.ndimage import label

    return int(label(ids > 0)[1])


def _box_around(
    mask: np.ndarray, margin_mm: float, spacing: tuple[float, ...]
) -> tuple[slice, ...]:
    where = np.argwhere(mask)
    pad = np.ceil(margin_mm / np.asarray(spacing)).astype(int)
    low = np.maximum(where.min(axis=0) - pad, 0)
    return tuple(slice(a, b) for a, b in zip(low, where.max(axis=0) + pad + 1, strict=True))


def pet_feature(case: SimulatedCase, tracer: str) -> float:
    """Log of the index lesion's uptake (upper quartile) over the liver's median."""
    volume = case.pet[tracer]
    grid = case.ct.geometry
    suv = resample_array(volume.array, volume.geometry, grid)
    lesion = case.truth.lesion_ids.array == 1
    liver = np.median(suv[(case.segmentation.labels == 1) & (case.truth.rim_ids.array == 0)])
    hot = suv[lesion]
    return float(np.log(hot[hot >= np.percentile(hot, 75)].mean() / liver))


def measure(index: int, profile: str, seed: int) -> tuple[str, dict[str, float]]:
    """Observed grade and features of one case."""
    parameters = sample_case_parameters(profile, index, seed)
    case = simulate_cohort_case(parameters, profile, index, seed)
    features = ct_features(case) | {tracer: pet_feature(case, tracer) for tracer in case.pet}
    return parameters.observed_grade, features


def macro_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean one-versus-rest area under the ROC curve of scores (cases, classes), any numbers."""
    classes = range(scores.shape[1])
    return float(np.mean([binary_auc(labels == c, scores[:, c]) for c in classes]))


def cross_validated_scores(
    features: np.ndarray, labels: np.ndarray, ridge: float = 8.0
) -> np.ndarray:
    """Out-of-fold class scores of a ridge logistic regression on features and their squares."""
    from scipy.optimize import minimize

    classes = int(labels.max()) + 1
    scores = np.zeros((len(labels), classes))
    fold = np.arange(len(labels)) // 3 % _FOLDS
    for held in range(_FOLDS):
        train = fold != held
        mean, sd = features[train].mean(axis=0), features[train].std(axis=0) + 1e-9
        z = np.clip((features - mean) / sd, -3, 3)
        x = np.column_stack([np.ones(len(z)), z, z**2 - 1])
        onehot = np.eye(classes)[labels]

        def loss(
            flat: np.ndarray, x: np.ndarray = x[train], y: np.ndarray = onehot[train]
        ) -> tuple[float, np.ndarray]:
            w = flat.reshape(x.shape[1], -1)
            logits = x @ w
            logits -= logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            value = -np.sum(y * log_p) + ridge / 2 * np.sum(w[1:] ** 2)
            gradient = x.T @ (np.exp(log_p) - y)
            gradient[1:] += ridge * w[1:]
            return float(value), gradient.ravel()

        fitted = minimize(loss, np.zeros(x.shape[1] * classes), jac=True, method="L-BFGS-B")
        scores[~train] = (x @ fitted.x.reshape(x.shape[1], classes))[~train]
    return scores


def information(labels: np.ndarray, features: list[Mapping[str, float]]) -> dict[str, float]:
    """Macro AUC of CT, of CT with each tracer and of CT with all tracers that were measured."""
    tracers = [tracer for tracer in TRACERS if tracer in features[0]]
    ct = [name for name in features[0] if name not in TRACERS]
    sets = {"ct": ct} | {f"ct+{tracer}": [*ct, tracer] for tracer in tracers}
    if len(tracers) > 1:
        sets["ct+" + "+".join(tracers)] = [*ct, *tracers]
        sets["+".join(tracers)] = tracers
    table = {}
    for name, columns in sets.items():
        values = np.array([[row[column] for column in columns] for row in features])
        table[name] = macro_auc(labels, cross_validated_scores(values, labels))
    return table


def main() -> None:
    """Simulate a cohort, measure it and print the table of AUCs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", choices=PROFILES, default="internal")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    one = partial(measure, profile=options.profile, seed=options.seed)
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(one, range(options.cases), chunksize=4))
    labels = np.array([GRADES.index(grade) for grade, _ in rows])
    print(f"simulated {options.profile} cohort, {options.cases} cases, seed {options.seed}")
    print(
        "observed grades:",
        dict(zip(GRADES, np.bincount(labels, minlength=3).tolist(), strict=True)),
    )
    for name, auc in information(labels, [features for _, features in rows]).items():
        print(f"  macro AUC {name:28s} {auc:.3f}")


if __name__ == "__main__":
    main()
