"""The pipeline as panel, batch and demo call it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from phantoms import CT_GRID, PHANTOM, write_study
from random_models import altered_copy, specification_without_organ, write_random_package

from REACTKDLib.errors import (
    EnvironmentProblem,
    InputError,
    ModelPackageError,
    OptionError,
    OutputError,
)
from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import load_package
from REACTKDLib.pipeline import STAGES, RunOptions, run_case, run_files
from REACTKDLib.read import StudyFiles, file_sha256
from REACTKDLib.report import read_result, write_result
from REACTKDLib.types import Segment, Segmentation, Study

MODALITY_SETS = [
    ("ct",),
    ("ct", "pet_fdg"),
    ("ct", "pet_acetate"),
    ("ct", "pet_fdg", "pet_acetate"),
]


def files_of(paths, *tracers: str) -> StudyFiles:
    return StudyFiles(
        ct=paths["ct"],
        segmentation=(paths["segmentation"],),
        pet={name: paths[name] for name in tracers},
        case_id="phantom",
    )


def test_progress_names_every_stage_once_and_ends_with_1(ct_study, random_package):
    heard: list[tuple[str, float]] = []
    run_case(ct_study, random_package, progress=lambda stage, done: heard.append((stage, done)))
    assert [stage for stage, _ in heard] == [*STAGES, "finished"]
    parts = [done for _, done in heard]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_inputs_are_not_changed(phantom_study, random_package):
    """Not even through the arrays that the read-only views look at."""
    volumes = {n: v.array.copy() for n, v in phantom_study.volumes.items()}
    labels = phantom_study.segmentation.labels.copy()
    run_case(phantom_study, random_package)
    for name, array in volumes.items():
        assert np.array_equal(phantom_study.volumes[name].array, array)
    assert np.array_equal(phantom_study.segmentation.labels, labels)


def test_results_cannot_be_changed(phantom_case):
    with pytest.raises(ValueError, match="read-only"):
        phantom_case.attention.array[0, 0, 0] = 1
    with pytest.raises(TypeError):
        phantom_case.probabilities["well"] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        phantom_case.target = "well"


def test_global_random_states_are_left_alone(ct_study, random_package, tmp_path):
    package = load_package(altered_copy(random_package, tmp_path / "copy"))  # not loaded before
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()
    run_case(ct_study, package)
    assert torch.equal(torch.get_rng_state(), torch_state)
    after = np.random.get_state()
    assert after[0] == numpy_state[0]
    assert np.array_equal(after[1], numpy_state[1])
    assert after[2:] == numpy_state[2:]


def test_a_second_run_gives_the_same_and_uses_the_loaded_network(ct_study, random_package):
    first = run_case(ct_study, random_package)
    network = load_classifier(random_package, "auto").network
    again = run_case(ct_study, random_package)
    assert load_classifier(random_package, "auto").network is network
    assert dict(again.probabilities) == pytest.approx(dict(first.probabilities), abs=1e-9)
    assert [s.share for s in again.shares] == pytest.approx(
        [s.share for s in first.shares], abs=1e-6
    )
    assert np.array_equal(again.region_labels.array, first.region_labels.array)
    assert np.allclose(again.attention.array, first.attention.array, atol=1e-6)


@pytest.mark.parametrize("names", MODALITY_SETS, ids="+".join)
def test_every_set_of_modalities_gives_its_own_answer(names, phantom_study, random_package):
    study = Study({n: phantom_study.volumes[n] for n in names}, phantom_study.segmentation)
    case = run_case(study, random_package)
    assert set(case.modalities) == set(names)
    assert sum(case.probabilities.values()) == pytest.approx(1)
    said = [n.text for n in case.notices if n.code == "missing_modality"]
    assert len(said) == (0 if len(names) == 3 else 1)


def test_the_answers_of_different_sets_differ(phantom_study, random_package):
    answers = {
        names: tuple(
            run_case(
                Study({n: phantom_study.volumes[n] for n in names}, phantom_study.segmentation),
                random_package,
            ).logits.values()
        )
        for names in MODALITY_SETS
    }
    assert len({tuple(np.round(logits, 3)) for logits in answers.values()}) == len(MODALITY_SETS)


def test_a_study_needs_a_ct(phantom_study):
    with pytest.raises(InputError, match="no CT"):
        Study({"pet_fdg": phantom_study.volumes["pet_fdg"]}, phantom_study.segmentation)


def test_files_and_values_give_the_same_result(
    phantom_files, phantom_study, random_package, tmp_path
):
    output = tmp_path / "case"
    case = run_files(files_of(phantom_files, "pet_fdg", "pet_acetate"), random_package, output)
    direct = run_case(phantom_study, random_package)
    assert list(case.probabilities.values()) == pytest.approx(
        list(direct.probabilities.values()), abs=1e-3
    )
    assert [r.id for r in case.regions] == [r.id for r in direct.regions]
    assert read_result(output).probabilities == dict(case.probabilities)
    hashes = {s["role"]: s["sha256"] for s in case.provenance["inputs"]}
    assert hashes == {name: file_sha256(path) for name, path in phantom_files.items()}


def test_an_output_that_exists_is_found_before_any_work(phantom_files, random_package, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "notes.txt").write_text("mine")
    heard: list[str] = []
    with pytest.raises(OutputError):
        run_files(
            files_of(phantom_files),
            random_package,
            tmp_path / "case",
            overwrite=True,
            progress=lambda stage, done: heard.append(stage),
        )
    assert heard == []


@pytest.mark.parametrize(
    "options",
    [
        RunOptions(target="benign"),
        RunOptions(scheme="couinaud"),
        RunOptions(device="tpu"),
        RunOptions(backend="tpu"),
    ],
    ids=["target", "scheme", "device", "backend"],
)
def test_an_option_that_does_not_exist_is_found_before_any_work(
    options, ct_study, random_package, tmp_path
):
    heard: list[str] = []

    def listen(stage: str, done: float) -> None:
        heard.append(stage)

    with pytest.raises(OptionError, match=r"benign|couinaud|tpu"):
        run_case(ct_study, random_package, options, listen)
    nowhere = StudyFiles(ct=tmp_path / "no.nii.gz", segmentation=(tmp_path / "none.nii.gz",))
    with pytest.raises(OptionError, match=r"benign|couinaud|tpu"):
        run_files(nowhere, random_package, tmp_path / "out", options, progress=listen)
    assert heard == []
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_loaded_are_said_when_the_network_is_needed(
    phantom_files, random_package, tmp_path
):
    """They are loaded while the files are read: unusable files come first all the same."""
    package = load_package(altered_copy(random_package, tmp_path / "package"))
    package.weights_path.write_bytes(b"no weights")
    heard: list[str] = []
    with pytest.raises(ModelPackageError):
        run_files(
            files_of(phantom_files),
            package,
            tmp_path / "out",
            progress=lambda stage, done: heard.append(stage),
        )
    assert heard[-1] == "model"
    missing = StudyFiles(ct=tmp_path / "no.nii.gz", segmentation=(phantom_files["segmentation"],))
    with pytest.raises(InputError, match="does not exist"):
        run_files(missing, package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_found_before_any_work(ct_study, random_package):
    heard: list[str] = []
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        run_case(
            ct_study,
            random_package,
            RunOptions(device="cuda"),
            lambda stage, done: heard.append(stage),
        )
    assert heard == []


def test_pet_that_the_model_does_not_know_is_not_used_silently(phantom_study, tmp_path):
    """A result must not look as if the PET had been read."""
    package = write_random_package(tmp_path / "package", specification_without_organ())
    labels = (phantom_study.segmentation.labels == 2).astype(np.uint8)
    segmentation = Segmentation(labels, CT_GRID, (Segment(1, "tumour", "tumour"),))
    case = run_case(Study(phantom_study.volumes, segmentation), package)
    assert case.modalities == ("ct",)
    codes = {n.code: n for n in case.notices}
    assert "unused_modality" in codes
    assert "pet_fdg" in codes["unused_modality"].text


def test_a_model_with_other_regions_than_lesions_may_find_none(phantom_study, tmp_path):
    """Roles that make no region: the answer rests on the rest, and the result says so."""
    document = specification_without_organ()
    document["role_rules"][0]["required"] = False
    document["role_rules"].append(
        {"name": "kidney", "required": True, "aliases": ["kidney"], "default_label": 2}
    )
    package = write_random_package(tmp_path / "package", document)
    labels = (phantom_study.segmentation.labels > 0).astype(np.uint8)
    segmentation = Segmentation(labels, CT_GRID, (Segment(1, "kidney", "kidney"),))
    case = run_case(Study({"ct": phantom_study.ct}, segmentation), package)
    assert case.regions == ()
    total = case.contrast - case.reference_contrast
    assert case.outside_share == pytest.approx(total, abs=1e-4)
    assert "no_lesion" in {n.code for n in case.notices}


def test_a_simulated_patient_runs(simulated_study, random_package):
    case = run_case(simulated_study, random_package, RunOptions(scheme="anatomical"))
    kinds = [region.kind for region in case.regions]
    assert kinds.count("lesion") >= 1
    assert kinds.count("parenchyma") == 8
    for name in case.logits:
        parts = sum(s.logit_shares[name] for s in case.shares) + case.outside_logit_shares[name]
        assert parts + case.bias[name] == pytest.approx(case.logits[name], abs=1e-3)


def test_paths_and_ids_of_the_caller_are_all_that_is_recorded(random_package, tmp_path):
    """No host or user name, which could identify a hospital's patient by its folder."""
    paths = write_study(PHANTOM.study(CT_GRID), tmp_path / "in")
    case = run_files(files_of(paths), random_package, tmp_path / "out")
    assert set(case.provenance["inputs"][0]) == {"role", "path", "sha256"}
    assert case.provenance["inputs"][0]["path"] == str(paths["ct"])
    assert case.case_id == "phantom"


