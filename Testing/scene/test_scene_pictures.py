"""Pictures show what the scene holds, where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from REACTKDSlicer.drawing import Label, with_labels
from REACTKDSlicer.pictures import draw_pictures
from REACTKDSlicer.scene_command import PICTURES
from synthetic_case import ATTENTION_PEAK_RAS

from REACTKDLib.types import RESEARCH_USE


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
        assert pictures[name].shape == (300, 300, 3)
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


def test_edges_and_outlines_are_seen_in_slices(viewed, pictures):
    _, views, nodes = viewed
    for node in (nodes.regions, nodes.edges, nodes.glyphs):
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
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
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


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal", "3d"])
def test_pictures_are_as_they_were_looked_at(pictures, name):
    """``REACTKD_NEW_PICTURES=1`` keeps the pictures as they are now: look at every one of them."""
    from PIL import Image

    file = Path(__file__).parent / "golden" / f"{name}.png"
    if os.environ.get("REACTKD_NEW_PICTURES"):
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pictures[name]).save(file)
    golden = np.asarray(Image.open(file).convert("RGB"))
    assert golden.shape == pictures[name].shape
    difference = np.abs(blurred(golden) - blurred(pictures[name]))
    assert difference.mean() < 2
    assert np.percentile(difference, 99.5) < 40
