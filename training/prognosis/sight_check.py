"""What plain figures of the simulated images see of the latents: the check behind ``SEES``.

Three sets of figures: plain ones of the liver without its lesions, the study's radiomics of that
region, and those of the index lesion (:func:`training.cohort_check.ct_features`, less those of the
liver). For each latent the squared correlation of the latent with its cross-validated ridge
regression on a set. Liver function must be seen by none. It knows nothing of the networks.

Run ``python -m training.prognosis.sight_check --cases 120``.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from REACTKDLib.simulation import SimulatedCase

from ..cohort import sample_case_parameters, simulate_cohort_case
from ..cohort_check import ct_features
from .features import radiomics_of
from .simulated import EFFECTS, simulate_outcome

__all__ = ["SETS", "liver_figures", "seen", "sight"]

#: What a latent is looked for in.
SETS = ("liver", "radiomics", "lesion")
#: The study's radiomics.
CONFIGURATIONS = Path(__file__).parents[1] / "configs" / "prognosis"
RADIOMICS = "liver_radiomics.json"


def liver_figures(case: SimulatedCase) -> dict[str, float]:
    """Level, spread, coarse texture and volume of the liver without its lesions."""
    from scipy.ndimage import gaussian_filter

    mask = case.segmentation.labels == 1
    spacing = case.ct.geometry.spacing_mm[::-1]
    hu = case.ct.array.astype(np.float32)
    figures = {
        "mean": float(hu[mask].mean()),
        "volume": float(np.log(np.count_nonzero(mask) * np.prod(spacing))),
    }
    # Differences of smoothed images: texture of about 4, 8 and 16 mm, without noise.
    smooth = [gaussian_filter(hu, [scale / s for s in spacing]) for scale in (2.0, 4.0, 8.0)]
    for name, fine, coarse in (("fine", *smooth[:2]), ("middle", *smooth[1:])):
        figures[name] = float((fine - coarse)[mask].std())
    figures["patches"] = float(smooth[2][mask].std())
    return figures


def measure(index: int, seed: int) -> tuple[list[float], ...]:
    """Latents; then figures of the liver, radiomics, figures of the lesion of one case."""
    parameters = sample_case_parameters("internal", index, seed)
    case = simulate_cohort_case(parameters, "internal", index, seed, pet=False)
    radiomics = radiomics_of(RADIOMICS, CONFIGURATIONS)(case.study(), ("liver",)).values
    lesion = {k: v for k, v in ct_features(case).items() if not k.startswith("liver")}
    latents = simulate_outcome(index, seed).latents
    own = [latents[name] for name in EFFECTS]
    sets = (liver_figures(case), radiomics, lesion)
    return own, *(list(figures.values()) for figures in sets)


def sight(figures: np.ndarray, latent: np.ndarray, folds: int = 5, ridge: float = 3.0) -> float:
    """Squared correlation of ``latent`` (n,) with its out-of-fold ridge regression on the columns
    of ``figures`` (n, k); 0 where the regression points the wrong way."""
    predicted = np.zeros(len(latent))
    fold = np.arange(len(latent)) % folds
    for held in range(folds):
        train = fold != held
        mean, spread = figures[train].mean(axis=0), figures[train].std(axis=0) + 1e-9
        x = np.clip((figures - mean) / spread, -3, 3)
        middle = latent[train].mean()
        matrix = x[train].T @ x[train] + ridge * np.eye(x.shape[1])
        weights = np.linalg.solve(matrix, x[train].T @ (latent[train] - middle))
        predicted[~train] = x[~train] @ weights + middle
    r = float(np.corrcoef(predicted, latent)[0, 1])
    return max(0.0, r) ** 2


def seen(cases: int, seed: int, workers: int = 1) -> dict[str, dict[str, float]]:
    """Set of figures -> latent -> :func:`sight`."""
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(measure, seed=seed), range(cases), chunksize=4))
    latents, *tables = (np.array(columns) for columns in zip(*rows, strict=True))
    return {
        name: {latent: sight(table, latents[:, n]) for n, latent in enumerate(EFFECTS)}
        for name, table in zip(SETS, tables, strict=True)
    }


def main() -> None:
    """Simulate cases, measure them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=120)
    parser.add_argument("--seed", type=int, default=20260)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print(f"simulated internal cohort, {options.cases} cases, seed {options.seed}")
    for name, row in seen(options.cases, options.seed, options.workers).items():
        print(f"  {name:9s}", "  ".join(f"{latent} {value:.2f}" for latent, value in row.items()))


if __name__ == "__main__":
    main()
