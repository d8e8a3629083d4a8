"""The command line, in this process: exit codes, messages, files."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from random_models import altered_copy, specification_without_organ, write_random_package

from REACTKDLib import __version__
from REACTKDLib.cli import main
from REACTKDLib.prognosis.result import read_prognosis
from REACTKDLib.report import PROVENANCE, RESULT_FILES, read_result
from REACTKDLib.simulation import Scanner, demo_parameters


@pytest.fixture
def predict(phantom_files, random_package, tmp_path):
    """Runs ``reactkd predict`` on the phantom into ``tmp_path/result``; options are added."""

    def run(*options: str) -> int:
        base = ["predict", "--ct", str(phantom_files["ct"])]
        base += ["--segmentation", str(phantom_files["segmentation"])]
        base += ["--output", str(tmp_path / "result"), "--model", str(random_package.path)]
        return main([*base, "--device", "cpu", *options])

    return run


def test_predict_writes_a_result_and_says_what_it_says(predict, tmp_path, capsys):
    assert predict("--case-id", "phantom 1") == 0
    case = read_result(tmp_path / "result")
    text = capsys.readouterr().out
    assert case.case_id == "phantom 1"
    assert "Research use only" in text
    for info in case.classes:
        assert f"{case.probabilities[info.name]:.1%}" in text
        assert info.title in text
    assert case.ranked[0][0].name in text
    assert "simulated images only" in text
    assert str(tmp_path / "result") in text


def test_options_reach_the_pipeline(predict, phantom_files, tmp_path):
    pet = ["--pet-fdg", str(phantom_files["pet_fdg"])]
    pet += ["--pet-acetate", str(phantom_files["pet_acetate"])]
    assert predict("--scheme", "paper", "--target", "poor", *pet) == 0
    case = read_result(tmp_path / "result")
    assert (case.scheme, case.target) == ("paper", "poor")
    assert case.modalities == ("ct", "pet_fdg", "pet_acetate")
    roles = [entry["role"] for entry in case.provenance["inputs"]]
    assert roles == ["ct", "segmentation", "pet_fdg", "pet_acetate"]


def test_a_segment_can_be_given_its_role(predict, phantom_files, tmp_path):
    assert predict("--role", "liver=1", "--role", "lesion=2") == 0
    assert {r.kind for r in read_result(tmp_path / "result").regions} >= {"lesion", "rim"}


@pytest.mark.parametrize("text", ["liver", "heart=1", "=1"])
def test_a_role_that_is_none_is_refused(text, predict, tmp_path, capsys):
    assert predict("--role", text) == 2
    assert repr(text) in capsys.readouterr().err
    assert not (tmp_path / "result").exists()


def test_overwriting_needs_its_option(predict, tmp_path, capsys):
    assert predict() == 0
    first = (tmp_path / "result" / PROVENANCE).read_bytes()
    assert predict("--scheme", "paper") == 5
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "result" / PROVENANCE).read_bytes() == first
    assert predict("--scheme", "paper", "--overwrite") == 0
    assert read_result(tmp_path / "result").scheme == "paper"


def test_every_line_of_the_json_log_is_an_object(predict, tmp_path, capsys):
    assert predict("--log-json") == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    progress = [line for line in lines if line["event"] == "progress"]
    done = [line["done"] for line in progress]
    assert progress[0]["stage"] == "reading"
    assert done == sorted(done)
    assert done[-1] == 1.0
    (message,) = [line for line in lines if line["event"] == "message"]
    assert set(message["probabilities"]) == {"well", "moderate", "poor"}
    assert message["output"] == str(tmp_path / "result")


def test_an_error_in_the_json_log_has_class_message_advice_and_code(predict, capsys):
    assert predict("--log-json", "--target", "benign") == 2
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "error"
    assert last["error"] == "OptionError"
    assert last["exit_code"] == 2
    assert "'benign'" in last["message"]
    assert "well" in last["advice"]


def test_info_shows_a_package(random_package, capsys):
    assert main(["info", str(random_package.path)]) == 0
    text = capsys.readouterr().out
    for part in ("random 0.0.1", "well, moderate, poor", "liver (required)", "ct (required)"):
        assert part in text
    assert random_package.weights_sha256 in text
    assert "# Random weights" in text


def test_info_as_json(random_package, capsys):
    assert main(["info", str(random_package.path), "--log-json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["name"], line["version"]) == ("random", "0.0.1")


def test_a_model_of_another_organ_needs_only_its_own(phantom_files, tmp_path):
    package = write_random_package(tmp_path / "package", specification_without_organ())
    image = sitk.ReadImage(str(phantom_files["segmentation"]))
    tumour = tmp_path / "tumour.nii.gz"
    sitk.WriteImage(sitk.Cast(image == 2, sitk.sitkUInt8), str(tumour))
    arguments = ["predict", "--ct", str(phantom_files["ct"]), "--segmentation", str(tumour)]
    arguments += ["--model", str(package.path), "--output", str(tmp_path / "result")]
    assert main(arguments) == 0
    case = read_result(tmp_path / "result")
    assert [r.id for r in case.regions] == ["lesion-1", "lesion-2", "rim-1", "rim-2"]


def test_a_segmentation_without_lesion_is_a_case_of_its_own(
    predict, phantom_files, tmp_path, capsys
):
    image = sitk.ReadImage(str(phantom_files["segmentation"]))
    liver = tmp_path / "liver.nii.gz"
    sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8), str(liver))
    assert predict("--segmentation", str(liver)) == 0
    case = read_result(tmp_path / "result")
    assert {r.kind for r in case.regions} == {"parenchyma"}
    assert "No lesion was given" in capsys.readouterr().out
    assert np.any(case.attention.array)


def test_version_and_help_exit_with_0(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as left:
            main([option])
        assert left.value.code == 0
    text = capsys.readouterr().out
    assert __version__ in text
    assert "Exit codes" in text
    assert "Research use only" in text


@pytest.mark.parametrize("arguments", [[], ["fly"], ["predict"], ["predict", "--ct", "a.nii"]])
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_an_unexpected_error_is_one_sentence(
    predict, random_package, tmp_path, capsys, monkeypatch
):
    """Something that no stage foresaw: the exit code is 1, and the trace comes on request."""

    def surprise(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("REACTKDLib.pipeline.locate_roi", surprise)
    assert predict() == 1
    text = capsys.readouterr().err
    assert "Unexpected ZeroDivisionError: surprise." in text
    assert "Traceback" not in text
    assert predict("--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "result").exists()


def test_an_interruption_writes_nothing(predict, tmp_path, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("REACTKDLib.pipeline.locate_roi", interrupt)
    assert predict() == 130
    assert "nothing half-written is left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def draw(capsys):
    """Runs a command that draws; skips where the scene's libraries or OpenGL are missing."""
    pytest.importorskip("REACTKDSlicer", reason="needs the module's package on the path")
    pytest.importorskip("slicer", reason="needs Slicer's libraries")

    def run(*arguments: str) -> str:
        code = main(list(arguments))
        captured = capsys.readouterr()
        if code == 6 and "No off-screen OpenGL" in captured.err:
            pytest.skip(captured.err)
        assert code == 0, captured.err
        return captured.out

    return run