@pytest.mark.parametrize(
    ("limit", "count", "abstains"), [(1.0, 3, True), (0.0, 0, True), (None, None, False)]
)
def test_the_prediction_set_holds_the_classes_within_the_packages_limit(
    limit, count, abstains, ct_study, random_package, tmp_path
):
    def change(metadata):
        for statistics in metadata["reactkd"]["statistics"].values():
            statistics["prediction_set_limit"] = limit
            statistics["prediction_set_coverage"] = None if limit is None else 0.9

    package = load_package(altered_copy(random_package, tmp_path / "copy", change))
    case = run_case(ct_study, package)
    assert case.abstains == abstains
    if count is None:
        assert case.prediction_set is None
    else:
        assert case.prediction_set.coverage == 0.9
        assert len(case.prediction_set.classes) == count


def test_a_prediction_set_of_some_classes_is_ordered_by_probability(
    ct_study, random_package, tmp_path
):
    probabilities = run_case(ct_study, random_package).probabilities
    ranked = sorted(probabilities, key=lambda name: -probabilities[name])
    second = probabilities[ranked[1]]

    def change(metadata):
        for statistics in metadata["reactkd"]["statistics"].values():
            statistics |= {"prediction_set_limit": 1 - second, "prediction_set_coverage": 0.9}

    package = load_package(altered_copy(random_package, tmp_path / "copy", change))
    case = run_case(ct_study, package)
    assert case.prediction_set.classes == tuple(ranked[:2])
    assert not case.abstains
    folder = tmp_path / "result"
    write_result(case, folder)
    assert read_result(folder).prediction_set == case.prediction_set
