"""Simulated cases as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from REACTKDLib.errors import OutputError
from REACTKDLib.geometry import geometry_from_image
from REACTKDLib.simulation import CaseParameters, Scanner, SimulatedCase, simulate_case, write_case


@pytest.fixture(scope="module")
def case() -> SimulatedCase:
    scanner = Scanner(spacing_mm=(6.0, 5.0, 8.0), tilt_deg=(4.0, 0.0, -7.0))
    return simulate_case(CaseParameters(scanner=scanner), 5)


def test_files_read_back_as_written_and_say_simulated(case: SimulatedCase, tmp_path: Path) -> None:
    paths = write_case(case, tmp_path / "new" / "patient")
    assert sorted(paths) == [
        "ct", "lesion_ids", "pet_acetate", "pet_fdg", "rim_ids", "segmentation", "truth",
    ]  # fmt: skip
    assert sorted(paths.values()) == sorted((tmp_path / "new" / "patient").iterdir())
    assert all(path.name.startswith("simulated_") for path in paths.values())
    stored = {"ct": case.ct, **case.pet, "lesion_ids": case.truth.lesion_ids}
    for name, volume in stored.items():
        image = SimpleITK.ReadImage(str(paths[name]))
        assert np.array_equal(SimpleITK.GetArrayFromImage(image), volume.array)
        assert geometry_from_image(image).same_grid(volume.geometry)
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(paths["segmentation"])))
    assert np.array_equal(labels, case.segmentation.labels)
    truth = json.loads(paths["truth"].read_text(encoding="utf-8"))
    assert truth["simulated"] is True
    assert truth["grade"] == case.truth.grade
    assert truth["lesions"][0]["centre_ras"] == list(case.truth.lesions[0].centre_ras)
    assert truth["seed"] == 5


def test_a_folder_with_files_is_never_touched(case: SimulatedCase, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_case(case, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_failed_write_leaves_nothing(
    case: SimulatedCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dumps", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_case(case, tmp_path / "patient")
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_an_output_error(case: SimulatedCase, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_case(case, tmp_path / "file" / "patient")
