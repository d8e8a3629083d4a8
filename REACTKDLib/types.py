"""The frozen values that cross every boundary between stages.

Arrays inside are read-only views: a stage makes new values, it edits none. Imports neither torch
nor SimpleITK, so the Slicer panel may import it at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from .errors import InputError
from .geometry import Geometry, Vector

RESEARCH_USE = "Research use only. Not for diagnosis."

#: Code of the notice of a case whose segmentation has no lesion.
NO_LESION = "no_lesion"


def read_only(array: np.ndarray) -> np.ndarray:
    """A view of ``array`` that refuses writes."""
    view = array.view()
    view.flags.writeable = False
    return view


def frozen_mapping(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """A read-only copy of ``mapping``, order kept."""
    return MappingProxyType(dict(mapping))


def _check_shape(array: np.ndarray, geometry: Geometry, what: str) -> None:
    if array.shape != geometry.array_shape:
        raise InputError(
            f"{what}: array shape {array.shape} does not fit the grid {geometry.array_shape}.",
            "Arrays are (k, j, i).",
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume: ``array`` (k, j, i) on ``geometry``; CT in HU, PET in SUV."""

    array: np.ndarray
    geometry: Geometry
    name: str = ""

    def __post_init__(self) -> None:
        _check_shape(self.array, self.geometry, self.name or "Volume")
        object.__setattr__(self, "array", read_only(self.array))


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation. ``role`` is what the model package calls it, or None."""

    label: int
    name: str
    role: str | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A labelmap, uint8 (k, j, i), on its own grid. 0 is background."""

    labels: np.ndarray
    geometry: Geometry
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        _check_shape(self.labels, self.geometry, "Segmentation")
        if self.labels.dtype != np.uint8:
            raise InputError(f"Labels are {self.labels.dtype}, not uint8.", "Convert the labelmap.")
        object.__setattr__(self, "labels", read_only(self.labels))

    def labels_of(self, role: str) -> tuple[int, ...]:
        """Label values whose role is ``role``."""
        return tuple(s.label for s in self.segments if s.role == role)


@dataclass(frozen=True)
class SourceFile:
    """What was read: ``role`` (ct, segmentation, pet_fdg, ...), path as given, SHA-256."""

    role: str
    path: str
    sha256: str


@dataclass(frozen=True)
class SeriesChoice:
    """Which series of a DICOM folder was read, ``why``, and ``others`` that were not, and why."""

    uid: str
    description: str
    why: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notice:
    """Something that the reader of a result must know.

    ``severity`` is ``info`` or ``warning``; ``code`` is stable, for programs.
    """

    code: str
    severity: str
    text: str


@dataclass(frozen=True, eq=False)
class Study:
    """One case as read: volumes by modality (``ct``, ``pet_fdg``, ``pet_acetate``), segmentation.

    Every volume keeps its own grid; all grids share one patient coordinate system. ``series`` : by
    modality, which series was read where the files were DICOM. ``notices`` : what was done to the
    files to read them.
    """

    volumes: Mapping[str, Volume]
    segmentation: Segmentation
    case_id: str = "case"
    sources: tuple[SourceFile, ...] = ()
    series: Mapping[str, SeriesChoice] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        if "ct" not in self.volumes:
            raise InputError("The study has no CT.", "Give a CT volume.")
        object.__setattr__(self, "volumes", frozen_mapping(self.volumes))
        object.__setattr__(self, "series", frozen_mapping(self.series))

    @property
    def ct(self) -> Volume:
        """The CT, HU."""
        return self.volumes["ct"]


@dataclass(frozen=True)
class Region:
    """A part of the image that gets its share of the decision.

    ``label`` is its value in the region labelmap; ``kind`` is ``lesion``, ``rim``, ``parenchyma``
    or ``organ``. Volume in ml, centroid in RAS mm, HU mean and standard deviation,
    ``longest_diameter_mm`` the greatest 3-D extent (lesions only).
    """

    id: str
    name: str
    kind: str
    label: int
    volume_ml: float
    centroid_ras: Vector
    mean_hu: float
    sd_hu: float
    longest_diameter_mm: float | None = None


