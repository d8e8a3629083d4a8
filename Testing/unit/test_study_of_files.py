"""A study of listed patients: manifest, files of their own grids, no simulation."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from phantoms import CT_GRID, PET_GRID, Phantom, write_study
from random_models import specification
from safetensors.torch import load_file

from REACTKDLib.errors import InputError
from training.evaluation.results import read_results
from training.manifest import ManifestError
from training.prepare import UNLABELLED
from training.study import Study, run_units
from training.study_configuration import read_study
from training.study_report import write_study as write_figures

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "training" / "configs" / "studies"
GRADES = {"well": 100.0, "moderate": 60.0, "poor": 20.0}
PATIENTS = [(f"p{n:02d}", grade) for n, grade in enumerate(list(GRADES) * 8)]


@pytest.fixture(scope="module")
def configuration(tmp_path_factory) -> Path:
    """A configuration beside a manifest of phantoms, one of them without PET."""
    folder = tmp_path_factory.mktemp("listed")
    rows = []
    for patient, grade in PATIENTS:
        phantom = Phantom(lesion_hu=GRADES[grade])
        pet = None if patient == "p03" else PET_GRID
        study = phantom.study(CT_GRID, pet=pet)
        paths = write_study(study, folder / patient)
        row = {"patient": patient, "label": grade, "pet_fdg": "", "pet_fdg_unit": "SUV"}
        row |= {name: str(path.relative_to(folder)) for name, path in paths.items()}
        rows.append(row)
    with (folder / "cohort.csv").open("w", newline="") as stream:
        names = ["patient", "label", "ct", "segmentation", "pet_fdg", "pet_fdg_unit"]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
    document = json.loads((STUDIES / "smoke.json").read_text())
    del document["simulated"]
    document |= {
        "name": "listed",
        "spec": specification(name="listed", simulated=False),
        "listed": {"internal": "cohort.csv", "schema": "grade3"},
        "doses": document["doses"] | {"photons": []},
        "evaluate": ["ct", "ct+pet_fdg"],
        "student": document["student"] | {"modality_sets": {"ct": 0.5, "ct+pet_fdg": 0.5}},
        "methods": {
            "no distillation": {"distillation": "none", "teachers": [], "seeds": [0]},
            "without CBAM3D": {
                "distillation": "kd",
                "teachers": ["pet"],
                "seeds": [0],
                "cbam": False,
            },
        },
    }
    path = folder / "study.json"
    path.write_text(json.dumps(document))
    return path


def study_of(path: Path, folder: Path) -> Study:
    cpu = torch.device("cpu")
    return Study(read_study(path), folder / "work", folder / "results", cpu, workers=1)


def test_listed_patients_are_studied_like_simulated_ones(configuration, tmp_path):
    study = study_of(configuration, tmp_path)
    assert [case.patient for case in study.internal] == [patient for patient, _ in PATIENTS]
    assert [case.label for case in study.internal] == [
        list(GRADES).index(grade) for _, grade in PATIENTS
    ]
    assert set(study.internal[3].volumes) == {"ct"}
    assert set(study.internal[4].volumes) == {"ct", "pet_fdg"}
    assert study.external == []
    assert run_units(study, list(study.units())) == 0
    write_figures(study)
    results = read_results(tmp_path / "results" / "results.json")
    assert not results.simulated
    rows = {row.key: row for row in results.rows}
    assert rows["without CBAM3D", "internal, ct", None, "macro AUC"].n == len(PATIENTS)
    assert rows["without CBAM3D", "internal, ct+pet_fdg", None, "macro AUC"].n == len(PATIENTS) - 1
    assert not any(row.cohort == "external" for row in results.rows)
    assert not any("responsible region" in row.metric for row in results.rows)
    report = (tmp_path / "results" / "report.html").read_text()
    assert "cases of the internal cohort" in report


def test_repeated_folds_a_baseline_and_a_pretrained_encoder(configuration, tmp_path):
    document = json.loads(configuration.read_text())
    optimisation = {"epochs": 1, "batch_size": 4, "learning_rate": 0.004}
    crops = {"size": [4, 8, 8], "lesion_share": 0.5, "per_case": 1}
    segmentation = {"optimisation": optimisation, "crops": crops, "folds": 2, "inner_parts": 2}
    document |= {
        "repeats": 2,
        "methods": {"no distillation": document["methods"]["no distillation"]},
        "baselines": {"HU": ["ct_mean_hu", "volume_ml"]},
        "pretraining": {"segmentation": segmentation},
    }
    path = configuration.parent / "repeated.json"
    path.write_text(json.dumps(document))
    study = study_of(path, tmp_path)
    tests = [{case.patient for case in study.part(fold).test} for fold in range(4)]
    assert tests[0] | tests[1] == tests[2] | tests[3] == {patient for patient, _ in PATIENTS}
    assert tests[0] != tests[2]  # another split in the second repeat
    assert run_units(study, list(study.units())) == 0
    write_figures(study)
    rows = {r.key: r for r in read_results(tmp_path / "results" / "results.json").rows}
    assert rows["no distillation", "internal, ct", None, "macro AUC"].n == len(PATIENTS)
    # The brightness of the lesion is the grade.
    assert rows["HU", "internal, ct", None, "macro AUC"].value > 0.95
    encoders = list((tmp_path / "work" / "encoders").glob("*.safetensors"))
    assert len(encoders) == 4  # one a fold: test cases of the fold had no part in it
    fresh = study._new_student(next(study.units(["no distillation"])))
    kept = load_file(encoders[0].with_name(study.encoder(0).name))
    own = fresh.encoders["ct"].state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in own if name in kept)
    assert set(own) <= set(kept) | {n for n in own if "num_batches" in n}


def test_groups_and_studies_of_one_patient_stay_on_one_side(configuration, tmp_path):
    rows = list(csv.DictReader((configuration.parent / "cohort.csv").open()))
    for n, row in enumerate(rows):
        # The first two triples of grades are one patient each, whose grade differs by study.
        row["patient"] = f"twice{n // 3}" if n < 6 else row["patient"]
        row["study"] = f"s{n}" if n < 6 else ""
        row["group"] = "family" if 9 <= n < 12 else ""
    with (configuration.parent / "grouped.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    document = json.loads(configuration.read_text())
    document["listed"]["internal"] = "grouped.csv"
    path = configuration.parent / "grouped.json"
    path.write_text(json.dumps(document))
    study = study_of(path, tmp_path)
    assert len({case.patient for case in study.internal}) == len(rows)
    assert len({case.unit for case in study.internal}) == len(rows) - 4 - 2
    tested = []
    for fold in range(study.settings.folds):
        part = study.part(fold)
        sides = [{case.unit for case in cases} for cases in (part.train, part.selection, part.test)]
        assert not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]
        tested += [case.patient for case in part.test]
    assert sorted(tested) == sorted(case.patient for case in study.internal)


def test_two_processes_of_torchrun_do_one_study(configuration, tmp_path):
    """Whole commands: one prepares and writes, both train, nobody waits for the other for ever."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    options = ["--config", str(configuration), "--device", "cpu"]
    options += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    options += ["--method", "without CBAM3D"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in ("reproduce", "distil"):  # the second finds everything done
        done = subprocess.run(
            [*command, "-m", "training", name, *options],
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            cwd=ROOT,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "2 of 2 students are finished." in done.stdout
    study = study_of(configuration, tmp_path)
    tables = [
        study.result_of(unit)["logits"]["internal ct"] for unit in study.units(["without CBAM3D"])
    ]
    assert sorted(p for table in tables for p in table) == sorted(p for p, _ in PATIENTS)
    assert (tmp_path / "results" / "results.json").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_patient_of_both_cohorts_is_refused(configuration, tmp_path):
    document = json.loads(configuration.read_text())
    lines = (configuration.parent / "cohort.csv").read_text().splitlines()
    (configuration.parent / "outside.csv").write_text("\n".join(lines[:4]))
    document["listed"]["external"] = "outside.csv"
    path = configuration.parent / "shared.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"3 patients or groups are in both manifests.*p00"):
        study_of(path, tmp_path).external  # noqa: B018


def test_a_changed_label_is_prepared_anew_and_none_is_needed_to_segment(configuration, tmp_path):
    study = study_of(configuration, tmp_path)
    unlabelled = study.unlabelled("cohort.csv")
    assert {case.label for case in unlabelled} == {UNLABELLED}
    assert [case.patient for case in unlabelled] == [patient for patient, _ in PATIENTS]
    assert study.internal[0].label == 0
    text = (configuration.parent / "cohort.csv").read_text()
    swapped = text.replace(",well", ",?").replace(",moderate", ",well").replace(",?", ",moderate")
    (configuration.parent / "swapped.csv").write_text(swapped)
    document = json.loads(configuration.read_text())
    document["listed"]["internal"] = "swapped.csv"
    other = configuration.parent / "swapped.json"
    other.write_text(json.dumps(document))
    assert [case.label for case in study_of(other, tmp_path).internal[:3]] == [1, 0, 2]


def test_every_problem_of_the_manifest_is_told_before_anything_is_trained(configuration, tmp_path):
    text = (configuration.parent / "cohort.csv").read_text()
    broken = text.replace("p01/ct.nii.gz", "p01/nowhere.nii.gz").replace(",poor,", ",ugly,")
    other = configuration.parent / "broken.csv"
    other.write_text(broken)
    document = json.loads(configuration.read_text())
    document["listed"]["internal"] = "broken.csv"
    path = configuration.parent / "broken.json"
    path.write_text(json.dumps(document))
    study = study_of(path, tmp_path)
    with pytest.raises(ManifestError) as error:
        run_units(study, list(study.units()))
    problems = "\n".join(error.value.problems)
    assert "nowhere.nii.gz" in problems
    assert "ugly" in problems
    assert not (tmp_path / "work").exists()
