"""Pictures show what the scene holds, where it is."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_case import case_without_lesion, golden_case, golden_study
from REACTKDSlicer import pictures as pictures_module
from REACTKDSlicer.drawing import Label, with_header, with_labels, wrapped
from REACTKDSlicer.offscreen import offscreen_context, offscreen_views
from REACTKDSlicer.pictures import draw_pictures
from REACTKDSlicer.run_nodes import ROLE_ATTRIBUTE, nodes_of, remove_run
from REACTKDSlicer.scene_command import PICTURES
from REACTKDSlicer.scene_nodes import show_case
from synthetic_case import ATTENTION_PEAK_RAS

from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.types import RESEARCH_USE, Notice, PredictionSet


@pytest.fixture(scope="module")
def pictures(viewed, case):
    context, views, nodes = viewed
    return draw_pictures(context, views, case, nodes)


def pixel_of(view, ras) -> np.ndarray:
    """Column and row (from the top) at which a slice view shows a RAS point."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.node.GetXYToRAS(), matrix)
    x, y, _, _ = matrix.MultiplyPoint((*ras, 1.0))
    return np.array([x, view.size[1] - 1 - y])


def changed_pixels(view, change, undo) -> np.ndarray:
    """(column, row) of the pixels that ``change`` changes, shape (n, 2)."""
    before = view.image().astype(int)
    change()
    after = view.image().astype(int)
    undo()
    rows, columns = np.nonzero(np.abs(after - before).max(axis=2) > 12)
    return np.stack([columns, rows], axis=1)


def test_all_pictures_are_drawn(pictures):
    assert tuple(pictures) == PICTURES
    for name in ("axial", "coronal", "sagittal", "3d"):
        height, width, _ = pictures[name].shape
        assert width == 300
        assert height > 300  # the view under its title and notices
        assert pictures[name].std() > 20
    height, width, _ = pictures["overview"].shape
    assert width > 600 and height > 600


def test_slices_go_through_the_most_attended_point(viewed, pictures, case):
    _, views, _ = viewed
    voxel = np.linalg.norm(case.attention.geometry.spacing_mm)
    for name, axis in (("Red", 2), ("Green", 1), ("Yellow", 0)):
        depth = views.slices[name].node.GetSliceToRAS().GetElement(axis, 3)
        assert depth == pytest.approx(ATTENTION_PEAK_RAS[axis], abs=voxel)


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_the_overlay_lies_on_the_lesion(viewed, pictures, name):
    _, views, _ = viewed
    view = views.slices[name]
    composite = view.logic.GetSliceCompositeNode()
    changed = changed_pixels(
        view,
        lambda: composite.SetForegroundOpacity(0.0),
        lambda: composite.SetForegroundOpacity(0.5),
    )
    expected = pixel_of(view, ATTENTION_PEAK_RAS)
    assert len(changed) > 500
    middle = (changed.min(axis=0) + changed.max(axis=0)) / 2
    assert middle == pytest.approx(expected, abs=6)


def test_the_lesion_s_centre_has_the_warm_end_of_the_colors(viewed, pictures):
    _, views, nodes = viewed
    view = views.slices["Red"]
    composite = view.logic.GetSliceCompositeNode()
    others = (nodes.regions, nodes.glyphs, nodes.edges, nodes.labels)
    for node in others:
        node.SetDisplayVisibility(False)
    composite.SetForegroundOpacity(1.0)
    image = view.image().astype(int)
    composite.SetForegroundOpacity(0.5)
    for node in others:
        node.SetDisplayVisibility(True)
    column, row = np.round(pixel_of(view, ATTENTION_PEAK_RAS)).astype(int)
    red, green, blue = image[row, column]
    assert red > 200 and green > 200 and blue < red  # pale yellow
    column, row = np.round(pixel_of(view, np.add(ATTENTION_PEAK_RAS, [26.0, 0, 0]))).astype(int)
    red, green, blue = image[row, column]
    assert red > green and blue > green  # violet


def test_patient_s_right_is_on_the_left_of_axial_and_coronal(viewed, pictures):
    _, views, _ = viewed
    for name in ("Red", "Green"):
        right = pixel_of(views.slices[name], np.add(ATTENTION_PEAK_RAS, [30.0, 0.0, 0.0]))
        left = pixel_of(views.slices[name], np.subtract(ATTENTION_PEAK_RAS, [30.0, 0.0, 0.0]))
        assert right[0] < left[0]
    top = pixel_of(views.slices["Green"], np.add(ATTENTION_PEAK_RAS, [0.0, 0.0, 30.0]))
    assert top[1] < pixel_of(views.slices["Green"], ATTENTION_PEAK_RAS)[1]


