"""Figures of cases: features of each fold in two dimensions, attention maps on slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from REACTKDLib.errors import InputError

from .figures import finish, looks, new_figure


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of features (n, channels), standardised by channel: (n, 2), the same for one seed.

    Source: van der Maaten and Hinton, JMLR 2008. Distances between far groups mean nothing in it.

    Raises
    ------
    InputError : fewer than five rows, or values that are not finite.
    """
    from sklearn.manifold import TSNE

    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 5 or not np.isfinite(features).all():
        raise InputError(
            f"Features of the shape {features.shape} cannot be embedded.",
            "Give finite (n, channels) of five cases or more.",
        )
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if min(features.shape) > 1 else "random"
    return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(standard)


def embedding_figure(
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    class_titles: Sequence[str],
    seed: int,
    title: str = "Features (t-SNE)",
    *,
    simulated: bool,
) -> Figure:
    """One panel per fold: its test cases, coloured and marked by class.

    Parameters
    ----------
    folds : labels (n,) and features (n, channels) of each fold; every fold has a network of its
        own, so each is embedded on its own.

    Raises
    ------
    InputError : as :func:`embed`, or a label without title.
    """
    # One fold alone is still as wide as the title and the legend.
    figure, axes = new_figure(max(2.6 * len(folds) + 0.4, 5.2), 3.2, columns=len(folds))
    styles = looks(list(class_titles))
    for number, (labels, features) in enumerate(folds):
        if labels.min() < 0 or labels.max() >= len(class_titles):
            raise InputError(
                f"Labels go from {labels.min()} to {labels.max()} with {len(class_titles)} titles.",
                "Give a title per class.",
            )
        panel, points = axes[0, number], embed(features, seed)
        for c, (name, look) in enumerate(styles.items()):
            x, y = points[labels == c].T
            panel.scatter(
                x, y, s=18, color=look["color"], marker=look["marker"], alpha=0.8, label=name
            )
        panel.set_title(f"fold {number + 1}, n = {len(labels)}", fontsize=8)
        panel.set_xticks([])
        panel.set_yticks([])
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=7)
    total = sum(len(labels) for labels, _ in folds)
    return finish(figure, title, f"n = {total} cases", simulated)


def widest_slice(mask: np.ndarray) -> int:
    """Index k of the slice with the largest area of a mask (k, j, i).

    Raises
    ------
    InputError : the mask is empty.
    """
    area = np.asarray(mask, dtype=bool).sum(axis=(1, 2))
    if not area.any():
        raise InputError("The mask is empty.", "Choose the slice yourself.")
    return int(area.argmax())


def attention_figure(
    ct: np.ndarray,
    maps: Mapping[str, np.ndarray],
    region: np.ndarray,
    spacing_mm: tuple[float, float, float],
    unit: str,
    k: int | None = None,
    window: tuple[float, float] = (-160.0, 240.0),
    title: str = "Attention",
    *,
    simulated: bool,
) -> Figure:
    """One slice of a case with the maps of several networks side by side, on one colour scale.

    Drawn as the arrays come: j downwards, i to the right (a patient seen from the feet when the
    axes run to posterior and left). Orange speaks for the target, purple against it; the stronger,
    the more opaque. The true region is outlined.

    Parameters
    ----------
    ct : (k, j, i), HU.
    maps : name ("without graph distillation") -> map on the same grid.
    region : mask of the responsible region.
    spacing_mm : along k, j, i.
    unit : of the maps.
    k : slice; None is the one with most of the region.
    window : HU drawn black and white.

    Raises
    ------
    InputError : grids differ, or there is no map.
    """
    shapes = {ct.shape, region.shape, *(m.shape for m in maps.values())}
    if len(shapes) > 1 or ct.ndim != 3 or not maps:
        raise InputError(
            f"CT, region and {len(maps)} maps have the shapes {sorted(shapes)}.",
            "Give them on one grid (k, j, i).",
        )
    k = widest_slice(region) if k is None else k
    limit = max(float(np.percentile(np.abs(m), 99.9)) for m in maps.values()) or 1.0
    aspect = spacing_mm[1] / spacing_mm[2]
    figure, axes = new_figure(2.6 * (len(maps) + 1) + 0.8, 3.3, columns=len(maps) + 1)
    scale = ScalarMappable(Normalize(-limit, limit), "PuOr_r")
    drawn: dict[str, np.ndarray | None] = {"CT, true region outlined": None, **maps}
    for panel, (name, values) in zip(axes[0], drawn.items(), strict=True):
        panel.imshow(ct[k], cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
        if values is not None:
            strength = np.clip(np.abs(values[k]) / limit, 0, 1)
            panel.imshow(
                values[k], cmap=scale.cmap, norm=scale.norm, alpha=strength**0.5, aspect=aspect
            )
        if region[k].any() and not region[k].all():
            panel.contour(region[k], levels=[0.5], colors="#56B4E9", linewidths=1)
        panel.set_title(name, fontsize=8)
        panel.set_axis_off()
    bar = figure.colorbar(scale, ax=axes[0].tolist(), shrink=0.7)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return finish(figure, title, f"n = 1 case, slice {k}", simulated)
