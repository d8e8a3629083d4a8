"""A study's network as a model package: the same answers, and a card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from REACTKDLib.checks import InputStatistics
from REACTKDLib.errors import OptionError
from REACTKDLib.prognosis.network_inputs import network_batch
from REACTKDLib.prognosis.networks.build import build_network, log_odds
from REACTKDLib.prognosis.package import load_prognosis_package
from REACTKDLib.prognosis.radiomics_settings import feature_names, read_settings
from REACTKDLib.prognosis.types import ClinicalSchema, PatientArrays, Variable
from training.prognosis.cohort import PrognosisCase, PrognosisCohort
from training.prognosis.export import export_prognosis, fit_on_everybody, training_statistics
from training.prognosis.nested import NestedStudy
from training.prognosis.settings import read_prognosis_study

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs" / "prognosis"
SCHEMA = ClinicalSchema(
    "generated",
    "Generated",
    (
        Variable("a", "A", "number", "g/l", (-99.0, 99.0)),
        Variable("b", "B", "number", "g/l", (-99.0, 99.0)),
        Variable("flag", "Flag", "flag"),
    ),
)
FEATURES = feature_names(read_settings(CONFIGS / "liver_radiomics.json"))


def study(folder: Path, n: int = 30, **changes: object) -> NestedStudy:
    """Generated patients with everything, in a study that says how CT and radiomics are made."""
    document = {
        "name": "generated",
        "title": "Generated",
        "listed": {
            "manifest": "none.csv",
            "event": "event",
            "spec": str(CONFIGS / "liver_ct.json"),
            "radiomics": str(CONFIGS / "liver_radiomics.json"),
            "roles": ["liver"],
        },
        "folds": 3,
        "inner_parts": 3,
        "scaling": {"features": 6, "robust": True},
        "network": {
            "epochs": 2,
            "members": 3,
            "shape": {"ct": {"layers": [1, 1], "widths": [8, 8], "groups": 4, "conv1_kernel": 3,
                             "conv1_stride": [2, 2, 2]}},
        },
        "package": {"name": "generated-model", "title": "A generated model", "task": "Generated",
                    "outcome_title": "The event", "classes": ["no", "yes"], "horizon": "1 year"},
        "references": [],
        "methods": {"TMI-CLNet": {"kind": "tmi"},
                    "clinical": {"kind": "tmi", "settings": {"inputs": ["clinical"]}},
                    "ridge": {"kind": "ridge", "settings": {"inputs": ["clinical"]}}},
        **changes,
    }  # fmt: skip
    path = folder / "study.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(n):
        volume = rng.normal(size=(5, 9, 5)).astype(np.float32)
        cases.append(
            PrognosisCase(
                f"P{number:02d}",
                number % 2,
                PatientArrays(
                    np.array([rng.normal() + number % 2, rng.normal(), number % 3 == 0]),
                    rng.normal(size=len(FEATURES)),
                    volume,
                    np.ones_like(volume),
                ),
                statistics=InputStatistics(90 + number, 1000.0 + number, 3.0),
                lesion=(volume > 1).astype(np.float32),
            )
        )
    cohort = PrognosisCohort("generated", tuple(cases), "event", True, SCHEMA, FEATURES)
    return NestedStudy(read_prognosis_study(path), cohort, folder / "work", folder / "results")


def test_a_package_answers_as_the_network_that_was_trained(tmp_path: Path) -> None:
    own = study(tmp_path)
    written = export_prognosis(own, "TMI-CLNet", tmp_path / "package", "Generated numbers.")
    package = load_prognosis_package(tmp_path / "package")
    metadata = package.metadata
    fitted = fit_on_everybody(own, "TMI-CLNet").fitted
    assert len(fitted.members) == 1  # though the study averages three
    patients = own.cohort.cases[:4]
    network = build_network(metadata.network)
    network.load_state_dict(load_file(package.weights_path))
    batch = network_batch(
        [c.arrays for c in patients], metadata.scaling, metadata.network.modalities
    )
    with torch.inference_mode():
        raw = log_odds(network.eval()(batch).logits.double(), metadata.outcome_index).numpy()
    calibration = metadata.calibration
    answers = calibration.intercept + raw / calibration.temperature
    # Training holds volumes in half precision.
    np.testing.assert_allclose(answers, fitted.predict_logit(patients), atol=5e-3)
    assert metadata.radiomics is not None and metadata.radiomics.roles == ("liver",)
    assert metadata.radiomics_names == FEATURES
    assert metadata.image is not None and metadata.image.modality.name == "ct"
    assert metadata.training.patients == 20
    assert (
        metadata.simulated and "SIMULATED" in package.card and "Research use only" in package.card
    )
    assert "averages 3 networks; a package holds one" in package.card
    assert written.package_sha256 == package.package_sha256


def test_a_network_of_one_modality_needs_nothing_of_the_others(tmp_path: Path) -> None:
    own = study(tmp_path)
    export_prognosis(own, "clinical", tmp_path / "package", "Generated numbers.")
    metadata = load_prognosis_package(tmp_path / "package").metadata
    assert metadata.image is None and metadata.radiomics is None
    assert metadata.scaling.radiomics is None
    assert set(metadata.training.clinical) == {"a", "b"}


def test_training_statistics_are_percentiles_of_the_training(tmp_path: Path) -> None:
    own = study(tmp_path, 101)
    fitted = fit_on_everybody(study(tmp_path), "clinical").fitted
    found = training_statistics(own.cohort.cases, fitted.members[0].scaling, ("ct", "clinical"))
    assert found.image is not None
    assert found.image.median_hu == (91.0, 189.0)
    assert found.image.volume_ml == (1001.0, 1099.0)
    assert found.radiomics_distance is None
    values = [c.arrays.clinical[0] for c in own.cohort.cases]  # type: ignore[index]
    assert found.clinical["a"] == pytest.approx(np.percentile(values, (1, 99)), abs=1e-4)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    own = study(tmp_path)
    with pytest.raises(OptionError, match="No method 'other'"):
        export_prognosis(own, "other", tmp_path / "package", "x")
    with pytest.raises(OptionError, match="ridge is no network"):
        export_prognosis(own, "ridge", tmp_path / "package", "x")
    with pytest.raises(OptionError, match="no texts for a package"):
        export_prognosis(study(tmp_path, package=None), "clinical", tmp_path / "package", "x")
    assert not (tmp_path / "package").exists()
