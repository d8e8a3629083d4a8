"""A package of prognosis and a prognosis for tests of the panel: fast, without torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fakes import REPOSITORY

from REACTKDLib.model_package import (
    CARD,
    METADATA,
    WEIGHTS,
    GridSpec,
    ModalitySpec,
    Plausibility,
    RegionSpec,
    write_checksums,
)
from REACTKDLib.prognosis.networks.spec import (
    PrognosisNetworkSpec,
    ResNetSpec,
    families_of,
    variables_of,
)
from REACTKDLib.prognosis.package import (
    ImageSpec,
    PrognosisMetadata,
    TextEncoderSpec,
    metadata_document,
)
from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings, feature_names
from REACTKDLib.prognosis.scaling import ClinicalScaling, PrognosisScaling, RadiomicsScaling
from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.types import ClinicalSchema
from REACTKDLib.roles import RoleRule
from REACTKDLib.types import ClassInfo

_SETTINGS = RadiomicsSettings(image_types=("original",), spacing_mm=(6.0, 6.0, 6.0))


def small_schema() -> ClinicalSchema:
    """Some variables of the shipped schema: every kind, several units, a relation."""
    whole = load_schema("chronic_liver_58")
    wanted = (
        "age",
        "sex",
        "hbv",
        "weight",
        "alt",
        "albumin",
        "bilirubin_total",
        "bilirubin_direct",
    )
    variables = tuple(v for v in whole.variables if v.name in wanted)
    relations = tuple(r for r in whole.relations if set(r.variables) <= set(wanted))
    return dataclasses.replace(whole, name="small", variables=variables, relations=relations)


def fake_metadata(schema: ClinicalSchema | None = None, **changes: Any) -> PrognosisMetadata:
    """A model of all three modalities with small sizes."""
    schema = schema or small_schema()
    document = json.loads(
        (REPOSITORY / "training" / "configs" / "hcc_grade3.json").read_text(encoding="utf-8")
    )["spec"]
    names = feature_names(_SETTINGS)
    kept = tuple(name for name in names if name.split("_")[1] in ("shape", "firstorder"))
    count, features = len(schema.variables), len(kept)
    metadata = PrognosisMetadata(
        name="fake-prognosis",
        title="A fake model of prognosis",
        version="0.0.1",
        task="Survival with chronic liver disease",
        outcome="death",
        outcome_title="death",
        horizon="1 year",
        classes=(ClassInfo("survival", "survival"), ClassInfo("death", "death")),
        network=PrognosisNetworkSpec(
            variables=variables_of(schema),
            families=families_of(kept),
            ct=ResNetSpec(layers=(1, 1, 1), widths=(8, 8, 16), conv1_kernel=3, groups=4),
            dropout=0.0,
        ),
        scaling=PrognosisScaling(
            ClinicalScaling(
                names=schema.names,
                kinds=tuple(v.kind for v in schema.variables),
                categories=tuple(v.categories for v in schema.variables),
                logarithmic=tuple(v.logarithmic for v in schema.variables),
                centre=(0.0,) * count,
                spread=(1.0,) * count,
                median=(0.0,) * count,
                limit=8.0,
            ),
            RadiomicsScaling(
                names=names,
                kept=kept,
                centre=(0.0,) * features,
                spread=(1.0,) * features,
                median=(0.0,) * features,
                limit=8.0,
            ),
        ),
        simulated=True,
        intended_use="tests",
        clinical_schema=schema,
        radiomics=_SETTINGS,
        image=ImageSpec(
            role_rules=tuple(RoleRule(**_rule(rule)) for rule in document["role_rules"]),
            modality=ModalitySpec("ct", "CT", True, window=(-160.0, 240.0)),
            grid=GridSpec((5.0, 5.0, 7.0), 6.0, 1),
            regions=RegionSpec(**document["regions"]),
            plausibility=Plausibility(
                tuple(document["plausibility"]["median_hu"]),
                document["plausibility"]["minimum_spread_hu"],
                document["plausibility"]["fat_below_hu"],
            ),
        ),
    )
    return dataclasses.replace(metadata, **changes)


def _rule(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "aliases": tuple(document["aliases"])}


def with_text(metadata: PrognosisMetadata) -> PrognosisMetadata:
    """The same model with a language model beside the variables."""
    network = dataclasses.replace(metadata.network, text_hidden=12)
    return dataclasses.replace(metadata, network=network, text=TextEncoderSpec("hashed"))


def write_fake_prognosis(folder: Path, metadata: PrognosisMetadata | None = None) -> Path:
    """A package that reads like a real one, with weights that no network could load."""
    metadata = metadata or fake_metadata()
    document = {
        "version": metadata.version,
        "intended_use": metadata.intended_use,
        "reactkd": metadata_document(metadata),
    }
    contents = {METADATA: json.dumps(document), WEIGHTS: "no weights", CARD: "A fake prognosis."}
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_checksums(folder)
    return folder