@dataclass(frozen=True)
class RegionShare:
    """What one region adds to the decision, in logit units.

    ``share`` : contrast of the target class against the mean of the others, measured from the
        reference case. Sums over regions, with the outside share, to
        ``contrast - reference_contrast``.
    ``share_per_ml`` : share divided by the region's volume.
    ``logit_shares`` : raw share of each class logit; sums, with the outside, to logit - bias.
    ``attention`` : mean CBAM spatial attention in the region, 0..1.
    """

    region_id: str
    share: float
    share_per_ml: float
    logit_shares: Mapping[str, float]
    attention: float


@dataclass(frozen=True)
class Edge:
    """Relation of two regions. ``similarity`` is the cosine of their reference-centred features,
    ``contact_area_mm2`` their common border, ``distance_mm`` between centroids."""

    source: str
    target: str
    similarity: float
    contact_area_mm2: float
    distance_mm: float


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Nodes are regions, in the order of ``node_ids``; ``features`` is (nodes, channels)."""

    node_ids: tuple[str, ...]
    features: np.ndarray
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", read_only(self.features))


@dataclass(frozen=True)
class ClassInfo:
    """A class of the task: ``name`` for programs, ``title`` for people."""

    name: str
    title: str


@dataclass(frozen=True)
class WhatIf:
    """Changes of a study.

    ``hidden`` : ids of regions whose voxels become nearby parenchyma; a hidden lesion is no lesion
    any more. ``photons`` per ray for the CT (see :mod:`REACTKDLib.dose`), with the noise of
    ``seed``; None leaves the dose as it is.
    """

    hidden: tuple[str, ...] = ()
    photons: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class PredictionSet:
    """The classes that cannot be excluded, made to hold the true one with probability ``coverage``
    for patients like those of the calibration; ``classes`` are names, the most probable first."""

    classes: tuple[str, ...]
    coverage: float


@dataclass(frozen=True, eq=False)
class CaseResult:
    """Everything that one run says about one case; what the report writes and Slicer shows.

    ``attention`` : float32 on the CT grid: contribution density to the target class's contrast,
        signed, in logit units per litre; 0 outside the model's region of interest.
    ``region_labels`` : uint8 on the CT grid; values are ``Region.label``.
    ``shares`` : one per region, same order as ``regions``.
    ``bias`` : the classifier's bias per class, so that shares can be checked by hand.
    ``prediction_set`` : None where the model was not calibrated for one.
    """

    case_id: str
    task_title: str
    classes: tuple[ClassInfo, ...]
    probabilities: Mapping[str, float]
    logits: Mapping[str, float]
    bias: Mapping[str, float]
    target: str
    scheme: str
    regions: tuple[Region, ...]
    shares: tuple[RegionShare, ...]
    outside_share: float
    outside_logit_shares: Mapping[str, float]
    contrast: float
    reference_contrast: float
    graph: RegionGraph
    attention: Volume
    region_labels: Volume
    modalities: tuple[str, ...]
    simulated_model: bool
    notices: tuple[Notice, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    prediction_set: PredictionSet | None = None

    @property
    def predicted(self) -> ClassInfo:
        """The class with the highest probability."""
        return max(self.classes, key=lambda c: self.probabilities[c.name])

    @property
    def abstains(self) -> bool:
        """Whether the model excludes no class, or finds them all strange: no answer then."""
        possible = self.prediction_set
        return possible is not None and len(possible.classes) in (0, len(self.classes))

    def class_title(self, name: str) -> str:
        """What people call the class ``name``."""
        return next(c.title for c in self.classes if c.name == name)

    @property
    def ranked(self) -> tuple[tuple[Region, RegionShare], ...]:
        """Regions with their shares, the largest share first."""
        return tuple(
            sorted(zip(self.regions, self.shares, strict=True), key=lambda pair: -pair[1].share)
        )
