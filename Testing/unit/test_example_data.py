"""The download of the real cases, without a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from REACTKDLib import example_data
from REACTKDLib.errors import EnvironmentProblem, OutputError


def test_the_cache_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("REACTKD_CACHE", str(tmp_path / "cache"))
    assert example_data.cache_folder() == tmp_path / "cache"


def test_a_cached_download_is_used_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv("REACTKD_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / f"{example_data.PACKAGE}-{example_data.VERSION}"
    folder.mkdir()
    cases = example_data.fetch_example_cases()
    assert {case.ct.parent for case in cases} == {folder}
    assert any("dicom" in case.name for case in cases)


def test_without_a_network_the_reason_is_said_and_nothing_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("REACTKD_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    with pytest.raises(EnvironmentProblem, match="could not fetch") as caught:
        example_data.fetch_example_cases()
    assert "proxy" in caught.value.advice
    assert list(tmp_path.iterdir()) == []


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_with_another_digest_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "a.tar.gz", {"example_ct.nii.gz": b"other"})
    with pytest.raises(EnvironmentProblem, match="SHA-256"):
        example_data.unpack(path, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_only_the_wanted_files_are_unpacked(monkeypatch, tmp_path):

    inside = f"{example_data.PACKAGE}-{example_data.VERSION}/tests/reference_files/"
    path = archive(
        tmp_path / "a.tar.gz",
        {
            inside + "example_ct.nii.gz": b"ct",
            inside + "example_ct_dicom/0001.dcm": b"slice",
            inside + "example_ct_dicom/../../../escaped.dcm": b"no",
            inside + "other.nii.gz": b"no",
            "setup.py": b"no",
            "/tmp/absolute": b"no",
        },
    )
    monkeypatch.setattr(example_data, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    example_data.unpack(path, tmp_path / "files")
    found = {
        p.relative_to(tmp_path / "files").as_posix() for p in (tmp_path / "files").rglob("*.*")
    }
    assert found == {"example_ct.nii.gz", "example_ct_dicom/0001.dcm"}
    assert not list(tmp_path.rglob("escaped*"))


def test_an_earlier_demo_is_kept(tmp_path):
    from REACTKDLib.demo import demo_cases

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        demo_cases(tmp_path, real=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