def assert_complete_scene(folder: Path) -> None:
    """A bundle with the case's nodes in it, and pictures that show something."""
    pictures = {f"{name}.png" for name in ("axial", "coronal", "sagittal", "3d", "overview")}
    assert {path.name for path in folder.iterdir()} == {"scene.mrb", *pictures}
    with zipfile.ZipFile(folder / "scene.mrb") as bundle:
        assert bundle.testzip() is None
        (scene,) = [name for name in bundle.namelist() if name.endswith(".mrml")]
        nodes = bundle.read(scene).decode()
    for node in ("Volume", "Segmentation", "Model", "MarkupsFiducial", "TableStorage"):
        assert f"<{node}" in nodes
    for picture in pictures:
        assert sitk.GetArrayViewFromImage(sitk.ReadImage(str(folder / picture))).std() > 10


def test_scene_draws_a_result_and_replaces_a_scene_only_when_told_to(
    predict, draw, tmp_path, capsys
):
    result = tmp_path / "result"
    assert predict() == 0
    (result / "scene").mkdir()
    (result / "scene" / "3d.png").write_bytes(b"earlier")
    assert main(["scene", str(result)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (result / "scene" / "3d.png").read_bytes() == b"earlier"
    assert str(result / "scene") in draw("scene", str(result), "--overwrite")
    assert_complete_scene(result / "scene")
    assert {p.name for p in result.iterdir()} == {*RESULT_FILES, "scene"}


def test_demo_simulates_classifies_and_draws(draw, tmp_path, monkeypatch):
    """With a coarser scanner than the demo's, to be quick; all else as the user runs it."""
    fine = demo_parameters()
    coarse = dataclasses.replace(fine, scanner=Scanner(spacing_mm=(4.0, 4.0, 6.0)))
    monkeypatch.setattr("REACTKDLib.simulation.demo_parameters", lambda: coarse)
    text = draw("demo", "--output", str(tmp_path / "demo"))
    assert "Everything shown is simulated" in text
    assert "Research use only" in text
    result = tmp_path / "demo" / "simulated_result"
    case = read_result(result)
    assert case.modalities == ("ct", "pet_fdg", "pet_acetate")
    assert {region.kind for region in case.regions} == {"lesion", "rim", "parenchyma"}
    assert_complete_scene(result / "scene")
    prognosis = read_prognosis(tmp_path / "demo" / "simulated_prognosis")
    assert prognosis.modalities == ("ct", "clinical", "radiomics")
    assert "clinical" in [entry["role"] for entry in prognosis.provenance["inputs"]]


def test_a_scene_of_no_result_is_refused(tmp_path, capsys):
    assert main(["scene", str(tmp_path)]) in (3, 6)  # 6 where Slicer's libraries are missing
    assert "Traceback" not in capsys.readouterr().err


def test_a_scene_needs_the_ct_where_it_was(
    predict, tmp_path, capsys, phantom_files, random_package
):
    pytest.importorskip("REACTKDSlicer", reason="needs the module's package on the path")
    pytest.importorskip("slicer", reason="needs Slicer's libraries")
    assert predict() == 0
    provenance = tmp_path / "result" / PROVENANCE
    gone = provenance.read_text().replace(str(phantom_files["ct"]), str(tmp_path / "gone.nii.gz"))
    provenance.write_text(gone)
    assert main(["scene", str(tmp_path / "result")]) == 3
    assert "gone.nii.gz" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "result").iterdir()} == set(RESULT_FILES)


def test_a_renamed_package_still_runs(predict, random_package, tmp_path):
    def rename(metadata: dict) -> None:
        metadata["reactkd"]["name"] = "another name"

    folder = altered_copy(random_package, tmp_path / "copy", rename)
    assert predict("--model", str(folder)) == 0
    model = read_result(tmp_path / "result").provenance["model"]
    assert model["name"] == "another name"
