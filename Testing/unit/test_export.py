"""``reactkd export``: an ONNX graph and a MONAI bundle that give REACTKD's logits."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from random_models import specification_without_organ, write_random_package

from REACTKDLib.cli import main
from REACTKDLib.export import BUNDLE_FILES, choose_modalities, export_monai_bundle, export_onnx
from REACTKDLib.infer import load_classifier, predict
from REACTKDLib.networks.bundle import PrepareCase
from REACTKDLib.normalise import normalise
from REACTKDLib.read import StudyFiles, read_study
from REACTKDLib.roi import locate_roi

#: Of MONAI's schema of ``metadata.json`` (2024-07-25): fields and their types.
_TENSOR = {
    "type": "object",
    "required": [
        *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range"),
        *("is_patch_data", "channel_def"),
    ],
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
_TEXTS = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task"),
    *("description", "authors", "copyright"),
)
METADATA_SCHEMA = {
    "type": "object",
    "required": [*_TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in _TEXTS},
        "changelog": {"type": "object"},
        "required_packages_version": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "additionalProperties": {"additionalProperties": _TENSOR},
        },
    },
}
SETS = ["ct", "ct+pet_fdg", "ct+pet_acetate+pet_fdg"]


def files_of(paths: dict[str, Path], names: tuple[str, ...]) -> StudyFiles:
    pet = {name: paths[name] for name in names if name != "ct"}
    return StudyFiles(ct=paths["ct"], segmentation=(paths["segmentation"],), pet=pet)


def prediction(package, paths: dict[str, Path], names: tuple[str, ...]):
    study = read_study(files_of(paths, names), package.role_rules)
    model_input = normalise(study, locate_roi(study, package), package)
    return model_input, predict(load_classifier(package, "cpu", "torch"), model_input)


@pytest.mark.parametrize("key", SETS)
def test_the_graph_gives_logits_and_the_feature_map(key, random_package, phantom_files, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = tmp_path / "student.onnx"
    assert main(["export", "--onnx", str(path), "--modalities", key, *model(random_package)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["student.onnx"]
    names = choose_modalities(random_package, key)
    model_input, expected = prediction(random_package, phantom_files, names)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {**model_input.volumes, "roi": model_input.roi, "weights": expected.weights}
    found = session.run(
        ["logits", "features"], {k: np.float32(v)[None, None] for k, v in inputs.items()}
    )
    assert session.get_outputs()[1].name == "features"
    assert np.allclose(found[0][0], expected.logits, atol=1e-4)
    assert np.allclose(found[1][0], expected.features, atol=1e-4)
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["modalities"]) == list(names)
    assert json.loads(notes["classes"]) == list(random_package.class_names)
    assert notes["weights_sha256"] == random_package.weights_sha256
    assert float(notes["temperature"]) == random_package.statistics[key].temperature
    assert notes["statement"].startswith("Research use only")


def model(package) -> list[str]:
    return ["--model", str(package.path)]


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(random_package, tmp_path, capsys):
    pytest.importorskip("onnx")
    path = tmp_path / "student.onnx"
    path.write_text("mine")
    assert main(["export", "--onnx", str(path), *model(random_package)]) == 5
    assert path.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", "--onnx", str(path), "--overwrite", *model(random_package)]) == 0
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("key", ["pet_fdg", "ct+mri", ""])
def test_modalities_that_have_no_calibration_are_refused(key, random_package, tmp_path, capsys):
    arguments = ["export", "--onnx", str(tmp_path / "x.onnx"), "--modalities", key]
    assert main([*arguments, *model(random_package)]) == 2
    assert "ct+pet_acetate" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_wants_one_form(tmp_path):
    with pytest.raises(SystemExit):
        main(["export"])
    with pytest.raises(SystemExit):
        main(["export", "--onnx", str(tmp_path / "a"), "--monai-bundle", str(tmp_path / "b")])


@pytest.fixture(scope="module", params=SETS)
def bundle(request, random_package, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "random_bundle"
    arguments = ["export", "--monai-bundle", str(folder), "--modalities", request.param]
    assert main([*arguments, *model(random_package)]) == 0
    return folder


def modalities_of(bundle: Path) -> tuple[str, ...]:
    document = json.loads((bundle / "configs" / "inference.json").read_text(encoding="utf-8"))
    return tuple(document["preprocessing"]["modalities"])


def test_the_bundle_has_the_usual_files(bundle):
    found = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert found == set(BUNDLE_FILES)
    assert "Research use only" in (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_the_metadata_keep_to_monais_schema(bundle, shipped_package, tmp_path):
    shipped = tmp_path / "shipped"
    export_monai_bundle(shipped_package, shipped, ("ct",))
    for folder in (bundle, shipped):
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        jsonschema.validate(metadata, METADATA_SCHEMA)


def test_monai_finds_inputs_and_outputs_as_the_metadata_say(bundle):
    pytest.importorskip("monai")
    from monai.bundle import verify_net_in_out

    configs = bundle / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        n=6,
        device="cpu",
    )


def test_monai_finds_the_properties_of_a_bundle(bundle):
    pytest.importorskip("monai")
    pytest.importorskip("ignite", reason="MONAI's evaluator needs pytorch-ignite")
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
    )
    workflow.initialize()
    assert not workflow.check_properties()


def test_monai_loads_the_bundle_and_gives_the_same_logits(bundle, random_package, phantom_files):
    pytest.importorskip("monai")
    from monai.bundle import load

    network = load(name=bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference")
    names = modalities_of(bundle)
    prepare = PrepareCase(str(bundle / "configs" / "metadata.json"), names)
    case = prepare({name: phantom_files[name] for name in (*names, "segmentation")})
    with torch.inference_mode():
        found = network.eval()(case["image"][None])
    _, expected = prediction(random_package, phantom_files, names)
    assert np.ptp(expected.logits) > 0.1
    assert np.allclose(found[0], expected.logits, atol=1e-4)


def test_monai_runs_the_bundle(bundle, random_package, phantom_files, tmp_path):
    pytest.importorskip("monai")
    pytest.importorskip("ignite", reason="MONAI's evaluator needs pytorch-ignite")
    from monai.bundle import run

    names = modalities_of(bundle)
    run(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        bundle_root=str(bundle),
        output_dir=str(tmp_path),
        device="$torch.device('cpu')",
        data=[{name: str(phantom_files[name]) for name in (*names, "segmentation")}],
    )
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        ((_, *values),) = csv.reader(file)
    _, expected = prediction(random_package, phantom_files, names)
    assert np.allclose([float(v) for v in values], expected.probabilities, atol=1e-4)


def test_a_folder_with_other_files_is_never_replaced(random_package, tmp_path, capsys):
    folder = tmp_path / "bundle"
    arguments = ["export", "--monai-bundle", str(folder), *model(random_package)]
    assert main(arguments) == 0
    assert main(arguments) == 5
    assert main([*arguments, "--overwrite"]) == 0
    (folder / "eval").mkdir()
    (folder / "eval" / "mine.csv").write_text("1")
    assert main([*arguments, "--overwrite"]) == 5
    assert "eval/mine.csv" in capsys.readouterr().err
    assert (folder / "eval" / "mine.csv").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_model_of_one_modality_is_exported_without_being_asked_which(tmp_path):
    pytest.importorskip("onnx")
    package = write_random_package(tmp_path / "package", specification_without_organ())
    assert choose_modalities(package, None) == ("ct",)
    export_onnx(package, tmp_path / "x.onnx", ("ct",))
    assert (tmp_path / "x.onnx").is_file()
