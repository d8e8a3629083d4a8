"""The result folder: complete, true to the case, readable by others, and written whole or not at
all."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import networkx as nx
import numpy as np
import pytest
import SimpleITK as sitk

from REACTKDLib.errors import InputError, OutputError
from REACTKDLib.geometry import geometry_from_image
from REACTKDLib.pipeline import RunOptions, run_case
from REACTKDLib.report import (
    ATTENTION,
    CSV,
    GRAPH,
    PROVENANCE,
    REGIONS,
    RESULT,
    RESULT_FILES,
    SCENE,
    atomic_folder,
    read_result,
    result_document,
    write_result,
)
from REACTKDLib.resources import resource_path
from REACTKDLib.types import RESEARCH_USE, CaseResult


@pytest.fixture(scope="module")
def folder(phantom_case, tmp_path_factory) -> Path:
    return write_result(phantom_case, tmp_path_factory.mktemp("results") / "case")


@pytest.fixture(scope="module")
def document(folder) -> dict[str, Any]:
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(resource_path("Schemas/result-1.json").read_text(encoding="utf-8"))


# Content.


def test_the_folder_has_these_files_and_no_other(folder):
    assert {p.name for p in folder.iterdir()} == set(RESULT_FILES)
    assert not [p for p in folder.parent.iterdir() if p != folder]


def test_a_result_is_read_back_as_it_was_written(folder, phantom_case):
    again = read_result(folder)
    for field in dataclasses.fields(CaseResult):
        was, now = getattr(phantom_case, field.name), getattr(again, field.name)
        if field.name in ("attention", "region_labels"):
            assert np.array_equal(now.array, was.array)
            assert now.array.dtype == was.array.dtype
            assert now.geometry.same_grid(was.geometry, 1e-6)
        elif field.name == "graph":
            assert now.node_ids == was.node_ids
            assert now.edges == was.edges
            assert np.allclose(now.features, was.features)
        elif isinstance(was, Mapping):
            assert dict(now) == json.loads(json.dumps(dict(was)))
        elif field.name == "shares":
            plain = [dataclasses.replace(s, logit_shares=dict(s.logit_shares)) for s in was]
            assert list(now) == plain
        else:
            assert now == was


def test_result_json_has_what_programs_were_promised(document, phantom_case):
    assert set(document["probabilities"]) == {"well", "moderate", "poor"}
    assert sum(document["probabilities"].values()) == pytest.approx(1)
    assert {"id", "name", "kind", "volume_ml", "centroid_ras", "share"} <= set(
        document["regions"][0]
    )
    assert document["outside_share"] == phantom_case.outside_share
    assert document["statement"] == RESEARCH_USE
    assert document["simulated_model"] is True
    total = sum(r["share"] for r in document["regions"]) + document["outside_share"]
    assert total == pytest.approx(document["contrast"] - document["reference_contrast"], abs=1e-4)
    for name in ("well", "moderate", "poor"):
        parts = sum(r["logit_shares"][name] for r in document["regions"])
        logit = parts + document["outside_logit_shares"][name] + document["bias"][name]
        assert logit == pytest.approx(document["logits"][name], abs=1e-4)


def test_result_json_keeps_to_its_schema(document, schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("scheme", ["anatomical", "paper"])
def test_every_kind_of_result_keeps_to_the_schema(scheme, phantom_study, random_package, schema):
    case = run_case(phantom_study, random_package, RunOptions("poor", scheme))
    jsonschema.validate(result_document(case), schema, jsonschema.Draft202012Validator)


def lose(table: str, key: str) -> Any:
    return lambda d: (d[table][0] if isinstance(d[table], list) else d[table]).pop(key)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(schema_version=2),
        lambda d: d.update(extra=1),
        lambda d: d.pop("probabilities"),
        lambda d: d.update(scheme="couinaud"),
        lambda d: d.update(modalities=["pet_fdg"]),
        lambda d: d["probabilities"].update(well=1.2),
        lambda d: d["regions"][0].update(kind="cyst"),
        lambda d: d["regions"][0].update(note="x"),
        lambda d: d["regions"][0].update(centroid_ras=[1, 2]),
        lambda d: d["regions"][0].update(volume_ml="3"),
        lambda d: d["notices"][0].update(severity="fatal"),
        lose("regions", "share"),
        lose("classes", "title"),
    ],
)
def test_the_schema_refuses_what_is_wrong(spoil, document, schema):
    spoiled = json.loads(json.dumps(document))
    spoil(spoiled)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoiled, schema, jsonschema.Draft202012Validator)


def test_every_field_of_the_schema_says_what_it_is_and_in_which_unit(schema):
    def walk(node: dict[str, Any], where: str) -> Iterator[str]:
        if not node.get("description") or not node.get("x-unit"):
            yield where
        if node.get("type") == "object" and node.get("additionalProperties") is True:
            yield f"{where} is open"
        if "properties" in node and node.get("additionalProperties") is not False:
            yield f"{where} is open"
        for name, child in node.get("properties", {}).items():
            yield from walk(child, f"{where}.{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                yield from walk(node[key], f"{where}[]")

    assert list(walk(schema, "result")) == []
    assert set(schema["required"]) == set(schema["properties"])


def test_graph_json_is_a_networkx_graph(folder, phantom_case):
    data = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
    graph = nx.node_link_graph(data, edges="edges")
    ids = [region.id for region in phantom_case.regions]
    assert list(graph.nodes) == ids
    assert graph.number_of_edges() == len(ids) * (len(ids) - 1) // 2
    assert not graph.is_directed()
    assert graph.graph == {"target": phantom_case.target, "scheme": "anatomical"}
    node, region, share = graph.nodes["rim-1"], phantom_case.regions[2], phantom_case.shares[2]
    assert node["kind"] == "rim"
    assert node["share"] == share.share
    assert node["centroid_ras"] == list(region.centroid_ras)
    assert np.allclose(node["features"], phantom_case.graph.features[2])
    edge = graph.edges["lesion-1", "rim-1"]
    assert edge["contact_area_mm2"] > 0
    assert -1 <= edge["similarity"] <= 1


@pytest.mark.parametrize("name", [ATTENTION, REGIONS])
def test_volumes_lie_exactly_on_the_ct(name, folder, ct_study):
    image = sitk.ReadImage(str(folder / name))
    geometry = ct_study.ct.geometry
    assert image.GetSize() == geometry.size
    assert image.GetSpacing() == pytest.approx(geometry.spacing_mm, abs=1e-9)
    assert image.GetOrigin() == pytest.approx(geometry.origin_lps, abs=1e-9)
    assert image.GetDirection() == pytest.approx(geometry.direction_lps, abs=1e-9)
    pixel = sitk.sitkFloat32 if name == ATTENTION else sitk.sitkUInt8
    assert image.GetPixelID() == pixel
    assert geometry_from_image(image).same_grid(geometry)


def test_the_region_segmentation_has_names_and_colours_for_slicer(folder, phantom_case):
    image = sitk.ReadImage(str(folder / REGIONS))
    for n, region in enumerate(phantom_case.regions):
        assert image.GetMetaData(f"Segment{n}_ID") == region.id
        assert image.GetMetaData(f"Segment{n}_Name") == region.name
        assert image.GetMetaData(f"Segment{n}_LabelValue") == str(region.label)
        assert image.GetMetaData(f"Segment{n}_Layer") == "0"
        colour = [float(v) for v in image.GetMetaData(f"Segment{n}_Color").split()]
        assert len(colour) == 3
        assert all(0 <= v <= 1 for v in colour)
    assert not image.HasMetaDataKey(f"Segment{len(phantom_case.regions)}_ID")
    labels = sitk.GetArrayFromImage(image)
    assert set(np.unique(labels)) == {0, *(region.label for region in phantom_case.regions)}


def test_regions_seg_nrrd_is_a_segmentation_that_reactkd_reads(folder, phantom_case):
    from REACTKDLib.read_segmentation import read_segmentation
    from REACTKDLib.roles import RoleRule

    rules = [RoleRule("lesion", False, ("lesion",))]
    segmentation = read_segmentation([folder / REGIONS], rules)
    assert [s.name for s in segmentation.segments] == [r.name for r in phantom_case.regions]


def test_regions_csv_is_the_table_of_regions(folder, phantom_case):
    with (folder / CSV).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [region.id for region in phantom_case.regions]
    for row, region, share in zip(rows, phantom_case.regions, phantom_case.shares, strict=True):
        assert row["name"] == region.name
        assert float(row["volume_ml"]) == pytest.approx(region.volume_ml, rel=1e-5)
        centroid = [float(row[f"centroid_{axis}_mm"]) for axis in "ras"]
        assert centroid == pytest.approx(region.centroid_ras, rel=1e-4, abs=1e-4)
        assert float(row["share"]) == pytest.approx(share.share, rel=1e-5)
        assert float(row["logit_share_poor"]) == pytest.approx(share.logit_shares["poor"], rel=1e-5)
        if region.kind == "lesion":
            assert float(row["longest_diameter_mm"]) > 0
        else:
            assert row["longest_diameter_mm"] == ""


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=cmd|"/c calc"!A0']
)
def test_a_name_is_never_a_formula_in_a_spreadsheet(name, phantom_case, tmp_path):
    first = dataclasses.replace(phantom_case.regions[0], name=name)
    case = dataclasses.replace(phantom_case, regions=(first, *phantom_case.regions[1:]))
    folder = write_result(case, tmp_path / "case")
    with (folder / CSV).open(newline="", encoding="utf-8") as stream:
        cell = next(csv.DictReader(stream))["name"]
    assert cell == f"'{name}"
    assert read_result(folder).regions[0].name == name


def test_provenance_says_with_what_it_was_made(folder, random_package):
    provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    assert provenance["model"]["weights_sha256"] == random_package.weights_sha256
    assert provenance["model"]["name"] == "random"
    assert provenance["options"] == {
        "scheme": "anatomical",
        "target": None,
        "device": "auto",
        "backend": "auto",
    }
    assert provenance["modalities"] == ["ct"]
    used = {"numpy", "SimpleITK", "safetensors", provenance["backend"]}
    assert used <= set(provenance["libraries"])
    assert provenance["time_utc"].endswith("+00:00")
    assert set(provenance["stage_seconds"]) >= {"regions", "network", "explanation"}


def test_names_may_be_in_any_language(phantom_case, tmp_path):
    first = dataclasses.replace(phantom_case.regions[0], name="病变 «Läsion»")
    case = dataclasses.replace(
        phantom_case, regions=(first, *phantom_case.regions[1:]), case_id="é"
    )
    again = read_result(write_result(case, tmp_path / "dossier é"))
    assert (again.case_id, again.regions[0].name) == ("é", "病变 «Läsion»")


# Reading what is not a result.


def test_a_folder_that_is_no_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a result"):
        read_result(tmp_path)


@pytest.mark.parametrize("name", [GRAPH, ATTENTION, REGIONS, PROVENANCE])
def test_a_result_without_a_file_is_refused(name, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()
    with pytest.raises(InputError, match="damaged"):
        read_result(copy)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"schema_version": 1}', b"\xff\xfe", b"null"]
)
def test_a_damaged_result_is_refused(content, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / RESULT).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_result(copy)
    assert caught.value.advice


def test_another_schema_version_is_refused(folder, document, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / RESULT).write_text(json.dumps(document | {"schema_version": 7}), encoding="utf-8")
    with pytest.raises(InputError, match="schema 7"):
        read_result(copy)


# Writing, whole or not at all.


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class _FullDisk(Mapping[str, Any]):
    """Provenance that cannot be read while the result is being written."""

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failure_in_the_middle_leaves_nothing(phantom_case, tmp_path):
    broken = dataclasses.replace(phantom_case, provenance=_FullDisk())
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_result(broken, tmp_path / "new" / "case")
    assert "Free space" in caught.value.advice
    assert not any((tmp_path / "new").iterdir())


def test_a_failure_in_the_middle_keeps_the_earlier_result(phantom_case, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "case")
    before = content_of(copy)
    broken = dataclasses.replace(phantom_case, provenance=_FullDisk())
    with pytest.raises(OutputError):
        write_result(broken, copy, overwrite=True)
    assert content_of(copy) == before
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_numbers_that_json_does_not_have_leave_nothing(phantom_case, tmp_path):
    broken = dataclasses.replace(phantom_case, outside_share=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        write_result(broken, tmp_path / "case")
    assert not any(tmp_path.iterdir())


def test_an_exchange_that_fails_half_way_is_undone(folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "case")
    before = content_of(copy)
    replace, calls = os.replace, []

    def second_call_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_call_fails)
    with pytest.raises(OutputError, match="Permission denied"), atomic_folder(copy) as partial:
        (partial / "new").write_text("new")
    assert content_of(copy) == before
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_an_existing_result_is_kept_unless_overwriting(phantom_case, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "case")
    before = content_of(copy)
    with pytest.raises(OutputError, match="exists and is not empty") as caught:
        write_result(phantom_case, copy)
    assert "--overwrite" in caught.value.advice
    assert content_of(copy) == before


def test_overwriting_replaces_all_of_a_result_and_its_scene(phantom_case, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "case")
    (copy / SCENE).mkdir()
    (copy / SCENE / "axial.png").write_bytes(b"old picture")
    write_result(dataclasses.replace(phantom_case, case_id="second"), copy, overwrite=True)
    assert read_result(copy).case_id == "second"
    assert {p.name for p in copy.iterdir()} == set(RESULT_FILES)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_overwriting_never_takes_a_persons_files(phantom_case, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "case")
    (copy / "my notes.txt").write_text("keep")
    before = content_of(copy)
    with pytest.raises(OutputError, match=r"my notes\.txt"):
        write_result(phantom_case, copy, overwrite=True)
    assert content_of(copy) == before


def test_an_empty_folder_is_filled(phantom_case, tmp_path):
    (tmp_path / "case").mkdir()
    write_result(phantom_case, tmp_path / "case")
    assert read_result(tmp_path / "case").case_id == phantom_case.case_id


def test_a_file_in_the_place_of_the_folder_is_kept(phantom_case, tmp_path):
    (tmp_path / "case").write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is a file"):
            write_result(phantom_case, tmp_path / "case", overwrite=overwrite)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        write_result(phantom_case, tmp_path / "file" / "case")
    assert (tmp_path / "case").read_text() == "a file"


def test_the_folder_can_be_read_by_others(folder):
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_disk_that_is_really_full_is_said_and_left_clean(phantom_case, small_disk):
    with pytest.raises(OutputError) as caught:
        write_result(phantom_case, small_disk / "case")
    assert "Free space" in caught.value.advice
    assert not any(small_disk.iterdir())