@pytest.mark.parametrize("part", ["regions", "glyphs", "edges", "labels"])
def test_every_part_is_seen_in_3d(viewed, pictures, part):
    _, views, nodes = viewed
    node = getattr(nodes, part)
    changed = changed_pixels(
        views.threed,
        lambda: node.SetDisplayVisibility(False),
        lambda: node.SetDisplayVisibility(True),
    )
    assert len(changed) > 100


def test_outlines_and_glyphs_are_seen_in_slices_and_edges_are_not(viewed, pictures):
    _, views, nodes = viewed
    assert not nodes.edges.GetDisplayNode().GetVisibility2D()
    for node in (nodes.regions, nodes.glyphs):
        changed = changed_pixels(
            views.slices["Red"],
            lambda node=node: node.SetDisplayVisibility(False),
            lambda node=node: node.SetDisplayVisibility(True),
        )
        assert len(changed) > 30


def test_the_legend_is_seen_in_slices(viewed, pictures):
    context, views, nodes = viewed
    legend = context.colors_logic.GetColorLegendDisplayNode(nodes.attention.GetDisplayNode())
    changed = changed_pixels(
        views.slices["Red"],
        lambda: legend.SetVisibility(False),
        lambda: legend.SetVisibility(True),
    )
    assert len(changed) > 200
    assert changed[:, 0].min() > 150  # in the right half


def test_pictures_are_the_same_from_run_to_run(viewed, pictures, case):
    context, views, nodes = viewed
    again = draw_pictures(context, views, case, nodes)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(again[name], picture, err_msg=name)


def test_a_long_line_is_broken_between_words():
    lines = wrapped("Model trained on simulated images only " * 4, 300, 15)
    assert len(lines) > 2
    assert " ".join(lines).split() == ("Model trained on simulated images only " * 4).split()
    picture = with_header(
        np.zeros((10, 300, 3), np.uint8), [Label(line, 0, 0, size=15) for line in lines], (0, 0, 0)
    )
    assert picture.shape[0] > 10 + 15 * len(lines)
    assert not picture[:, 290:].any()


def test_labels_change_a_copy_in_their_corner():
    image = np.full((120, 400, 3), 90, dtype=np.uint8)
    label = Label("<b>R</b> $x_1$ " + RESEARCH_USE, 0.0, 1.0, size=14, color=(255, 0, 0))
    labelled = with_labels(image, [label])
    assert (image == 90).all()
    rows, _ = np.nonzero((labelled != image).any(axis=2))
    assert rows.min() > 60
    assert (labelled[..., 0] > 200).sum() > 100


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("down", [0, 25, -25, 99])
def test_a_label_larger_than_the_picture_is_cut(x, down):
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    label = Label("a very long sentence " * 5, x, 0.5, down=down, size=30)
    labelled = with_labels(image, [label])
    assert labelled.shape == image.shape
    assert labelled.any() == (down < 40)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="EGL is Linux's")
