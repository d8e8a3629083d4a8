"""Model packages of prognosis: what is written is read, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from random_models import altered_copy
from random_prognosis import SCHEMA, random_metadata, random_network, write_random_prognosis

from REACTKDLib.cli import main
from REACTKDLib.errors import ModelPackageError, OutputError
from REACTKDLib.model_package import load_package, shipped_packages
from REACTKDLib.package_files import (
    CLASSIFICATION,
    METADATA,
    PROGNOSIS,
    package_kind,
    shipped_folders,
    write_checksums,
)
from REACTKDLib.prognosis.model import load_network
from REACTKDLib.prognosis.package import (
    Calibration,
    TextEncoderSpec,
    TrainingStatistics,
    load_prognosis_package,
    shipped_prognosis_packages,
    write_prognosis_package,
)


def test_a_package_is_read_as_it_was_written(random_prognosis, ct_study):
    metadata = random_metadata(ct_study)
    assert random_prognosis.metadata == metadata
    assert load_prognosis_package(random_prognosis.path).metadata == metadata
    assert random_prognosis.card.startswith("# Random")
    state = load_network(random_prognosis, "cpu").network.state_dict()
    expected = random_network(metadata.network).state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_the_bundles_own_fields_are_there(random_prognosis):
    document = json.loads((random_prognosis.path / METADATA).read_text(encoding="utf-8"))
    assert document["version"] == "0.0.1" and document["reactkd"]["kind"] == PROGNOSIS
    assert document["pytorch_version"] and "version" not in document["reactkd"]


def test_each_kind_is_refused_where_the_other_is_wanted(random_prognosis, random_package):
    assert package_kind(random_prognosis.path) == PROGNOSIS
    assert package_kind(random_package.path) == CLASSIFICATION
    with pytest.raises(ModelPackageError, match="a model of prognosis: use 'reactkd prognosis'"):
        load_package(random_prognosis.path)
    with pytest.raises(ModelPackageError, match="a model of REACT-KD: use 'reactkd predict'"):
        load_prognosis_package(random_package.path)
    other = altered_copy(
        random_package,
        random_prognosis.path.parent / "other",
        lambda m: m["reactkd"].update(kind="x"),
    )
    with pytest.raises(ModelPackageError, match="does not know"):
        load_package(other)


def test_shipped_packages_are_listed_by_kind():
    assert shipped_packages() == shipped_folders(CLASSIFICATION)
    assert not set(shipped_packages()) & set(shipped_prognosis_packages())
    assert all(package_kind(path) == PROGNOSIS for path in shipped_prognosis_packages())
    for folder in shipped_prognosis_packages():
        assert load_prognosis_package(folder.name).path == folder


def test_a_name_that_is_nowhere_is_refused():
    with pytest.raises(ModelPackageError, match="is not a model package"):
        load_prognosis_package("no-such-model")


def test_an_altered_file_is_refused(random_prognosis, tmp_path):
    folder = shutil.copytree(random_prognosis.path, tmp_path / "p")
    with (folder / "docs" / "model_card.md").open("a", encoding="utf-8") as file:
        file.write("x")
    with pytest.raises(ModelPackageError, match="was altered"):
        load_prognosis_package(folder)
    shutil.rmtree(folder / "docs")
    with pytest.raises(ModelPackageError, match=r"model_card.md is missing"):
        load_prognosis_package(folder)


def set_at(path, value):
    def change(metadata):
        at = metadata["reactkd"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 9, "package format 9"),
        (("outcome",), "cured", "outcome 'cured' is not among the classes"),
        (("classes",), [{"name": "a", "title": "A"}], "the network has 2"),
        (("required",), ["pet"], "required modalities"),
        (("calibration", "temperature"), 0, "the temperature is 0"),
        (("calibration", "intercept"), 1e6, "the intercept is"),
        (("clinical_schema",), None, "clinical inputs and no schema"),
        (("clinical_schema", "variables"), [], "0 variables"),
        (("clinical_schema", "name"), 5, "field reactkd.clinical_schema.name is 5"),
        (("network", "width"), 4, "width is 4"),
        (("network", "text_hidden"), 8, "the text encoder is None"),
        (("network", "families"), [{"name": "x", "features": 3}], "families are not those"),
        (("radiomics", "image_types"), ["original"], "settings do not make"),
        (("radiomics", "bin_width"), -1, "the bin width is -1"),
        (("radiomics",), None, "radiomics without settings or scaling"),
        (("scaling", "radiomics", "spread"), [1.0], "does not fit"),
        (("scaling", "clinical"), None, "scaling's variables"),
        (("image",), None, "reads an image and does not say how"),
        (("image", "grid", "spacing_mm"), [0.001, 1, 1], "grid.spacing_mm is 0.001"),
        (("image", "regions", "lesion_role"), "cyst", "region role 'cyst'"),
        (("image", "modality", "name"), "mr", "'mr' is not 'ct'"),
        (("image", "volume_size"), [0, 4, 4], "volume_size"),
        (("training", "clinical"), {"height": [1, 2]}, "the schema does not have"),
        (("simulated",), "no", "field reactkd.simulated is 'no'"),
        (("surprise",), 1, r"unknown fields \['surprise'\]"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(random_prognosis, tmp_path, path, value, message):
    folder = altered_copy(random_prognosis, tmp_path / "p", set_at(path, value))
    with pytest.raises(ModelPackageError, match=message):
        load_prognosis_package(folder)


def test_metadata_that_do_not_fit_are_not_written(tmp_path):
    metadata = random_metadata(calibration=Calibration(0.0))
    with pytest.raises(ModelPackageError, match="the temperature is 0"):
        write_prognosis_package(tmp_path / "p", metadata, {}, "")
    assert not (tmp_path / "p").exists()
    text = TextEncoderSpec("x", reads="novel")
    network = replace(metadata.network, text_hidden=8)
    wrong = random_metadata(text=text, network=network)
    with pytest.raises(ModelPackageError, match="the text encoder reads 'novel'"):
        write_prognosis_package(tmp_path / "p", wrong, {}, "")


def test_a_package_of_clinical_variables_alone_needs_no_image(tmp_path):
    whole = random_metadata()
    network = replace(whole.network, modalities=("clinical",), families=())
    scaling = replace(whole.scaling, radiomics=None)
    package = write_random_prognosis(
        tmp_path / "p",
        network=network,
        scaling=scaling,
        image=None,
        radiomics=None,
        training=TrainingStatistics(),
    )
    assert package.metadata.image is None and package.metadata.radiomics_names == ()
    with pytest.raises(ModelPackageError, match="reads no image"):
        package.metadata.model_spec()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fusion.bias"), "fusion.bias is missing"),
        (lambda state: state.update(more=torch.zeros(1)), "more is unknown"),
        (lambda state: state.update({"fusion.bias": torch.zeros(3)}), r"has the shape \(3,\)"),
        (lambda state: state["fusion.bias"].fill_(torch.nan), "fusion.bias is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    metadata = random_metadata()
    state = random_network(metadata.network).state_dict()
    change(state)
    package = write_prognosis_package(tmp_path / "p", metadata, state, "")
    with pytest.raises(ModelPackageError, match=message):
        load_network(package, "cpu")


def test_weights_that_are_no_safetensors_are_refused(random_prognosis, tmp_path):
    folder = shutil.copytree(random_prognosis.path, tmp_path / "p")
    (folder / "models" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    write_checksums(folder)
    package = load_prognosis_package(folder)
    with pytest.raises(ModelPackageError, match="the weights do not fit the network"):
        load_network(package, "cpu")


def test_a_package_that_changed_in_use_is_refused(random_prognosis, tmp_path):
    folder = shutil.copytree(random_prognosis.path, tmp_path / "p")
    package = load_prognosis_package(folder)
    altered = altered_copy(package, tmp_path / "q", lambda m: m.update(description="other"))
    shutil.rmtree(folder)
    shutil.move(altered, folder)
    with pytest.raises(ModelPackageError, match="changed while in use"):
        load_network(package, "cpu")


def test_an_existing_folder_without_a_package_is_not_overwritten_in_part(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    metadata = random_metadata()
    state = random_network(metadata.network).state_dict()
    with pytest.raises(OutputError):
        write_prognosis_package(tmp_path / "file" / "p", metadata, state, "")


def test_info_prints_either_kind(random_prognosis, random_package, capsys):
    assert main(["info", str(random_prognosis.path)]) == 0
    text = capsys.readouterr().out
    for part in ("Death within one year", "(prognosis)", "ct, clinical, radiomics", "simulated"):
        assert part in text
    assert all(name in text for name in SCHEMA.names)
    assert main(["info", str(random_package.path)]) == 0
    assert "classes:" in capsys.readouterr().out
