"""The report of a case from the application: HTML and CSV, PDF by Qt, pictures of the views."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeRunner
from harness import Harness, installed

from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.model_package import load_package
from REACTKDLib.pipeline import RunOptions, no_progress
from REACTKDLib.types import RESEARCH_USE, CaseResult

TITLES = {"ct": "contrast CT", "pet_fdg": "FDG-PET"}


@pytest.fixture
def case(small_study, package_folder) -> CaseResult:
    made = FakeRunner()(small_study, load_package(package_folder), RunOptions(), no_progress)
    logits = {info.name: 0.0 for info in made.classes}
    shares = tuple(dataclasses.replace(s, logit_shares=logits) for s in made.shares)
    return dataclasses.replace(made, shares=shares)


@pytest.fixture
def windowed(monkeypatch) -> Iterator[Harness]:
    """A main window whose views can be drawn."""
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    with installed(main_window=True) as harness:
        import vtk

        if vtk.vtkRenderWindow().GetClassName() == "vtkOSOpenGLRenderWindow":
            pytest.skip("no off-screen OpenGL (EGL)")
        yield harness


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_the_suffix_says_what_is_written(slicer_harness, case, tmp_path):
    from REACTKDSlicer.report_files import save_report

    for name in ("a.html", "a.PDF", "a.csv"):
        (tmp_path / name).write_text("an earlier file")
        save_report(case, TITLES, tmp_path / name)
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "contrast CT, FDG-PET" in html
    assert "<img" not in html  # there is no main window
    assert (tmp_path / "a.PDF").read_bytes().startswith(b"%PDF-")
    rows = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["id", "liver", "lesion"]
    with pytest.raises(OptionError, match=r"'a\.docx'"):
        save_report(case, TITLES, tmp_path / "a.docx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PDF", "a.csv", "a.html"]


def test_a_file_that_cannot_be_written_is_told(slicer_harness, case, tmp_path):
    from REACTKDSlicer.report_files import save_report

    (tmp_path / "file").write_text("")
    for suffix in ("html", "pdf", "csv"):
        with pytest.raises(OutputError, match="cannot be written"):
            save_report(case, TITLES, tmp_path / "file" / f"report.{suffix}")


def test_a_pdf_that_the_disk_has_no_room_for_is_told(slicer_harness, case, small_disk):
    from REACTKDSlicer.report_files import save_report

    (small_disk / "full").write_bytes(b"0" * 60_000)
    before = {p.name for p in small_disk.iterdir()}
    with pytest.raises(OutputError, match="cannot be written"):
        save_report(case, TITLES, small_disk / "report.pdf")
    assert {p.name for p in small_disk.iterdir()} == before


def test_the_pdf_has_text_and_its_use_on_every_page(slicer_harness, case, tmp_path):
    from REACTKDSlicer.report_files import save_report

    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    many = tuple(dataclasses.replace(r, name=f"Region {r.id} " * 300) for r in case.regions)
    for number, each in enumerate((case, dataclasses.replace(case, regions=many))):
        path = tmp_path / f"{number}.pdf"
        save_report(each, TITLES, path)
        pages = text_of(path).split("\f")[:-1]
        assert len(pages) > number
        for n, page in enumerate(pages, start=1):
            assert RESEARCH_USE in page
            assert re.search(rf"{n} ?/ ?{len(pages)}\s*$", page)
        assert "Most probable" in pages[0]
        assert "simulated images only" in pages[0]
    assert "+1.500" in text_of(tmp_path / "0.pdf")


def text_of(path: Path) -> str:
    command = ["pdftotext", "-layout", str(path), "-"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def test_there_are_no_pictures_without_a_main_window(slicer_harness):
    from REACTKDSlicer.view_pictures import view_pictures

    assert view_pictures() == {}


def test_every_view_of_the_layout_has_its_picture(windowed, case, tmp_path):
    import slicer
    from REACTKDSlicer.report_files import save_report
    from REACTKDSlicer.view_pictures import view_pictures

    manager = slicer.app.layoutManager()
    manager.sliceWidget("Red").mrmlSliceNode().SetSliceOffset(-12.5)
    pictures = view_pictures()
    assert len(pictures) == 4
    assert "Red view: Axial   I 12.5 mm" in pictures
    assert list(pictures)[-1] == "3D view"
    assert {size_of(png) for png in pictures.values()} == {(240, 160)}
    save_report(case, TITLES, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<img") == 4
    manager.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    assert list(view_pictures()) == ["Red view: Axial   I 12.5 mm"]


def test_texts_in_the_corners_are_left_out(windowed):
    import slicer
    from REACTKDSlicer.view_pictures import view_pictures

    before = view_pictures()
    red = slicer.app.layoutManager().sliceWidget("Red")
    texts = (red.overlayCornerAnnotation(), red.sliceView().cornerAnnotation())
    for number, annotation in enumerate(texts):
        annotation.SetText(number, "DOE^JANE")
    assert view_pictures() == before
    assert [annotation.GetVisibility() for annotation in texts] == [1, 1]
    texts[1].SetText(1, "")
    red.sliceView().forceRender()
