"""The page: right places, right colours, words that fit, nothing about the patient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pydicom
import pytest
from report_cases import make_case, region

from REACTKDLib.dicom_output.page import (
    HEIGHT,
    PICTURES,
    WIDTH,
    draw_page,
    outlines,
    overlay,
    plain,
)
from REACTKDLib.dicom_output.planes import Plane, cut_planes, key_point
from REACTKDLib.dicom_output.source import CtSource
from REACTKDLib.geometry import Geometry

#: Patient axes turned about all three axes, three spacings, three sizes.
SIZES = {name: (width // 4, height // 4) for name, (_, _, width, height) in PICTURES.items()}


@pytest.fixture(scope="module")
def ball():
    """A source with a bright ball at a known place (LPS), labelled, attention peaking in it."""
    from phantoms import grid_around, voxel_centres_ras

    grid = grid_around((30.0, -20.0, 50.0), (41, 37, 29), (3.0, 3.4, 4.1), (11.0, -8.0, 17.0))
    centre_ras = np.array((42.0, -11.0, 63.0))
    distance = np.linalg.norm(voxel_centres_ras(grid) - centre_ras, axis=-1)
    hu = np.where(distance < 18, 150.0, 0.0).astype(np.float32)
    labels = (distance < 18).astype(np.uint8) * 3
    attention = np.exp(-((distance / 9) ** 2)).astype(np.float32)
    return CtSource((), grid, hu), attention, labels, centre_ras


def test_planes_meet_in_the_key_point(ball):
    source, attention, labels, centre_ras = ball
    point = np.array(key_point(attention, labels, source.geometry))
    assert np.linalg.norm(point * (-1, -1, 1) - centre_ras) < 3
    planes = {plane.name: plane for plane in cut_planes(source, attention, labels, SIZES)}
    for name, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        plane = planes[name]
        assert plane.position_mm == pytest.approx(centre_ras[axis], abs=3)
        assert plane.hu.shape == (SIZES[name][1], SIZES[name][0])
        # The regions stand in the middle of the picture, as large as they are.
        rows, columns = np.nonzero(plane.labels == 3)
        for place, size in ((rows, plane.hu.shape[0]), (columns, plane.hu.shape[1])):
            assert (place.min() + place.max()) / 2 == pytest.approx((size - 1) / 2, abs=3)
            extent = (np.ptp(place) + 1) * plane.mm_per_pixel
            assert extent == pytest.approx(36, abs=7)


def test_left_of_the_picture_is_the_right_of_the_patient():
    # One bright voxel at the patient's right, front and head end; labels all over.
    grid = Geometry((21, 21, 21), (5.0, 5.0, 5.0), (-50.0, -50.0, -50.0))
    hu = np.full((21, 21, 21), -1000, np.float32)
    hu[16:19, 2:5, 2:5] = 100
    labels = np.ones((21, 21, 21), np.uint8)
    attention = np.zeros((21, 21, 21), np.float32)
    attention[17, 3, 3] = 1
    planes = {p.name: p for p in cut_planes(CtSource((), grid, hu), attention, labels, SIZES)}
    sides = {"axial": (True, True), "coronal": (True, True), "sagittal": (True, True)}
    for name, (upper, left) in sides.items():
        rows, columns = np.nonzero(planes[name].hu > 0)
        height, width = planes[name].hu.shape
        assert (rows.mean() < height / 2) == upper and (columns.mean() < width / 2) == left


def flat(attention: np.ndarray, labels: np.ndarray) -> Plane:
    return Plane("axial", np.full(attention.shape, 40.0), attention, labels, 1.0, 0.0)


def test_colours_tell_for_from_against():
    attention = np.array([[1.0, 0.5, 0.0, -0.5, -1.0]])
    red, _, blue = np.moveaxis(overlay(flat(attention, np.zeros((1, 5), np.uint8)), 1.0), -1, 0)
    red, blue = red.astype(int)[0], blue.astype(int)[0]
    assert red[0] > blue[0] and red[1] > blue[1]
    assert red[2] == blue[2]  # the CT alone
    assert blue[3] > red[3] and blue[4] > red[4]


def test_outlines_follow_the_borders_and_leave_the_inside():
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 4:12] = 7
    picture = outlines(flat(np.zeros((20, 20)), labels), {7: (0.0, 1.0, 0.0)})
    green = (picture == (0, 255, 0)).all(axis=-1)
    assert green[5, 4:12].all() and green[14, 4:12].all() and green[5:15, 4].all()
    assert not green[8:12, 7:9].any() and not green[labels == 0].any()


@pytest.fixture
def planes():
    return [flat_plane(name, *size[2:]) for name, size in PICTURES.items()]


def flat_plane(name: str, width: int, height: int) -> Plane:
    zeros = np.zeros((height, width))
    return Plane(name, zeros, zeros, zeros.astype(np.uint8), 0.5, 12.0)


def test_banners(planes):
    page = draw_page(make_case(), planes)
    assert page.shape == (HEIGHT, WIDTH, 3)
    red, amber = page[5, WIDTH - 5], page[60, WIDTH - 5]
    assert red[0] > 2 * red[1] and amber[0] > 200 > amber[2]
    real = draw_page(dataclasses.replace(make_case(), simulated_model=False), planes)
    assert np.array_equal(real[5], page[5]) and not np.array_equal(real[60], page[60])


def test_long_texts_stay_in_their_column(planes):
    many = [region(number, "lesion", 1.5 - 0.1 * number) for number in range(1, 9)]
    long = "Überaus langer Titel einer Aufgabe, die niemand so nennen würde " * 3
    case = dataclasses.replace(make_case(*many), task_title=long)
    page, short = draw_page(case, planes), draw_page(make_case(*many), planes)
    assert (page[:, -20:] == short[:, -20:]).all()  # nothing runs over the right edge
    pictures = page[:, : PICTURES["sagittal"][0] + PICTURES["sagittal"][2]]
    assert (pictures == short[:, : pictures.shape[1]]).all()


def test_the_case_id_is_not_on_the_page(planes):
    other = dataclasses.replace(make_case(), case_id="somebody else")
    assert np.array_equal(draw_page(make_case(), planes), draw_page(other, planes))


def test_text_that_the_font_can_draw():
    assert plain("Größe \N{MINUS SIGN}3 “für” 68\N{NO-BREAK SPACE}%") == 'Grosse -3 "fur" 68 %'
    assert plain("肝") == "?"


def test_the_object_is_the_page(phantom_dicom):
    ds = pydicom.dcmread(phantom_dicom / "page.dcm")
    assert ds.pixel_array.shape == (HEIGHT, WIDTH, 3)
    assert (ds.PhotometricInterpretation, ds.BurnedInAnnotation) == ("RGB", "NO")
    left, top, width, height = PICTURES["axial"]
    assert ds.pixel_array[top : top + height, left : left + width].std() > 20
