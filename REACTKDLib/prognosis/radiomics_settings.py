"""What is computed from a region of interest: settings of radiomics and the names of its features.

Names and order are PyRadiomics' (version 3.0.1): ``<image type>_<class>_<feature>``, shape once, of
the original image. Imports neither torch nor SimpleITK.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import OptionError
from ..geometry import Vector
from ..typed_json import FieldError, build

#: Raised by one whenever a formula or a filter changes its values, so that no cached value stays.
METHOD = 1

INTERPOLATIONS = ("bspline", "linear", "nearest")

#: Image types by name, in PyRadiomics' spelling; ``log`` and ``wavelet`` stand for several images.
IMAGE_TYPES = (
    "original",
    "wavelet",
    "log",
    "square",
    "squareroot",
    "logarithm",
    "exponential",
    "gradient",
)

#: Bands of the wavelet: low or high pass along i, j and k, in this order.
WAVELET_BANDS = ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL")

SHAPE = (
    "Elongation",
    "Flatness",
    "LeastAxisLength",
    "MajorAxisLength",
    "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow",
    "Maximum2DDiameterSlice",
    "Maximum3DDiameter",
    "MeshVolume",
    "MinorAxisLength",
    "Sphericity",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "VoxelVolume",
)
FIRST_ORDER = (
    "10Percentile",
    "90Percentile",
    "Energy",
    "Entropy",
    "InterquartileRange",
    "Kurtosis",
    "Maximum",
    "MeanAbsoluteDeviation",
    "Mean",
    "Median",
    "Minimum",
    "Range",
    "RobustMeanAbsoluteDeviation",
    "RootMeanSquared",
    "Skewness",
    "TotalEnergy",
    "Uniformity",
    "Variance",
)
GLCM = (
    "Autocorrelation",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Id",
    "Idm",
    "Idmn",
    "Idn",
    "Imc1",
    "Imc2",
    "InverseVariance",
    "JointAverage",
    "JointEnergy",
    "JointEntropy",
    "MCC",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
)
GLDM = (
    "DependenceEntropy",
    "DependenceNonUniformity",
    "DependenceNonUniformityNormalized",
    "DependenceVariance",
    "GrayLevelNonUniformity",
    "GrayLevelVariance",
    "HighGrayLevelEmphasis",
    "LargeDependenceEmphasis",
    "LargeDependenceHighGrayLevelEmphasis",
    "LargeDependenceLowGrayLevelEmphasis",
    "LowGrayLevelEmphasis",
    "SmallDependenceEmphasis",
    "SmallDependenceHighGrayLevelEmphasis",
    "SmallDependenceLowGrayLevelEmphasis",
)
GLRLM = (
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "GrayLevelVariance",
    "HighGrayLevelRunEmphasis",
    "LongRunEmphasis",
    "LongRunHighGrayLevelEmphasis",
    "LongRunLowGrayLevelEmphasis",
    "LowGrayLevelRunEmphasis",
    "RunEntropy",
    "RunLengthNonUniformity",
    "RunLengthNonUniformityNormalized",
    "RunPercentage",
    "RunVariance",
    "ShortRunEmphasis",
    "ShortRunHighGrayLevelEmphasis",
    "ShortRunLowGrayLevelEmphasis",
)
GLSZM = (
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "GrayLevelVariance",
    "HighGrayLevelZoneEmphasis",
    "LargeAreaEmphasis",
    "LargeAreaHighGrayLevelEmphasis",
    "LargeAreaLowGrayLevelEmphasis",
    "LowGrayLevelZoneEmphasis",
    "SizeZoneNonUniformity",
    "SizeZoneNonUniformityNormalized",
    "SmallAreaEmphasis",
    "SmallAreaHighGrayLevelEmphasis",
    "SmallAreaLowGrayLevelEmphasis",
    "ZoneEntropy",
    "ZonePercentage",
    "ZoneVariance",
)
NGTDM = ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")

#: Feature classes of every image, in PyRadiomics' order: 93 features.
IMAGE_CLASSES = {
    "firstorder": FIRST_ORDER,
    "glcm": GLCM,
    "gldm": GLDM,
    "glrlm": GLRLM,
    "glszm": GLSZM,
    "ngtdm": NGTDM,
}
#: All classes; shape is computed once, of the region alone.
CLASSES = ("shape", *IMAGE_CLASSES)


@dataclass(frozen=True)
class RadiomicsSettings:
    """How radiomics are computed. The defaults give 14 + 19 x 93 = 1781 features.

    ``bin_width`` of the grey levels, HU. ``spacing_mm`` (i, j, k) that the CT is resampled to, None
    to keep the CT's own; ``interpolation`` of the CT, the mask is always nearest neighbour;
    ``whole_hu`` : resampled intensities lose their fraction, as those of an integer CT do in
    PyRadiomics.
    ``padding`` voxels around the region of interest are there for the filters. ``image_types`` of
    :data:`IMAGE_TYPES`; ``classes`` of :data:`CLASSES`; ``log_sigmas_mm`` of the Laplacian of
    Gaussian, ``wavelet`` as PyWavelets names it. ``energy_shift``, HU, is added to the intensities
    of Energy, TotalEnergy and RootMeanSquared alone. ``roles`` of the segmentation that make the
    region of interest together: the liver with what lies in it, or ("lesion",).

    Raises
    ------
    OptionError : a value that cannot be used.
    """

    bin_width: float = 25.0
    spacing_mm: Vector | None = (2.0, 2.0, 2.0)
    interpolation: str = "bspline"
    whole_hu: bool = True
    padding: int = 8
    image_types: tuple[str, ...] = IMAGE_TYPES
    classes: tuple[str, ...] = CLASSES
    log_sigmas_mm: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    wavelet: str = "coif1"
    energy_shift: float = 0.0
    roles: tuple[str, ...] = ("liver", "lesion")

    def __post_init__(self) -> None:
        def refuse(what: str, advice: str) -> None:
            raise OptionError(f"Radiomics settings: {what}.", advice)

        if not self.bin_width > 0:
            refuse(f"the bin width is {self.bin_width}", "Give HU above 0, 25 is usual.")
        if self.spacing_mm is not None and not all(step > 0 for step in self.spacing_mm):
            refuse(f"the spacing is {self.spacing_mm} mm", "Give three numbers above 0, or null.")
        if self.interpolation not in INTERPOLATIONS:
            refuse(
                f"the interpolation {self.interpolation!r} does not exist",
                f"Choose of {', '.join(INTERPOLATIONS)}.",
            )
        if self.padding < 0:
            refuse(f"the padding is {self.padding} voxels", "Give 0 or more.")
        for what, chosen, known in (
            ("image types", self.image_types, IMAGE_TYPES),
            ("classes", self.classes, CLASSES),
        ):
            if not chosen or not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
                refuse(
                    f"the {what} are {list(chosen)}", f"Choose of {', '.join(known)}, each once."
                )
        if not all(sigma > 0 for sigma in self.log_sigmas_mm):
            refuse(f"the sigmas are {self.log_sigmas_mm} mm", "Give numbers above 0.")
        if not self.roles:
            refuse("no role is named", "Name the roles of the segmentation, for instance liver.")

    @property
    def digest(self) -> str:
        """SHA-256 of these settings and of the version of the method, hexadecimal."""
        fields = {**dataclasses.asdict(self), "method": METHOD}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_settings(path: Path | str) -> RadiomicsSettings:
    """Settings from a JSON file; what it leaves out has its default.

    Raises
    ------
    OptionError : the file cannot be read, is no JSON, or has an unknown field or value.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        settings = build(RadiomicsSettings, fields, "radiomics settings")
    except (OSError, ValueError) as error:  # FieldError and JSON errors are ValueErrors
        reason = str(error) if isinstance(error, (FieldError, OSError)) else f"no JSON ({error})"
        raise OptionError(
            f"The radiomics settings {path} cannot be used: {reason}",
            "docs/radiomics.md lists the fields.",
        ) from error
    assert isinstance(settings, RadiomicsSettings)
    return settings


def image_names(settings: RadiomicsSettings) -> tuple[str, ...]:
    """Names of the images that features are computed of, in order."""
    names: list[str] = []
    for image_type in settings.image_types:
        if image_type == "wavelet":
            names += [f"wavelet-{band}" for band in WAVELET_BANDS]
        elif image_type == "log":
            names += [log_name(sigma) for sigma in settings.log_sigmas_mm]
        else:
            names.append(image_type)
    return tuple(names)


def log_name(sigma_mm: float) -> str:
    """Name of a Laplacian of Gaussian image."""
    return f"log-sigma-{str(float(sigma_mm)).replace('.', '-')}-mm-3D"


def feature_names(settings: RadiomicsSettings) -> tuple[str, ...]:
    """Names of all features, in PyRadiomics' spelling and order."""
    names = [f"original_shape_{feature}" for feature in SHAPE if "shape" in settings.classes]
    for image in image_names(settings):
        for group, features in IMAGE_CLASSES.items():
            if group in settings.classes:
                names += [f"{image}_{group}_{feature}" for feature in features]
    return tuple(names)
