"""The demo's simulated patient."""

from __future__ import annotations

from .parameters import CaseParameters, Cyst, Lesion, Scanner, Signs


def demo_parameters() -> CaseParameters:
    """A poorly differentiated tumour of about 5 cm, a second one of about 2.5 cm, and a cyst.

    Portal venous phase, mild cirrhosis, 1.25 x 1.25 x 2.5 mm.
    """
    index = Lesion(
        position=(0.78, 0.52, 0.60),
        radii_mm=(26.0, 23.0, 25.0),
        signs=Signs(
            arterial_hu=25.0,
            washout_hu=45.0,
            capsule_hu=45.0,
            mosaic_hu=12.0,
            necrosis=0.22,
            irregularity=0.65,
            satellites=1,
            peritumoral_hu=14.0,
        ),
        uptake_ratio=(("pet_fdg", 2.9), ("pet_acetate", 1.15)),
    )
    second = Lesion(
        position=(0.30, 0.74, 0.66),
        radii_mm=(13.0, 12.0, 12.5),
        signs=Signs(
            arterial_hu=25.0,
            washout_hu=40.0,
            mosaic_hu=8.0,
            necrosis=0.05,
            irregularity=0.4,
            peritumoral_hu=10.0,
        ),
        uptake_ratio=(("pet_fdg", 2.3), ("pet_acetate", 1.2)),
    )
    return CaseParameters(
        differentiation=0.15,
        pathology_differentiation=0.12,
        lesions=(index, second),
        cysts=(Cyst(position=(0.72, 0.35, 0.3), radius_mm=7.0),),
        anatomy_seed=11,
        liver_volume_ml=1420.0,
        cirrhosis=0.35,
        steatosis=0.1,
        spleen=1.1,
        scanner=Scanner(spacing_mm=(1.25, 1.25, 2.5), noise_hu=11.0),
    )
