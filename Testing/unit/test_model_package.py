"""Model packages: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_models import altered_copy, specification, specification_without_organ

from REACTKDLib.errors import ModelPackageError
from REACTKDLib.model_package import (
    CARD,
    CHECKSUMS,
    METADATA,
    WEIGHTS,
    load_package,
    modality_set_key,
    spec_from_section,
)


def test_a_package_says_what_was_written(random_package):
    document = specification()
    package = load_package(random_package.path)
    assert package.name == document["name"]
    assert package.class_names == ("well", "moderate", "poor")
    assert package.modality_names == ("ct", "pet_fdg", "pet_acetate")
    assert package.modalities[0].window == (-160.0, 240.0)
    assert package.grid.spacing_mm == (5.0, 5.0, 7.0)
    assert package.network.strides == ((1, 2, 2), (2, 2, 2))
    assert package.network.total_stride == (2, 4, 4)
    assert package.role_rules[0].aliases[0] == "liver"
    assert package.regions.rim_mm == 10.0
    assert package.version == "0.0.1"
    assert package.intended_use == "Tests only."
    assert package.statistics["ct"].temperature == 1.3
    assert package.training_ranges.median_hu == (0.0, 300.0)
    assert package.card.startswith("# Random weights")
    assert package.metadata["monai_version"]
    weights = hashlib.sha256((package.path / WEIGHTS).read_bytes()).hexdigest()
    assert package.weights_sha256 == weights


def test_checksums_are_sha256sums_own_format(random_package):
    lines = (random_package.path / CHECKSUMS).read_text().splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    files = {
        p.relative_to(random_package.path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in random_package.path.rglob("*")
        if p.is_file() and p.name != CHECKSUMS
    }
    assert listed == files


def test_a_package_for_another_organ_needs_only_its_own_roles():
    spec = spec_from_section(specification_without_organ())
    assert spec.regions.organ_role is None
    assert [rule.name for rule in spec.role_rules] == ["tumour"]


def test_the_key_of_a_modality_set_does_not_depend_on_order():
    assert (
        modality_set_key(("pet_fdg", "ct")) == modality_set_key(("ct", "pet_fdg")) == "ct+pet_fdg"
    )


def expect_refusal(folder: Path, said: str) -> None:
    with pytest.raises(ModelPackageError) as caught:
        load_package(folder)
    assert said in caught.value.message
    assert caught.value.advice


def test_a_folder_that_is_no_package_is_refused(tmp_path):
    expect_refusal(tmp_path, "not a model package")
    expect_refusal(tmp_path / "nowhere", "not a model package")


@pytest.mark.parametrize("name", [METADATA, WEIGHTS, CARD, CHECKSUMS])
def test_a_missing_file_is_named(name, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / name).unlink()
    expect_refusal(folder, name)


@pytest.mark.parametrize("name", [METADATA, WEIGHTS, CARD])
def test_an_altered_file_is_named(name, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    expect_refusal(folder, f"{name} was altered")


@pytest.mark.parametrize("name", [METADATA, WEIGHTS, CARD])
def test_a_file_that_is_not_listed_is_refused(name, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    sums = folder / CHECKSUMS
    kept = [line for line in sums.read_text().splitlines(True) if not line.endswith(f"{name}\n")]
    sums.write_text("".join(kept))
    expect_refusal(folder, f"does not list {name}")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "models/../../secret", "..\\secret", "C:/secret", ""]
)
def test_checksums_cannot_point_out_of_the_package(name, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with (folder / CHECKSUMS).open("a") as sums:
        sums.write(f"{hashlib.sha256(b'secret').hexdigest()}  {name}\n")
    expect_refusal(folder, "outside the package")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00 not text", b"one word\n"])
def test_damaged_checksums_are_refused(content, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / CHECKSUMS).write_bytes(content)
    expect_refusal(folder, CHECKSUMS)


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"\xff\xfe"])
def test_damaged_metadata_is_refused(content, random_package, tmp_path):
    from REACTKDLib.model_package import write_checksums

    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / METADATA).write_bytes(content)
    write_checksums(folder)
    expect_refusal(folder, METADATA)


def section(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    """A change of the part of the metadata that is REACTKD's."""

    def apply(metadata: dict[str, Any]) -> None:
        change(metadata["reactkd"])

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("reactkd"), "package format None"),
        (section(lambda s: s.update(format_version=2)), "package format 2"),
        (section(lambda s: s.update(colour="red")), "unknown fields ['colour']"),
        (section(lambda s: s.pop("grid")), "missing fields ['grid']"),
        (section(lambda s: s.pop("statistics")), "missing fields ['statistics']"),
        (lambda m: m.pop("version"), "reactkd.version is None, not str"),
        (section(lambda s: s.update(simulated="yes")), "reactkd.simulated is 'yes', not bool"),
        (section(lambda s: s["grid"].update(margin_mm="6")), "reactkd.grid.margin_mm is '6'"),
        (section(lambda s: s["grid"].update(margin_mm=True)), "reactkd.grid.margin_mm is True"),
        (
            section(lambda s: s["grid"].update(spacing_mm=[1, 2])),
            "reactkd.grid.spacing_mm is [1, 2]",
        ),
        (
            section(lambda s: s["grid"].update(supersampling=2.0)),
            "reactkd.grid.supersampling is 2.0",
        ),
        (section(lambda s: s.update(network=[1])), "reactkd.network is [1]"),
        (section(lambda s: s["network"].update(blocks_down=3)), "reactkd.network.blocks_down is 3"),
        (section(lambda s: s["classes"][0].update(name=1)), "reactkd.classes[0].name is 1"),
        (section(lambda s: s["statistics"].update(ct=1)), "reactkd.statistics.ct is 1"),
        (section(lambda s: s.update(classes=s["classes"][:1])), "1 classes"),
        (section(lambda s: s["classes"][1].update(name="well")), "class names repeat"),
        (section(lambda s: s.update(modalities=s["modalities"][1:])), "lack 'ct'"),
        (section(lambda s: s["regions"].update(lesion_role="cyst")), "region role 'cyst'"),
        (section(lambda s: s["modalities"][0].update(window=None)), "window or percentiles"),
        (
            section(lambda s: s["modalities"][0].update(percentiles=[1, 99])),
            "window or percentiles",
        ),
        (section(lambda s: s["network"].update(strides=[[2, 2, 2]])), "one stride between"),
        (section(lambda s: s["grid"].update(supersampling=0)), "grid.supersampling is 0"),
        (section(lambda s: s["grid"].update(spacing_mm=[1, 0, 1])), "grid.spacing_mm is 0"),
    ],
)
def test_mistaken_metadata_is_refused_with_the_field(change, said, random_package, tmp_path):
    expect_refusal(altered_copy(random_package, tmp_path / "copy", change), said)


def test_extra_files_are_part_of_the_package(random_package, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(random_package.path, folder)
    (folder / "docs" / "figure.txt").write_text("a figure")
    folder_again = altered_copy(load_package(folder), tmp_path / "again")
    (folder_again / "docs" / "figure.txt").write_text("another")
    expect_refusal(folder_again, "docs/figure.txt was altered")
