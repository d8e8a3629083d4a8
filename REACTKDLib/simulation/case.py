"""A whole simulated case: images, segmentation and the truth that scores a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import OptionError
from ..geometry import Geometry, Vector
from ..types import Segment, Segmentation, Study, Volume, frozen_mapping
from .anatomy import build_anatomy
from .imaging import Scene, liver_texture, pet_geometry, render_ct, render_pet
from .lesions import RIM_MM, LesionFields, build_cyst, build_lesion, place_lesions
from .parameters import TRACERS, CaseParameters

LIVER = Segment(1, "liver", "liver")
LESION = Segment(2, "lesion", "lesion")


@dataclass(frozen=True)
class LesionTruth:
    """Where a lesion came to lie and which regions show evidence of the grade.

    ``id`` is its value in the truth's lesion and rim masks. ``evidence`` lists ``lesion``
    (contrast, mosaic, necrosis, margin, uptake) and, if a capsule or peritumoral enhancement
    shows, ``rim``.
    """

    id: int
    centre_ras: Vector
    volume_ml: float
    evidence: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SimulationTruth:
    """What is known of a simulated case.

    ``lesion_ids`` and ``rim_ids`` are uint8 masks on the CT grid: 0 or a lesion's id. The rim is
    the liver within ``RIM_MM`` of a lesion's margin.
    """

    parameters: CaseParameters
    seed: int
    lesions: tuple[LesionTruth, ...]
    liver_volume_ml: float
    lesion_ids: Volume
    rim_ids: Volume

    @property
    def grade(self) -> str:
        """True grade."""
        return self.parameters.grade

    @property
    def observed_grade(self) -> str:
        """Grade as pathology reports it: the label."""
        return self.parameters.observed_grade

    def as_dict(self) -> dict[str, Any]:
        """Everything but the masks, ready for JSON."""
        return {
            "simulated": True,
            "seed": self.seed,
            "grade": self.grade,
            "observed_grade": self.observed_grade,
            "differentiation": self.parameters.differentiation,
            "liver_volume_ml": self.liver_volume_ml,
            "rim_mm": RIM_MM,
            "lesions": [asdict(lesion) for lesion in self.lesions],
            "parameters": asdict(self.parameters),
        }


@dataclass(frozen=True, eq=False)
class SimulatedCase:
    """Images and truth of one simulated patient. ``pet`` maps tracers to SUV volumes."""

    ct: Volume
    segmentation: Segmentation
    pet: Mapping[str, Volume]
    truth: SimulationTruth

    def __post_init__(self) -> None:
        object.__setattr__(self, "pet", frozen_mapping(self.pet))

    def study(self, case_id: str = "simulated") -> Study:
        """The case as the pipeline reads it."""
        return Study({"ct": self.ct, **self.pet}, self.segmentation, case_id)


def simulate_case(
    parameters: CaseParameters,
    seed: int,
    *,
    pet: Sequence[str] = TRACERS,
    noise: bool = True,
    grid: Geometry | None = None,
) -> SimulatedCase:
    """Simulate a patient's CT, segmentation and PET.

    Parameters
    ----------
    parameters : the patient and the scanner; they fix the anatomy.
    seed : drives the noise of CT and PET, nothing else.
    pet : tracers to render; empty for CT only.
    noise : False renders noise-free images.
    grid : CT grid instead of ``parameters.scanner.geometry()``; the anatomy stays where it is.

    Returns
    -------
    SimulatedCase : CT int16 HU; segmentation uint8 on the CT grid, 1 liver, 2 lesion (the
        convention of LiTS); PET float32 SUV on coarser grids of their own.

    Raises
    ------
    OptionError : a tracer that cannot be simulated, or a lesion that finds no room in the liver.
    """
    for tracer in pet:
        if tracer not in TRACERS:
            raise OptionError(f"No tracer {tracer!r} can be simulated.", f"Choose from {TRACERS}.")
    scene = build_scene(parameters)
    grid = grid or parameters.scanner.geometry()
    streams = dict(
        zip(("ct", *TRACERS), np.random.SeedSequence(seed).spawn(1 + len(TRACERS)), strict=True)
    )

    def rng(name: str) -> np.random.Generator | None:
        return np.random.default_rng(streams[name]) if noise else None

    ct = render_ct(scene, grid, rng("ct"))
    liver = scene.anatomy.liver.over(grid) < 0
    lesion_ids, rim_ids = lesion_masks(scene.lesions, liver, grid)
    labels = np.where(lesion_ids > 0, LESION.label, np.where(liver, LIVER.label, 0)).astype(
        np.uint8
    )
    pet_grid = pet_geometry(grid)
    volumes = {
        tracer: Volume(
            render_pet(scene, tracer, pet_grid, rng(tracer)), pet_grid, f"simulated_{tracer}"
        )
        for tracer in pet
    }
    truth = SimulationTruth(
        parameters,
        seed,
        tuple(
            LesionTruth(
                number,
                lesion.centre_ras,
                float(np.count_nonzero(lesion_ids == number)) * grid.voxel_volume_ml,
                evidence_regions(lesion),
            )
            for number, lesion in enumerate(scene.lesions, 1)
        ),
        float(np.count_nonzero(labels)) * grid.voxel_volume_ml,
        Volume(lesion_ids, grid, "simulated_lesion_ids"),
        Volume(rim_ids, grid, "simulated_rim_ids"),
    )
    return SimulatedCase(
        Volume(ct, grid, "simulated_ct"),
        Segmentation(labels, grid, (LIVER, LESION)),
        volumes,
        truth,
    )


def build_scene(parameters: CaseParameters) -> Scene:
    """Anatomy with lesions, independent of any grid and of the noise seed.

    Raises
    ------
    OptionError : a lesion that finds no room in the liver.
    """
    anatomy = build_anatomy(parameters)
    # The first four children belong to build_anatomy.
    children = np.random.SeedSequence(parameters.anatomy_seed).spawn(5 + len(parameters.lesions))
    texture = liver_texture(parameters, anatomy.liver, np.random.default_rng(children[4]))
    centres = place_lesions(parameters, anatomy)
    lesions: list[LesionFields] = []
    for number, lesion in enumerate(parameters.lesions):
        taken = [anatomy.organs["ivc"], *(earlier.shape for earlier in lesions)]
        rng = np.random.default_rng(children[5 + number])
        lesions.append(build_lesion(lesion, centres[number], anatomy.liver, taken, rng))
    cysts = tuple(
        build_cyst(centre, cyst.radius_mm, anatomy.liver)
        for cyst, centre in zip(parameters.cysts, centres[len(lesions) :], strict=True)
    )
    return Scene(parameters, anatomy, tuple(lesions), cysts, texture)


def lesion_masks(
    lesions: Sequence[LesionFields], liver: np.ndarray, grid: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Lesion and rim ids, uint8 (k, j, i), at the voxel centres of ``grid``: 0 or 1, 2, ...

    ``liver`` is bool (k, j, i), the liver with its lesions; neither mask leaves it.
    """
    ids, rims = np.zeros(grid.array_shape, np.uint8), np.zeros(grid.array_shape, np.uint8)
    for number, lesion in enumerate(lesions, 1):
        drawn = lesion.shape.on(grid)
        if drawn is None:
            continue
        box, _, distance = drawn
        ids[box][(distance < 0) & liver[box]] = number
        rims[box][(distance >= 0) & (distance < RIM_MM) & liver[box]] = number
    rims[ids > 0] = 0
    return ids, rims


def evidence_regions(lesion: LesionFields) -> tuple[str, ...]:
    """Regions that show evidence of the grade, as in :class:`LesionTruth`."""
    signs = lesion.parameters.signs
    return ("lesion", "rim") if signs.capsule_hu > 0 or signs.peritumoral_hu > 0 else ("lesion",)
