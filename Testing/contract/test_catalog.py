"""What the Extensions Index asks of an extension: catalogue entry, metadata, licence, icon."""

from __future__ import annotations

import ast
import json
import re
import struct

import pytest
from cmake_lists import REPOSITORY

SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/"
    "slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
#: The schema allows no others.
FIELDS = {
    *("$schema", "build_dependencies", "build_subdirectory", "category"),
    *("enabled", "scm_revision", "scm_type", "scm_url", "tier"),
}
#: Stands where the repository's address goes; .invalid is a domain that cannot exist.
NOT_PUBLIC = "repository-not-public-yet.invalid"


@pytest.fixture(scope="module")
def entry() -> dict[str, object]:
    return json.loads((REPOSITORY / "REACTKD.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "?(.*?)"?\)$', text, re.MULTILINE))


def test_the_catalogue_entry_has_the_fields_of_the_schema(entry):
    assert entry["$schema"] == SCHEMA
    assert set(entry) <= FIELDS
    assert {"category", "scm_url", "scm_revision", "build_subdirectory", "tier"} <= set(entry)
    assert entry["tier"] in (1, 2, 3, 4, 5)
    assert entry["build_subdirectory"] == "."


def test_entry_metadata_and_module_agree(entry, metadata):
    assert entry["build_dependencies"] == metadata["DEPENDS"].split() == ["PyTorch"]
    assert entry["category"] == metadata["CATEGORY"]
    module = (REPOSITORY / "REACTKD" / "REACTKD.py").read_text(encoding="utf-8")
    (categories,) = re.findall(r"parent\.categories = (\[.*?\])", module)
    assert ast.literal_eval(categories) == [entry["category"]]
    (contributors,) = re.findall(r"parent\.contributors = (\[.*?\])", module)
    assert ast.literal_eval(contributors) == [metadata["CONTRIBUTORS"]]


def test_an_address_that_is_not_decided_is_marked_and_explained(entry, metadata):
    """No address is made up: until there is one, the README tells maintainers where it goes."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    address = str(entry["scm_url"])
    assert re.fullmatch(r"https://\S+\.git", address)
    pictures = metadata["ICONURL"], metadata["SCREENSHOTURLS"]
    if NOT_PUBLIC in address:
        assert NOT_PUBLIC in readme
        assert pictures == ("", "")
    else:
        assert NOT_PUBLIC not in readme
        assert all(url.startswith("https://") for url in pictures)


def test_licence_and_icon_are_in_place():
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    icon = (REPOSITORY / "Resources" / "Icons" / "REACTKD.png").read_bytes()
    assert icon[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", icon[16:24]) == (128, 128)


def test_no_package_has_a_name_that_other_extensions_use():
    """All modules of an extension land in one folder of Slicer's Python path."""
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    rooms = re.findall(r"add_subdirectory\((\w+)\)", text)
    # The pages of docs go into Resources.
    assert rooms == ["REACTKD", "REACTKDLib", "Resources", "docs"]
    tops = {p.name for p in (REPOSITORY / "REACTKD").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert tops - {"__pycache__"} == {"REACTKD.py", "REACTKDSlicer"}
