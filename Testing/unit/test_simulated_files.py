"""A simulated cohort on disk is read and prepared as the simulated cohort itself is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_study import STUDIES

from REACTKDLib.errors import OptionError, OutputError
from training.__main__ import main
from training.label_schema import GRADE3
from training.manifest import read_manifest
from training.prepare import Preparation, prepare_cohort, prepare_simulated
from training.simulated_files import MANIFEST, write_cohort
from training.study_configuration import read_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("cohort") / "new"
    arguments = ["simulate", "--output", str(target), "--count", "3", "--first", "0"]
    assert main([*arguments, "--seed", "7", "--workers", "2"]) == 0
    return target


def test_the_manifest_lists_the_cases_with_their_truth_beside_them(folder):
    cohort = read_manifest(folder / MANIFEST, GRADE3)
    assert [case.patient for case in cohort.cases] == [
        f"simulated-internal-{n:05d}" for n in range(3)
    ]
    truth = json.loads((folder / "simulated-internal-00000" / "simulated_truth.json").read_text())
    assert truth["simulated"] is True
    assert GRADE3.class_names[cohort.labels[0]] == truth["observed_grade"]


def test_prepared_from_files_they_are_what_is_prepared_from_the_simulator(folder, tmp_path):
    spec = read_study(STUDIES / "smoke.json").spec
    preparation = Preparation(spec, 7)
    direct = prepare_simulated(preparation, "internal", range(3), tmp_path / "direct")
    cohort = read_manifest(folder / MANIFEST, GRADE3, spec=spec)
    read = prepare_cohort(preparation, cohort, tmp_path / "files")
    for one, other in zip(direct, read, strict=True):
        assert (one.patient, one.label) == (other.patient, other.label)
        assert set(one.volumes) == set(other.volumes) == {"ct", "pet_fdg", "pet_acetate"}
        for name, volume in one.volumes.items():
            assert np.allclose(volume, other.volumes[name], atol=0.02)
        assert np.mean(one.regions == other.regions) > 0.999


def test_an_existing_manifest_is_not_overwritten_and_profiles_are_checked(folder, tmp_path):
    with pytest.raises(OutputError, match="exists"):
        write_cohort(folder, "internal", range(3), 7)
    with pytest.raises(OptionError, match="profile"):
        write_cohort(tmp_path / "x", "elsewhere", range(1), 7)
    assert not (tmp_path / "x").exists()
