"""Shipped files are found in every layout: source tree, pip install, flat module folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import REACTKDLib
from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.resources import resource_path

LIBRARY = Path(REACTKDLib.__file__).parent

PROGRAM = """
from REACTKDLib.resources import resource_path
from REACTKDLib.model_package import shipped_packages
print(resource_path("Schemas/one.json"))
for package in shipped_packages():
    print(package)
"""


def test_a_shipped_file_is_found():
    assert resource_path("Schemas/result-1.json").is_file()


def test_a_file_that_is_not_shipped_is_an_incomplete_installation():
    with pytest.raises(EnvironmentProblem, match=r"Models/nothing\.json") as caught:
        resource_path("Models/nothing.json")
    assert "Install REACTKD again" in caught.value.advice


@pytest.mark.parametrize(
    "resources", ["Resources", "REACTKDLib/Resources"], ids=["beside", "inside"]
)
def test_resources_are_found_beside_the_library_or_inside(resources, tmp_path):
    """Beside: source tree and the flat folder of the Extension Manager. Inside: pip."""
    library = tmp_path / "REACTKDLib"
    library.mkdir()
    for file in LIBRARY.glob("*.py"):
        shutil.copy(file, library)
    for name in (
        "Schemas/one.json",
        "Models/b/configs/metadata.json",
        "Models/a/configs/metadata.json",
    ):
        file = tmp_path / resources / name
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    (tmp_path / resources / "Models" / "no-package").mkdir()
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    expected = ["Schemas/one.json", "Models/a", "Models/b"]
    assert finished.stdout.splitlines() == [str(tmp_path / resources / name) for name in expected]
