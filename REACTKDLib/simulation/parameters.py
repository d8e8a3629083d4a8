"""What determines a simulated case, apart from its noise.

Positions are RAS mm in the simulated patient, whose origin lies in the middle of the upper abdomen
in front of the spine. Hounsfield units (HU) are added to the surrounding liver unless said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import OptionError
from ..geometry import Geometry, Vector

#: Class names of the histological grade, in the order of falling differentiation.
GRADES = ("well", "moderate", "poor")

#: Differentiation above the first cut is well, above the second moderate, else poor.
GRADE_CUTS = (2 / 3, 1 / 3)

#: PET tracers that can be simulated, as the modality names of a study.
TRACERS = ("pet_fdg", "pet_acetate")

#: Unit vectors in LPS of the letters of an orientation code (the direction an axis runs towards).
_AXIS_LPS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}


def grade_of(differentiation: float) -> str:
    """Grade of a differentiation in [0, 1], where 1 is like normal liver cells.

    Raises
    ------
    OptionError : a differentiation outside [0, 1].
    """
    _check_range("differentiation", differentiation, 0.0, 1.0)
    return GRADES[sum(differentiation <= cut for cut in GRADE_CUTS)]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise OptionError(f"{name} is {value}.", f"Choose a value from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel.

    ``psf_mm`` : width over which an edge is blurred. ``noise_blur_mm`` : standard deviation of the
    Gaussian that correlates the noise in plane. ``edge_boost`` : share of low-frequency noise that
    the kernel takes away (0 for a smooth kernel, near 1 for a sharp one, whose noise looks grainy).
    """

    psf_mm: float
    noise_blur_mm: float
    edge_boost: float


KERNELS = {
    "soft": Kernel(psf_mm=2.4, noise_blur_mm=1.1, edge_boost=0.3),
    "standard": Kernel(psf_mm=1.7, noise_blur_mm=0.8, edge_boost=0.5),
    "sharp": Kernel(psf_mm=1.0, noise_blur_mm=0.5, edge_boost=0.8),
}


@dataclass(frozen=True)
class Scanner:
    """The CT grid and its image quality.

    Parameters
    ----------
    spacing_mm : voxel spacing along the image axes (i, j, k).
    extent_mm : length of the field of view along (i, j, k).
    centre_ras : patient point in the middle of the field of view, RAS mm.
    orientation : three letters of L/R, P/A, S/I: where i, j and k run towards.
    tilt_deg : rotation of the grid about the patient's x, y and z axes (obliquity), degrees.
    kernel : a name in ``KERNELS``.
    noise_hu : noise standard deviation in the middle of an average body.
    """

    spacing_mm: Vector = (2.0, 2.0, 4.0)
    extent_mm: Vector = (400.0, 330.0, 212.0)
    centre_ras: Vector = (0.0, 0.0, -8.0)
    orientation: str = "LPS"
    tilt_deg: Vector = (0.0, 0.0, 0.0)
    kernel: str = "standard"
    noise_hu: float = 12.0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise OptionError(f"No kernel {self.kernel!r}.", f"Choose from {sorted(KERNELS)}.")
        letters = {"L": "x", "R": "x", "P": "y", "A": "y", "S": "z", "I": "z"}
        if sorted(letters.get(c, "?") for c in self.orientation) != ["x", "y", "z"]:
            raise OptionError(
                f"{self.orientation!r} is not an orientation.", "Use three letters such as LPS."
            )
        _check_range("noise_hu", self.noise_hu, 0.0, 200.0)

    def geometry(self) -> Geometry:
        """The CT grid in patient space."""
        from scipy.spatial.transform import Rotation

        axes = np.array([_AXIS_LPS[letter] for letter in self.orientation]).T
        tilt = Rotation.from_euler("xyz", self.tilt_deg, degrees=True)
        direction = np.column_stack([tilt.apply(axis) for axis in axes.T])
        size = np.maximum(1, np.round(np.divide(self.extent_mm, self.spacing_mm))).astype(int)
        return centred_geometry(size, self.spacing_mm, self.centre_ras, direction)


def centred_geometry(
    size: np.ndarray, spacing_mm: Vector, centre_ras: Vector, direction: np.ndarray | None = None
) -> Geometry:
    """Grid of ``size`` (i, j, k) whose middle lies at ``centre_ras``; ``direction`` is 3x3, LPS."""
    count = (int(size[0]), int(size[1]), int(size[2]))
    cosines = tuple(float(v) for v in (np.eye(3) if direction is None else direction).ravel())
    at_zero = Geometry(count, spacing_mm, (0.0, 0.0, 0.0), cosines)
    middle = at_zero.ras_from_ijk((np.asarray(size) - 1) / 2)
    shift = at_zero.lps_from_ijk(at_zero.ijk_from_ras(np.asarray(centre_ras) - middle))
    return Geometry(count, spacing_mm, (float(shift[0]), float(shift[1]), float(shift[2])), cosines)


@dataclass(frozen=True)
class Signs:
    """How one lesion looks on contrast CT.

    Parameters
    ----------
    arterial_hu : enhancement above the liver at its arterial peak.
    washout_hu : drop below the liver once washout is complete (a positive number).
    capsule_hu : brightness of the capsule in the portal and delayed phases; 0 for no capsule.
    mosaic_hu : standard deviation of the nodule-in-nodule pattern inside.
    necrosis : fraction of the lesion's volume that is necrotic, 0 to 0.8.
    irregularity : irregular margin, 0 (smooth) to 1 (lobulated, spiculated).
    satellites : small nodules close to the lesion; they belong to it.
    peritumoral_hu : enhancement of the liver next to the margin, fading over about 1 cm.
    """

    arterial_hu: float = 30.0
    washout_hu: float = 20.0
    capsule_hu: float = 0.0
    mosaic_hu: float = 5.0
    necrosis: float = 0.0
    irregularity: float = 0.1
    satellites: int = 0
    peritumoral_hu: float = 0.0

    def __post_init__(self) -> None:
        _check_range("necrosis", self.necrosis, 0.0, 0.8)
        _check_range("irregularity", self.irregularity, 0.0, 1.0)
        _check_range("satellites", self.satellites, 0, 6)


