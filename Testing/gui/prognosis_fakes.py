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
from REACTKDLib.prognosis.types import (
    CLINICAL,
    CT,
    RADIOMICS,
    ClinicalSchema,
    Contribution,
    PrognosisResult,
)
from REACTKDLib.roles import RoleRule
from REACTKDLib.types import CaseResult, ClassInfo, Notice
from REACTKDLib.worker import PrognosisJob

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
        outcome_title="death within 1 year",
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


#: Name, title, kind and log odds of the fake contributions of an image.
IMAGE_PARTS = (
    (CT, "CT", CT, 0.6),
    ("original_shape", "original shape", RADIOMICS, -0.5),
    ("original_firstorder", "original firstorder", RADIOMICS, 0.25),
)


def fake_prognosis(job: PrognosisJob, case: CaseResult | None) -> PrognosisResult:
    """An answer whose contributions sum as they should: every clinical value adds 0.5."""
    metadata = fake_metadata()
    schema = metadata.clinical_schema
    parts = [
        Contribution(v.name, v.title, CLINICAL, 0.5, str(job.values[v.name]), 0.0)
        for v in schema.variables
        if v.name in job.values
    ]
    if case is not None:
        parts += [
            Contribution(name, title, kind, logit, "", 0.02)
            for name, title, kind, logit in IMAGE_PARTS
        ]
    modalities = tuple(m for m in (CT, CLINICAL, RADIOMICS) if any(p.modality == m for p in parts))
    sums = {m: sum(p.logit for p in parts if p.modality == m) for m in modalities}
    titles = {CT: "CT", CLINICAL: "Clinical data", RADIOMICS: "Radiomics"}
    provenance = {"reactkd_version": "0", "model": {"name": "fake-prognosis", "version": "0.0.1"}}
    return PrognosisResult(
        case_id=job.case_id,
        task_title=metadata.task,
        classes=metadata.classes,
        outcome=metadata.outcome,
        probability=0.724,
        logit=-1.0 + sum(sums.values()),
        base_logit=-1.0,
        modalities=modalities,
        modality_contributions=tuple(
            Contribution(m, titles[m], m, sums[m], "", 0.0) for m in modalities
        ),
        contributions=tuple(parts),
        simulated_model=True,
        notices=(
            Notice("missing_modality", "info", "Not given: something."),
            Notice("simulated_model", "warning", "Trained on simulated patients only."),
        ),
        provenance=provenance,
        outcome_title=metadata.outcome_title,
        horizon=metadata.horizon,
        missing={v.name: v.title for v in schema.variables if v.name not in job.values},
        ct_case=None if case is None else _of_outcome(case, metadata, job.case_id, provenance),
    )


def _of_outcome(
    case: CaseResult, metadata: PrognosisMetadata, name: str, provenance: dict[str, Any]
) -> CaseResult:
    """A case with the classes of the prognosis."""
    zeros = dict.fromkeys(metadata.class_names, 0.0)
    return dataclasses.replace(
        case,
        case_id=name,
        task_title=metadata.task,
        classes=metadata.classes,
        probabilities={"survival": 0.276, "death": 0.724},
        logits=zeros,
        bias=zeros,
        target="death",
        shares=tuple(dataclasses.replace(s, logit_shares=zeros) for s in case.shares),
        outside_logit_shares=zeros,
        modalities=("ct",),
        provenance=provenance,
        notices=(),
        prediction_set=None,
    )