def test_without_opengl_the_error_names_what_to_install():
    code = (
        "from REACTKDSlicer.offscreen import offscreen_context, offscreen_views\n"
        "from REACTKDLib.errors import EnvironmentProblem\n"
        "try:\n"
        "    with offscreen_views(offscreen_context(), (50, 50)):\n"
        "        print('drawn')\n"
        "except EnvironmentProblem as problem:\n"
        "    print(problem)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow",
        "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json",  # no OpenGL driver is found
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "No off-screen OpenGL" in run.stdout
    for package in ("libegl1", "libgl1-mesa-dri", "libgl1"):
        assert package in run.stdout
    assert run.stderr == ""


def blurred(picture: np.ndarray, cell: int = 6) -> np.ndarray:
    """Means over square cells: anti-aliasing and fonts differ between versions of Mesa."""
    height, width, _ = (n // cell * cell if n > 3 else n for n in picture.shape)
    cells = picture[:height, :width].astype(float)
    return cells.reshape(height // cell, cell, width // cell, cell, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def patient():
    return golden_study()


@pytest.fixture(scope="module")
def looked_at(patient):
    """Pictures of the product's own regions: with an answer, and without lesion and answer."""
    found = {}
    for prefix, case in (("", golden_case(patient)), ("abstains_", case_without_lesion(patient))):
        context = offscreen_context()
        try:
            with offscreen_views(context, (560, 560)) as views:
                nodes = show_case(context, case, patient.ct)
                for name, picture in draw_pictures(context, views, case, nodes).items():
                    found[prefix + name] = picture
        except EnvironmentProblem as problem:
            pytest.skip(f"no picture can be drawn here: {problem}")
    return found


GOLDEN = ("axial", "coronal", "sagittal", "3d", "abstains_overview")


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_are_as_they_were_looked_at(looked_at, name):
    """``REACTKD_NEW_PICTURES=1`` keeps the pictures as they are now: look at every one of them."""
    from PIL import Image

    file = Path(__file__).parent / "golden" / f"{name}.jpg"
    if os.environ.get("REACTKD_NEW_PICTURES"):
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(looked_at[name]).save(file, quality=85)
    golden = np.asarray(Image.open(file).convert("RGB"))
    assert golden.shape == looked_at[name].shape
    difference = np.abs(blurred(golden) - blurred(looked_at[name]))
    assert difference.mean() < 2
    assert np.percentile(difference, 99.5) < 40


def ink(picture, color) -> int:
    """Pixels of a colour, nearly."""
    return int((np.abs(picture.astype(int) - color).max(axis=2) < 40).sum())


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal", "3d"])
def test_every_picture_says_what_it_may_be_used_for(looked_at, patient, name):
    """In whole lines above the view, none of which is cut."""
    picture = looked_at[name]
    band = picture[: picture.shape[0] - 560]
    assert ink(band, (255, 196, 92)) > 300
    columns = np.nonzero((band != band[0, -1]).any(axis=(0, 2)))[0]
    assert columns.max() < picture.shape[1] - 10
    # As many bright pixels as the sentence alone has.
    alone = with_labels(np.zeros((40, 560, 3), np.uint8), [use_line()])
    assert ink(band, (255, 196, 92)) >= ink(alone, (255, 196, 92))


def use_line() -> Label:
    return Label(RESEARCH_USE, 0.0, 0.0, size=15, color=(255, 196, 92), bold=True)


def headers(monkeypatch, case, views_of) -> list[str]:
    """Texts of the header of the overview, in order, the bold ones with a star."""
    texts = []

    def remember(image, lines, color):
        lines = list(lines)
        texts.append([("*" if line.bold else "") + line.text for line in lines])
        return with_header(image, lines, color)

    monkeypatch.setattr(pictures_module, "with_header", remember)
    context, views, nodes = views_of
    draw_pictures(context, views, case, nodes)
    return texts[-1]


def test_an_abstaining_model_names_no_class_in_bold(monkeypatch, viewed, case):
    everything = PredictionSet(tuple(c.name for c in case.classes), 0.9)
    abstains = dataclasses.replace(case, prediction_set=everything)
    texts = headers(monkeypatch, abstains, viewed)
    bold = " ".join(text[1:] for text in texts if text.startswith("*"))
    assert bold == f"The model abstains: it gives no answer for this case. {RESEARCH_USE}"


def test_without_a_lesion_the_picture_says_so_first_and_no_class_is_bold(monkeypatch, viewed, case):
    notice = Notice("no_lesion", "warning", "No lesion was given.")
    texts = headers(monkeypatch, dataclasses.replace(case, notices=(notice,)), viewed)
    assert texts[1] == "*No lesion was given."
    assert [text for text in texts if text.startswith("*")] == [texts[1], f"*{RESEARCH_USE}"]


def test_nothing_uncertain_is_zero_percent(monkeypatch, viewed, case):
    sure = dataclasses.replace(
        case, probabilities={"well": 0.001, "moderate": 0.998, "poor": 0.001}
    )
    text = " ".join(headers(monkeypatch, sure, viewed)).replace("\N{NO-BREAK SPACE}", " ")
    assert "< 1 %" in text and "> 99 %" in text
    assert " 0 %" not in text and "100 %" not in text


@pytest.mark.parametrize("role", ["attention", "graph nodes", "graph edges"])
def test_legends_say_research_use_only_and_go_with_the_run(ct, case, role):
    context = offscreen_context()
    show_case(context, case, ct)
    node = next(
        n for n in nodes_of(context, case.case_id) if n.GetAttribute(ROLE_ATTRIBUTE) == role
    )
    legend = context.colors_logic.GetColorLegendDisplayNode(node.GetDisplayNode())
    assert legend.GetTitleText().splitlines()[-1] == "Research use only"
    remove_run(context, case.case_id)
    assert context.scene.GetNumberOfNodesByClass("vtkMRMLColorLegendDisplayNode") == 0


def test_the_slice_view_draws_research_use_only(viewed, pictures):
    """The legend's actor in the view, not only the node, has the words and is drawn."""
    _, views, _nodes = viewed
    view = views.slices["Red"]
    view.image()
    titles = []
    for renderer in view.window.GetRenderers():
        bars = [prop for prop in renderer.GetViewProps() if prop.IsA("vtkScalarBarActor")]
        titles += [bar.GetTitle() for bar in bars if bar.GetVisibility()]
    assert [title for title in titles if "Research use only" in title]