@dataclass(frozen=True)
class Lesion:
    """A tumour: where, how large, how it looks and how much tracer it takes up.

    Parameters
    ----------
    position : wanted centre as fractions of the liver's bounding box along R, A and S; the lesion
        goes to the nearest place where it fits into the liver.
    radii_mm : semi-axes of the ellipsoid before its margin is deformed.
    signs : its look on CT.
    uptake_ratio : lesion-to-liver SUV ratio per tracer.
    """

    position: Vector = (0.65, 0.5, 0.5)
    radii_mm: Vector = (20.0, 20.0, 20.0)
    signs: Signs = field(default_factory=Signs)
    uptake_ratio: tuple[tuple[str, float], ...] = (("pet_fdg", 1.3), ("pet_acetate", 1.5))

    def __post_init__(self) -> None:
        for radius in self.radii_mm:
            _check_range("lesion radius (mm)", radius, 3.0, 80.0)
        for tracer, ratio in self.uptake_ratio:
            _check_tracer(tracer)
            _check_range(f"uptake ratio of {tracer}", ratio, 0.0, 20.0)

    def ratio(self, tracer: str) -> float:
        """Lesion-to-liver SUV ratio of ``tracer``."""
        _check_tracer(tracer)
        return dict(self.uptake_ratio).get(tracer, 1.0)


def _check_tracer(tracer: str) -> None:
    if tracer not in TRACERS:
        raise OptionError(f"No tracer {tracer!r} can be simulated.", f"Choose from {TRACERS}.")


@dataclass(frozen=True)
class Cyst:
    """A simple cyst: water in the liver, not a tumour and not in the segmentation."""

    position: Vector
    radius_mm: float


@dataclass(frozen=True)
class CaseParameters:
    """Everything that determines a simulated case except its noise.

    Parameters
    ----------
    differentiation : true differentiation of the tumour, 0 (poor) to 1 (well).
    pathology_differentiation : differentiation of the part that pathology looked at; its grade is
        the label that a training set would hold.
    lesions : the tumours; the first one is the index lesion.
    cysts : simple cysts, distractors.
    anatomy_seed : shape of everything that is random but not noise: deformation, vessels, texture.
    body_size : scale of the trunk against an average adult.
    fat_mm : thickness of the subcutaneous fat.
    liver_volume_ml : volume of the liver with its lesions.
    left_lobe : size of the left lobe against the average.
    spleen : length of the spleen against the average.
    steatosis : 0 (none) to 1 (native liver 30 HU lower).
    cirrhosis : 0 (none) to 1 (nodular surface and texture, weaker and later enhancement).
    delay_s : time from contrast injection to CT: 35 late arterial, 70 portal venous, 180 delayed.
    breathing_offset_mm : how far the organs lie lower on PET than on CT, one value per tracer.
    liver_suv : mean SUV of the liver, one value per tracer.
    pet_counts : counts per voxel and SUV; fewer counts are noisier.
    scanner : the CT grid and image quality.
    """

    differentiation: float = 0.5
    pathology_differentiation: float = 0.5
    lesions: tuple[Lesion, ...] = (Lesion(),)
    cysts: tuple[Cyst, ...] = ()
    anatomy_seed: int = 0
    body_size: float = 1.0
    fat_mm: float = 18.0
    liver_volume_ml: float = 1450.0
    left_lobe: float = 1.0
    spleen: float = 1.0
    steatosis: float = 0.0
    cirrhosis: float = 0.0
    delay_s: float = 70.0
    breathing_offset_mm: tuple[tuple[str, float], ...] = (("pet_fdg", 4.0), ("pet_acetate", 5.0))
    liver_suv: tuple[tuple[str, float], ...] = (("pet_fdg", 2.2), ("pet_acetate", 3.0))
    pet_counts: float = 60.0
    scanner: Scanner = field(default_factory=Scanner)

    def __post_init__(self) -> None:
        _check_range("differentiation", self.differentiation, 0.0, 1.0)
        _check_range("pathology_differentiation", self.pathology_differentiation, 0.0, 1.0)
        _check_range("body_size", self.body_size, 0.8, 1.25)
        _check_range("fat_mm", self.fat_mm, 3.0, 50.0)
        _check_range("liver_volume_ml", self.liver_volume_ml, 900.0, 2000.0)
        _check_range("left_lobe", self.left_lobe, 0.6, 1.4)
        _check_range("spleen", self.spleen, 0.7, 1.6)
        _check_range("steatosis", self.steatosis, 0.0, 1.0)
        _check_range("cirrhosis", self.cirrhosis, 0.0, 1.0)
        _check_range("delay_s", self.delay_s, 20.0, 300.0)
        for tracer, _ in (*self.breathing_offset_mm, *self.liver_suv):
            _check_tracer(tracer)

    @property
    def grade(self) -> str:
        """True grade."""
        return grade_of(self.differentiation)

    @property
    def observed_grade(self) -> str:
        """Grade as pathology reports it: the label."""
        return grade_of(self.pathology_differentiation)
