"""A small model package of prognosis with random weights, and a patient that it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_models import shipped_specification

from REACTKDLib.model_package import TrainingRanges, spec_from_section
from REACTKDLib.prognosis.clinical_input import check_record
from REACTKDLib.prognosis.networks.build import PrognosisNetwork, build_network
from REACTKDLib.prognosis.networks.spec import (
    PrognosisNetworkSpec,
    ResNetSpec,
    families_of,
    variables_of,
)
from REACTKDLib.prognosis.package import (
    Calibration,
    ImageSpec,
    PrognosisMetadata,
    PrognosisPackage,
    TrainingStatistics,
    write_prognosis_package,
)
from REACTKDLib.prognosis.radiomics import radiomics_features
from REACTKDLib.prognosis.radiomics_grid import region_of_interest
from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings, feature_names
from REACTKDLib.prognosis.scaling import ClinicalScaling, PrognosisScaling, RadiomicsScaling
from REACTKDLib.prognosis.types import ClinicalRecord, ClinicalSchema, Variable
from REACTKDLib.types import ClassInfo, Study

SCHEMA = ClinicalSchema(
    "few",
    "Few variables",
    (
        Variable("age", "Age", "number", "a", (18.0, 110.0), group="Patient"),
        Variable("sex", "Sex", "category", categories=("female", "male"), group="Patient"),
        Variable("albumin", "Albumin", "number", "g/l", (10.0, 60.0), {"g/dl": 10.0}),
        Variable("ascites", "Ascites", "flag"),
        Variable("bilirubin", "Bilirubin", "number", "umol/l", (1.0, 900.0), logarithmic=True),
    ),
)
#: Few features and no wavelets: a tenth of a second.
SETTINGS = RadiomicsSettings(spacing_mm=(8.0, 8.0, 8.0), image_types=("original", "square"))
RECORD = check_record(SCHEMA, {"age": 61, "sex": "female", "albumin": "4.1 g/dl", "ascites": "no"})


def image_spec() -> ImageSpec:
    """CT and liver of the shipped configuration, on a coarse grid."""
    document = shipped_specification()
    document["grid"] |= {"spacing_mm": [8.0, 8.0, 10.0]}
    spec = spec_from_section(document)
    modality = next(m for m in spec.modalities if m.name == "ct")
    return ImageSpec(spec.role_rules, modality, spec.grid, spec.regions, spec.plausibility)


def kept_features() -> tuple[str, ...]:
    """Every third feature: families of several sizes."""
    return feature_names(SETTINGS)[::3]


def random_metadata(study: Study | None = None, **changes: Any) -> PrognosisMetadata:
    """Radiomics are scaled around those of ``study``, so that they say something."""
    names, kept = feature_names(SETTINGS), kept_features()
    centre = np.zeros(len(kept))
    if study is not None:
        mask = region_of_interest(study.segmentation, study.ct.geometry, SETTINGS)
        values = radiomics_features(study.ct, mask, SETTINGS).values
        centre = np.nan_to_num([values[name] for name in kept])
    spread = np.abs(centre) * 0.4 + 1e-3
    rng = np.random.default_rng(3)
    centre = centre + rng.normal(0, 1, len(kept)) * spread
    clinical = ClinicalScaling(
        SCHEMA.names,
        tuple(v.kind for v in SCHEMA.variables),
        tuple(v.categories for v in SCHEMA.variables),
        tuple(v.logarithmic for v in SCHEMA.variables),
        (60.0, 0.0, 38.0, 0.0, 3.0),
        (10.0, 1.0, 5.0, 1.0, 0.8),
        (0.0, 0.0, 0.0, 0.0, 0.0),
        6.0,
    )
    radiomics = RadiomicsScaling(
        names, kept, tuple(centre.tolist()), tuple(spread.tolist()), (0.0,) * len(kept), 6.0
    )
    network = PrognosisNetworkSpec(
        variables=variables_of(SCHEMA),
        families=families_of(kept),
        ct=ResNetSpec(widths=(8, 8), layers=(1, 1), conv1_kernel=3, groups=4),
        dropout=0.0,
    )
    metadata = PrognosisMetadata(
        name="random-prognosis",
        title="Random weights",
        version="0.0.1",
        task="Survival of one year",
        outcome="died",
        outcome_title="Death within one year",
        horizon="1 year",
        classes=(ClassInfo("survived", "Survived"), ClassInfo("died", "Died")),
        network=network,
        scaling=PrognosisScaling(clinical, radiomics),
        simulated=True,
        intended_use="Tests only.",
        clinical_schema=SCHEMA,
        radiomics=SETTINGS,
        image=image_spec(),
        calibration=Calibration(1.4, -0.3),
        training=TrainingStatistics(
            50, {"age": (35.0, 80.0)}, 1e6, TrainingRanges((0.0, 300.0), (1.0, 9000.0), (0.1, 20.0))
        ),
    )
    return replace(metadata, **changes)


def random_network(spec: PrognosisNetworkSpec, seed: int = 11) -> PrognosisNetwork:
    """Random weights whose answers differ from patient to patient."""
    network = build_network(spec, seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith("fusion.heads"):
                weight *= 4
    return network.eval()


def write_random_prognosis(
    folder: Path, study: Study | None = None, **changes: Any
) -> PrognosisPackage:
    """A verified package of :func:`random_metadata`."""
    metadata = random_metadata(study, **changes)
    network = random_network(metadata.network)
    return write_prognosis_package(folder, metadata, network.state_dict(), "# Random weights\n")


def record(**values: Any) -> ClinicalRecord:
    """A checked record of :data:`SCHEMA`."""
    return check_record(SCHEMA, values)
