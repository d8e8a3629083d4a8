"""RTSTRUCT: contours become voxels at the right place, of the right volume."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_objects import FRAME_UID, item, save, write_rtstruct
from images import LIVER_RULES, rotation, write_dicom, write_image
from skimage.draw import polygon2mask

from REACTKDLib.dicom_input.contours import even_odd, read_contours
from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import StudyFiles, read_study

#: Oblique and anisotropic, large enough for volumes.
CT = Geometry(
    (64, 56, 30), (1.1, 1.3, 2.5), (-40.0, 20.0, -70.0),
    tuple(float(v) for v in rotation(25, -12).ravel()),
)  # fmt: skip
CENTRE = CT.lps_from_ijk(np.array([31.3, 27.8, 14.6]))


def ellipses(radii_mm, depths_mm, axes=None, centre=CENTRE, points=120):
    """Outlines of an ellipsoid in planes at ``depths_mm`` from its centre, along ``axes``."""
    axes = CT.direction_matrix if axes is None else axes
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    outlines = []
    for depth in depths_mm:
        size = np.sqrt(max(1 - (depth / radii_mm[2]) ** 2, 0))
        if size > 0.02:
            flat = [radii_mm[0] * size * np.cos(angle), radii_mm[1] * size * np.sin(angle)]
            local = np.stack([*flat, np.full(points, depth)], -1)
            outlines.append(centre + local @ axes.T)
    return outlines


def on_slices(step=CT.spacing_mm[2], offset=0.0):
    """Depths from the centre at which slices of the CT lie (every ``step`` mm)."""
    first = CT.ijk_from_lps(CENTRE)[2] * CT.spacing_mm[2]
    return np.arange(0, 200, step) - first + offset


def read(tmp_path, regions, **options):
    return read_contours(write_rtstruct(tmp_path / "rt.dcm", regions, **options), CT)


def volume_mm3(structure) -> float:
    return structure.mask.sum() * structure.geometry.voxel_volume_ml * 1000


def centroid(structure) -> np.ndarray:
    k, j, i = np.nonzero(structure.mask)
    return structure.geometry.lps_from_ijk(np.stack([i, j, k], -1)).mean(axis=0)


@pytest.mark.parametrize("radii", [(22.0, 22.0, 22.0), (26.0, 15.0, 20.0)])
def test_volume_and_place_of_ellipsoids(tmp_path, radii):
    (found,) = read(tmp_path, [("Liver", ellipses(radii, on_slices()))])
    assert found.frame == CT  # drawn on the slices: on the CT's own grid
    assert volume_mm3(found) == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.01)
    assert np.abs(centroid(found) - CENTRE).max() < 0.2
    assert (found.number, found.name) == (1, "Liver")


@pytest.mark.parametrize("how", ["inner contour", "same direction", "keyhole"])
def test_a_ring(tmp_path, how):
    outer = ellipses((24.0, 18.0, 30.0), on_slices())
    inner = ellipses((12.0, 9.0, 15.0), on_slices())
    by_depth = {round(float(CT.ijk_from_lps(o)[:, 2].mean())): o for o in outer}
    contours = []
    for hole in inner:
        around = by_depth.pop(round(float(CT.ijk_from_lps(hole)[:, 2].mean())))
        if how == "keyhole":
            contours.append(np.concatenate([around, around[:1], hole[::-1], hole[-1:]]))
        else:
            contours += [around, hole if how == "same direction" else hole[::-1]]
    contours += by_depth.values()
    kind = "CLOSEDPLANAR_XOR" if how == "inner contour" else "CLOSED_PLANAR"
    (found,) = read(tmp_path, [("shell", contours)], kind=kind)
    expected = 4 / 3 * np.pi * (24 * 18 * 30 - 12 * 9 * 15)
    assert volume_mm3(found) == pytest.approx(expected, rel=0.01)
    k, j, i = np.rint(found.geometry.ijk_from_lps(CENTRE)).astype(int)[::-1]
    assert found.mask[k, j, i] == 0


@pytest.mark.parametrize("step", [1.25, 5.0, 3.0])
def test_planes_between_the_slices_get_a_grid_of_their_own(tmp_path, step):
    depths = on_slices(step, offset=0.9)
    (found,) = read(tmp_path, [("Liver", ellipses((22.0, 17.0, 25.0), depths))])
    assert found.frame.spacing_mm == pytest.approx((*CT.spacing_mm[:2], step), abs=1e-3)
    assert volume_mm3(found) == pytest.approx(4 / 3 * np.pi * 22 * 17 * 25, rel=0.02)
    assert np.abs(centroid(found) - CENTRE).max() < 0.4


@pytest.mark.parametrize("angles", [(0.0, 60.0), (70.0, 35.0)])
def test_oblique_planes(tmp_path, angles):
    axes = rotation(*angles)
    contours = ellipses((22.0, 16.0, 24.0), np.arange(-23, 24, 2.0), axes)
    (found,) = read(tmp_path, [("Liver", contours)])
    assert abs(found.geometry.direction_matrix[:, 2] @ axes[:, 2]) == pytest.approx(1, abs=1e-5)
    assert volume_mm3(found) == pytest.approx(4 / 3 * np.pi * 22 * 16 * 24, rel=0.015)
    assert np.abs(centroid(found) - CENTRE).max() < 0.2


def test_two_parts_with_a_gap(tmp_path):
    depths = on_slices()
    contours = [c for c in ellipses((20.0, 20.0, 30.0), depths)
                if abs(CT.ijk_from_lps(c)[0, 2] - 14.6) > 4]  # fmt: skip
    (found,) = read(tmp_path, [("Liver", contours)])
    assert (~found.mask.any(axis=(1, 2))).sum() == 8
    assert found.frame == CT


def test_the_parity_rule_agrees_with_scikit_image():
    rng = np.random.default_rng(3)
    for _ in range(30):
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        points = 20 + np.stack([np.cos(angle), np.sin(angle)], -1) * rng.uniform(
            3, 17, (len(angle), 1)
        )
        mine = even_odd([points], (40, 42)).astype(bool)
        other = polygon2mask((40, 42), points[:, ::-1])
        assert np.array_equal(mine, other)


def test_corners_on_pixel_centres_count_once():
    square = np.array([[2, 3], [6, 3], [6, 8], [2, 8]], float)
    assert even_odd([square], (12, 12)).sum() == 4 * 5
    tile = even_odd([square, square + np.array([4, 0])], (12, 14))  # neighbours share an edge
    assert tile.sum() == 2 * 4 * 5
    assert even_odd([square - [4, 5]], (12, 12)).sum() == 2 * 3  # beyond the image
    assert even_odd([square, square], (12, 12)).sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [c[0] + 0.9 * CT.direction_matrix[:, 2], *c[2:]], "not evenly spaced"),
        (lambda c: [c[5] + 0.9 * CT.direction_matrix[:, 2]], "one plane, which is no slice"),
        (lambda c: [*c[:5], c[5] + np.linspace(0, 3, 120)[:, None] * CT.direction_matrix[:, 2]],
         "not flat, or not parallel"),
        (lambda c: [c[0][:2]], "has 2 points"),
        (lambda c: [*c, c[0] + [1e7, 0, 0]], "claims"),
    ],
)  # fmt: skip
def test_contours_that_have_no_volume(tmp_path, change, message):
    step = 2.5 if message != "not evenly spaced" else 1.7
    contours = ellipses((20.0, 20.0, 30.0), on_slices(step))
    with pytest.raises(InputError, match=message):
        read(tmp_path, [("Liver", change(contours))])


def test_points_are_passed_over(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", [("Liver", ellipses((20.0,) * 3, on_slices()))])
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence.append(item(ROINumber=9, ROIName="isocentre"))
    dataset.ROIContourSequence.append(
        item(ReferencedROINumber=9, ContourSequence=[
            item(ContourGeometricType="POINT", ContourData=["1", "2", "3"])])
    )  # fmt: skip
    assert [s.name for s in read_contours(save(dataset, path), CT)] == ["Liver"]
    dataset.ROIContourSequence = dataset.ROIContourSequence[-1:]
    with pytest.raises(InputError, match="no closed contours"):
        read_contours(save(dataset, path), CT)


def test_as_segmentation_of_a_study(tmp_path):
    """Liver and lesion overlap: the lesion lies over the liver; roles by name and by code."""
    array = np.zeros(CT.array_shape, np.int16)
    array[:] = np.arange(30)[:, None, None]
    write_dicom(tmp_path / "ct", array, CT, tags={"0020|0052": FRAME_UID})
    lesion = CT.lps_from_ijk(np.array([36, 30, 16]))
    path = write_rtstruct(
        tmp_path / "rt.dcm",
        [
            ("Leber", ellipses((24.0, 20.0, 26.0), on_slices())),
            ("ROI-2", ellipses((8.0, 8.0, 8.0), np.arange(-3, 4) * 2.5, centre=lesion)),
        ],
        meanings={"ROI-2": "Mass", "Leber": "Liver"},
    )
    study = read_study(StudyFiles(tmp_path / "ct", (path,)), LIVER_RULES)
    labels = study.segmentation
    assert labels.geometry.same_grid(study.ct.geometry)
    assert [(s.label, s.name, s.role) for s in labels.segments] == [
        (1, "Leber", "liver"), (2, "ROI-2", "lesion"),
    ]  # fmt: skip
    voxel = CT.voxel_volume_ml
    assert (labels.labels == 2).sum() * voxel == pytest.approx(4 / 3 * np.pi * 0.512, rel=0.04)
    both = (labels.labels > 0).sum() * voxel
    assert both == pytest.approx(4 / 3 * np.pi * 24 * 20 * 26 / 1000, rel=0.01)
    assert study.sources[1].role == "segmentation"
    # On a CT that is no DICOM, the same voxels.
    nifti = write_image(tmp_path / "ct.nii.gz", array, CT)
    other = read_study(StudyFiles(nifti, (path,)), LIVER_RULES).segmentation
    assert np.array_equal(other.labels, labels.labels)
    assert other.geometry.same_grid(labels.geometry, 1e-2)


def test_regions_with_high_numbers_are_numbered_anew(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", [("Liver", ellipses((20.0,) * 3, on_slices()))])
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence[0].ROINumber = 4000
    dataset.ROIContourSequence[0].ReferencedROINumber = 4000
    assert [(s.number, s.name) for s in read_contours(save(dataset, path), CT)] == [(1, "Liver")]
