"""Filtered images that radiomics are computed of.

Definitions: PyRadiomics 3.0.1. Sources of the filters: SimpleITK (Laplacian of Gaussian, gradient),
PyWavelets (stationary wavelet transform).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import EnvironmentProblem, OptionError
from ..geometry import Geometry, image_from_array
from .radiomics_settings import WAVELET_BANDS, RadiomicsSettings, log_name

#: Voxels along every axis that the Laplacian of Gaussian needs.
_LEAST_VOXELS = 4


def filtered_images(
    image: np.ndarray, geometry: Geometry, settings: RadiomicsSettings
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Name and image, float64 (k, j, i), in the order of :func:`~.radiomics_settings.image_names`.

    None stands for an image that cannot be computed: too few voxels for the filter, or no value
    (all intensities 0).

    Raises
    ------
    OptionError : PyWavelets does not know the wavelet.
    EnvironmentProblem : PyWavelets is not installed.
    """
    for image_type in settings.image_types:
        if image_type == "wavelet":
            bands = _wavelet(image, settings.wavelet)
            yield from ((f"wavelet-{band}", bands[band]) for band in WAVELET_BANDS)
        elif image_type == "log":
            for sigma in settings.log_sigmas_mm:
                yield log_name(sigma), _laplacian_of_gaussian(image, geometry, sigma)
        elif image_type == "gradient":
            yield image_type, _gradient(image, geometry)
        elif image_type == "original":
            yield image_type, image
        else:
            yield image_type, _rescaled(image, image_type)


def _rescaled(image: np.ndarray, image_type: str) -> np.ndarray | None:
    """A function of each intensity, scaled to the range of the image; signs kept but by squaring
    and the exponential. The range is that of the padded image, as in PyRadiomics."""
    top = np.abs(image).max()
    if top == 0:
        return None
    if image_type == "square":
        return image**2 / top
    if image_type == "squareroot":
        return np.sign(image) * np.sqrt(np.abs(image) * top)
    if image_type == "logarithm":
        return np.sign(image) * np.log1p(np.abs(image)) * (top / np.log1p(top))
    return np.exp(np.log(top) / top * image)


def _laplacian_of_gaussian(
    image: np.ndarray, geometry: Geometry, sigma_mm: float
) -> np.ndarray | None:
    import SimpleITK as sitk

    needed = np.ceil(sigma_mm / np.asarray(geometry.spacing_mm)) + 1
    if np.any(np.asarray(geometry.size) < np.maximum(needed, _LEAST_VOXELS)):
        return None
    laplacian = sitk.LaplacianRecursiveGaussianImageFilter()
    laplacian.SetNormalizeAcrossScale(True)
    laplacian.SetSigma(sigma_mm)
    result = laplacian.Execute(image_from_array(image, geometry))
    return sitk.GetArrayFromImage(result).astype(np.float64)


def _gradient(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    import SimpleITK as sitk

    result = sitk.GradientMagnitude(image_from_array(image, geometry), useImageSpacing=True)
    return sitk.GetArrayFromImage(result).astype(np.float64)


def _wavelet(image: np.ndarray, wavelet: str) -> dict[str, np.ndarray]:
    """One level of the stationary transform; letters of a band are along i, j and k."""
    try:
        import pywt
    except ImportError as error:
        raise EnvironmentProblem(
            "Wavelet features need PyWavelets, which is not installed.",
            'Install it: pip install "reactkd[radiomics]".',
        ) from error
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise OptionError(
            f"PyWavelets has no discrete wavelet {wavelet!r}.", "coif1 is PyRadiomics' choice."
        )
    odd = [(0, n % 2) for n in image.shape]  # the transform needs even sizes
    bands = pywt.swtn(np.pad(image, odd, mode="wrap"), wavelet, level=1, axes=(2, 1, 0))[0]
    k, j, i = image.shape
    return {
        name.replace("a", "L").replace("d", "H"): band[:k, :j, :i] for name, band in bands.items()
    }
