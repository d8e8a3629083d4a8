"""Regions against SimpleITK's statistics, k-d trees, loops and formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import CT_GRID, PHANTOM, Ellipsoid, Phantom, grid_around, voxel_centres_ras
from random_models import specification, specification_without_organ
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry, image_from_array
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.regions import Regions, longest_diameter, make_regions
from REACTKDLib.roi import Roi, locate_roi
from REACTKDLib.types import Study, Volume

FINE = grid_around((13.0, -9.0, 20.0), (76, 62, 40), (2.1, 2.3, 3.4), (8.0, -12.0, 17.0))
LIVER_VALUE, LESION_VALUE = 1, 2  # of the roles, in the order of the specification


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return spec_from_section(specification())


@pytest.fixture(scope="module")
def study() -> Study:
    return PHANTOM.study(FINE)


@pytest.fixture(scope="module")
def roi(study, spec) -> Roi:
    return locate_roi(study, spec)


@pytest.fixture(scope="module", params=["anatomical", "paper"])
def regions(request, roi, study, spec) -> Regions:
    return make_regions(roi, study.ct, spec, request.param)


@pytest.fixture(scope="module")
def anatomical(roi, study, spec) -> Regions:
    return make_regions(roi, study.ct, spec)


def make(labels: np.ndarray, geometry: Geometry, spec: ModelSpec, scheme="anatomical") -> Regions:
    """Regions of role labels on a grid that is the whole CT."""
    whole = Roi((0, 0, 0), geometry, labels, geometry)
    ct = Volume(np.zeros(labels.shape, np.int16), geometry, "CT")
    return make_regions(whole, ct, spec, scheme)


def ids(regions: Regions) -> list[str]:
    return [r.id for r in regions.regions]


def label_of(regions: Regions, region_id: str) -> int:
    return next(r.label for r in regions.regions if r.id == region_id)


def centres(geometry: Geometry, mask: np.ndarray) -> np.ndarray:
    return voxel_centres_ras(geometry)[mask]


def test_volume_centroid_and_hu_are_simpleitks(regions, study, roi):
    labels = image_from_array(regions.labels, regions.geometry)
    ct = image_from_array(study.ct.array[roi.slices], regions.geometry)
    shape, intensity = (
        sitk.LabelShapeStatisticsImageFilter(),
        sitk.LabelIntensityStatisticsImageFilter(),
    )
    shape.Execute(labels)
    intensity.Execute(labels, ct)
    assert set(shape.GetLabels()) == {r.label for r in regions.regions}
    for region in regions.regions:
        n = shape.GetNumberOfPixels(region.label)
        centroid = np.array(shape.GetCentroid(region.label)) * (-1, -1, 1)
        sample_sd = intensity.GetStandardDeviation(region.label)  # over n - 1
        assert region.volume_ml == pytest.approx(shape.GetPhysicalSize(region.label) / 1000)
        assert np.allclose(region.centroid_ras, centroid, atol=1e-6)
        assert region.mean_hu == pytest.approx(intensity.GetMean(region.label), rel=1e-5)
        assert region.sd_hu == pytest.approx(sample_sd * np.sqrt((n - 1) / n), rel=1e-4)


def test_lesions_have_the_volume_place_and_diameter_of_the_phantoms(anatomical):
    for number, truth in enumerate(PHANTOM.lesions, start=1):
        region = anatomical.regions[number - 1]
        assert (region.id, region.name, region.kind) == (
            f"lesion-{number}",
            f"Lesion {number}",
            "lesion",
        )
        assert region.volume_ml == pytest.approx(truth.volume_ml, rel=0.03)
        assert np.allclose(region.centroid_ras, truth.centre_ras, atol=0.4)
        # A voxel on either side may be in or out.
        assert region.longest_diameter_mm == pytest.approx(2 * max(truth.radii_mm), abs=2.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_longest_diameter_of_a_long_ellipsoid_on_an_oblique_grid(axis):
    radii = [9.0, 9.0, 9.0]
    radii[axis] = 34.0
    grid = grid_around((4, 5, 6), (60, 52, 40), (1.5, 1.7, 2.4), (20, -25, 35))
    mask = Ellipsoid((3.0, 6.0, 5.0), tuple(radii)).level(voxel_centres_ras(grid)) <= 1
    assert longest_diameter(mask, grid) == pytest.approx(68, abs=2.0)


def test_longest_diameter_of_any_mask_is_that_of_all_pairs_of_face_centres():
    rng = np.random.default_rng(1)
    grid = grid_around((4, 5, 6), (7, 6, 5), (1.5, 1.7, 2.4), (20, -25, 35))
    for _ in range(5):
        mask = rng.random(grid.array_shape) < 0.06
        k, j, i = np.nonzero(mask)
        voxels = np.stack([i, j, k], axis=1)
        faces = np.concatenate([voxels + 0.5 * s * np.eye(3)[a] for a in range(3) for s in (-1, 1)])
        assert longest_diameter(mask, grid) == pytest.approx(pdist(grid.ras_from_ijk(faces)).max())


def test_one_voxel_is_as_long_as_its_longest_side():
    mask = np.zeros((4, 5, 6), bool)
    mask[2, 3, 1] = True
    grid = grid_around((0, 0, 0), (6, 5, 4), (1.5, 1.7, 2.4), (20, -25, 35))
    assert longest_diameter(mask, grid) == pytest.approx(2.4)


def test_anatomical_regions_are_lesions_rims_and_eight_parts(anatomical):
    sides = itertools.product(
        ("right", "left"), ("superior", "inferior"), ("anterior", "posterior")
    )
    parts = ["parenchyma-" + "-".join(names) for names in sides]
    assert ids(anatomical) == ["lesion-1", "lesion-2", "rim-1", "rim-2", *parts]
    assert [r.longest_diameter_mm is None for r in anatomical.regions] == [False] * 2 + [True] * 10


def test_regions_partition_the_organ_with_its_lesions(regions, roi):
    assert np.array_equal(regions.labels > 0, roi.labels > 0)
    assert not regions.labels.flags.writeable


def test_rims_are_all_organ_within_10_mm_of_a_lesion(anatomical, roi):
    lesion = np.isin(anatomical.labels, [1, 2])
    rim = np.isin(anatomical.labels, [label_of(anatomical, f"rim-{n}") for n in (1, 2)])
    organ = (roi.labels == LIVER_VALUE) & ~lesion
    tree = cKDTree(centres(roi.geometry, lesion))
    distance = tree.query(centres(roi.geometry, organ))[0]
    sure = np.abs(distance - 10) > 1e-3
    assert np.array_equal(rim[organ][sure], distance[sure] <= 10)
    assert not rim[~organ].any()


def test_each_rim_voxel_belongs_to_its_nearest_lesion(spec):
    touching = Phantom(
        lesions=(
            Ellipsoid((30.0, -12.0, 24.0), (14.0, 14.0, 14.0)),
            Ellipsoid((-4.0, -6.0, 20.0), (11.0, 11.0, 11.0)),
        )
    )
    study = touching.study(FINE)
    roi = locate_roi(study, spec)
    regions = make_regions(roi, study.ct, spec)
    distances = []
    rims = [regions.labels == label_of(regions, f"rim-{n}") for n in (1, 2)]
    either = rims[0] | rims[1]
    for n in (1, 2):
        tree = cKDTree(centres(roi.geometry, regions.labels == label_of(regions, f"lesion-{n}")))
        distances.append(tree.query(centres(roi.geometry, either))[0])
    first, second = distances
    contested = (first <= 10) & (second <= 10) & (np.abs(first - second) > 1e-3)
    assert contested.sum() > 100  # the rims do meet
    assert np.array_equal(rims[0][either][contested], (first < second)[contested])


def test_a_rim_stays_inside_the_organ(spec):
    """A lesion at the margin has a rim on the organ's side only, and none outside the organ."""
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:, :, 4:] = LIVER_VALUE
    labels[5:8, 5:8, 3:6] = LESION_VALUE
    grid = Geometry((12, 12, 12), (4, 4, 4), (0, 0, 0))
    regions = make(labels, grid, spec)
    rim = regions.labels == label_of(regions, "rim-1")
    assert rim.any()
    assert (labels[rim] == LIVER_VALUE).all()


def test_a_lesion_far_from_the_organ_has_no_rim(spec):
    labels = np.zeros((12, 12, 20), np.uint8)
    labels[:, :, :8] = LIVER_VALUE
    labels[5:8, 5:8, 15:18] = LESION_VALUE
    regions = make(labels, Geometry((20, 12, 12), (4, 4, 4), (0, 0, 0)), spec)
    assert "lesion-1" in ids(regions)
    assert "rim-1" not in ids(regions)


def test_parts_of_the_parenchyma_lie_where_their_names_say(anatomical):
    where = {
        name: centres(anatomical.geometry, anatomical.labels == region.label)
        for region in anatomical.regions
        if region.kind == "parenchyma"
        for name in [tuple(region.id.split("-")[1:])]
    }
    assert len(where) == 8
    assert np.min([p[:, 0].min() for n, p in where.items() if n[0] == "right"]) > np.max(
        [p[:, 0].max() for n, p in where.items() if n[0] == "left"]
    )
    for side in ("right", "left"):
        upper = [p[:, 2].min() for n, p in where.items() if n[:2] == (side, "superior")]
        lower = [p[:, 2].max() for n, p in where.items() if n[:2] == (side, "inferior")]
        assert min(upper) > max(lower)
        for level in ("superior", "inferior"):
            front = where[side, level, "anterior"][:, 1].min()
            assert front > where[side, level, "posterior"][:, 1].max()


def test_parts_of_the_parenchyma_are_about_equal_and_of_one_piece(anatomical):
    parts = [r for r in anatomical.regions if r.kind == "parenchyma"]
    volumes = [r.volume_ml for r in parts]
    assert max(volumes) / min(volumes) < 1.03
    for part in parts:
        mask = sitk.GetImageFromArray((anatomical.labels == part.label).astype(np.uint8))
        pieces = sitk.GetArrayFromImage(sitk.RelabelComponent(sitk.ConnectedComponent(mask, True)))
        assert (pieces == 1).sum() > 0.95 * (pieces > 0).sum()


def test_a_second_run_gives_the_same_regions(anatomical, roi, study, spec):
    again = make_regions(roi, study.ct, spec)
    assert np.array_equal(again.labels, anatomical.labels)
    assert again.regions == anatomical.regions


def test_paper_scheme_is_the_organ_and_each_lesion(roi, study, spec):
    regions = make_regions(roi, study.ct, spec, "paper")
    assert ids(regions) == ["lesion-1", "lesion-2", "liver"]
    assert [r.kind for r in regions.regions] == ["lesion", "lesion", "organ"]
    organ = PHANTOM.liver.volume_ml - sum(lesion.volume_ml for lesion in PHANTOM.lesions)
    assert regions.regions[2].volume_ml == pytest.approx(organ, rel=0.02)


@pytest.mark.parametrize("scheme", ["anatomical", "paper"])
def test_without_an_organ_role_there_are_only_lesions_and_rims(scheme):
    spec = spec_from_section(specification_without_organ())
    labels = (PHANTOM.labels(voxel_centres_ras(CT_GRID)) == LESION_VALUE).astype(np.uint8)
    regions = make(labels, CT_GRID, spec, scheme)
    expected = ["lesion-1", "lesion-2"] + ["rim-1", "rim-2"] * (scheme == "anatomical")
    assert ids(regions) == expected


def test_lesions_are_numbered_from_the_largest_and_equal_ones_by_position(spec):
    labels = np.full((20, 20, 20), LIVER_VALUE, np.uint8)
    grid = Geometry((20, 20, 20), (5, 5, 5), (0, 0, 0))
    labels[2:4, 2:4, 2:4] = LESION_VALUE
    labels[14:17, 14:17, 14:17] = LESION_VALUE
    labels[2:4, 2:4, 15:17] = LESION_VALUE
    regions = make(labels, grid, spec)
    assert [round(r.volume_ml, 3) for r in regions.regions[:3]] == [3.375, 1.0, 1.0]
    # LPS x 75 and 10 mm are RAS -77.5 and -12.5: from left to right.
    assert [r.centroid_ras[0] for r in regions.regions[:3]] == pytest.approx([-75, -77.5, -12.5])


def test_lesions_that_share_a_corner_are_one(spec):
    labels = np.full((8, 8, 8), LIVER_VALUE, np.uint8)
    labels[2:4, 2:4, 2:4] = LESION_VALUE
    labels[4:6, 4:6, 4:6] = LESION_VALUE
    regions = make(labels, Geometry((8, 8, 8), (5, 5, 5), (0, 0, 0)), spec)
    assert [r.id for r in regions.regions if r.kind == "lesion"] == ["lesion-1"]


def test_small_lesions_stay_in_the_organ_with_a_notice(spec):
    labels = np.full((10, 10, 10), LIVER_VALUE, np.uint8)
    labels[2:5, 2:5, 2:5] = LESION_VALUE  # 27 voxels of 8 ul: 0.216 ml
    labels[7, 7, 7] = labels[7, 2, 7] = LESION_VALUE
    regions = make(labels, Geometry((10, 10, 10), (2, 2, 2), (0, 0, 0)), spec)
    assert [r.id for r in regions.regions if r.kind == "lesion"] == ["lesion-1"]
    assert regions.labels[7, 7, 7] > 0
    assert regions.regions[regions.labels[7, 7, 7] - 1].kind in ("parenchyma", "rim")
    assert [(n.code, n.severity) for n in regions.notices] == [("small_lesions", "info")]
    assert "2 lesion parts below 0.1 ml" in regions.notices[0].text


def test_no_lesion_is_a_case_of_its_own_with_a_notice(spec):
    labels = np.full((10, 10, 10), LIVER_VALUE, np.uint8)
    regions = make(labels, Geometry((10, 10, 10), (4, 4, 4), (0, 0, 0)), spec)
    assert {r.kind for r in regions.regions} == {"parenchyma"}
    assert [(n.code, n.severity) for n in regions.notices] == [("no_lesion", "warning")]


def test_an_organ_of_one_slice_has_fewer_parts_and_loses_no_voxel(spec):
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4] = LIVER_VALUE
    regions = make(labels, Geometry((9, 9, 9), (4, 4, 4), (0, 0, 0)), spec)
    assert np.array_equal(regions.labels > 0, labels > 0)
    assert 1 <= len(regions.regions) < 8
    assert sum(r.volume_ml for r in regions.regions) == pytest.approx(81 * 0.064)


def many_lesions(count: int) -> tuple[np.ndarray, Geometry]:
    labels = np.full((12, 12, 12), LIVER_VALUE, np.uint8)
    places = list(itertools.product(range(0, 12, 2), repeat=3))[:count]
    for place in places:
        labels[place] = LESION_VALUE
    return labels, Geometry((12, 12, 12), (5, 5, 5), (0, 0, 0))


def test_a_hundred_lesions_are_divided(spec):
    regions = make(*many_lesions(100), spec)
    assert sum(r.kind == "lesion" for r in regions.regions) == 100
    assert len({r.label for r in regions.regions}) == len(regions.regions)


def test_more_than_a_hundred_lesions_are_refused(spec):
    with pytest.raises(InputError, match="101 separate lesions") as caught:
        make(*many_lesions(101), spec)
    assert caught.value.advice


def test_an_unknown_scheme_is_refused_with_the_known_ones(roi, study, spec):
    with pytest.raises(OptionError, match="'couinaud'") as caught:
        make_regions(roi, study.ct, spec, "couinaud")
    assert "anatomical" in caught.value.advice


def test_contact_areas_are_those_of_common_faces(spec):
    rng = np.random.default_rng(2)
    grid = Geometry((9, 8, 7), (2.0, 3.0, 7.0), (0, 0, 0))
    labels = np.full(grid.array_shape, LIVER_VALUE, np.uint8)
    labels[1:4, 1:5, 2:5] = LESION_VALUE
    labels[rng.random(labels.shape) < 0.1] = 0
    regions = make(labels, grid, spec)
    expected = np.zeros_like(regions.contact_area_mm2)
    steps = {(1, 0, 0): 2.0 * 3.0, (0, 1, 0): 2.0 * 7.0, (0, 0, 1): 3.0 * 7.0}  # (k, j, i): mm^2
    for voxel in np.ndindex(labels.shape):
        for step, area in steps.items():
            other = tuple(np.add(voxel, step))
            if all(n < size for n, size in zip(other, labels.shape, strict=True)):
                a, b = regions.labels[voxel], regions.labels[other]
                if a and b and a != b:
                    expected[a - 1, b - 1] += area
                    expected[b - 1, a - 1] += area
    assert expected.sum() > 0
    assert np.allclose(regions.contact_area_mm2, expected)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_storage_order_does_not_change_regions(order, anatomical, study, spec):
    """The same voxels with permuted and reversed axes: same regions at the same points."""

    def stored(image: sitk.Image) -> Volume:
        turned = sitk.Flip(sitk.PermuteAxes(image, order), (True, False, True))
        return Volume(
            sitk.GetArrayFromImage(turned),
            Geometry(
                turned.GetSize(), turned.GetSpacing(), turned.GetOrigin(), turned.GetDirection()
            ),
        )

    ct = stored(image_from_array(study.ct.array, study.ct.geometry))
    labels = stored(image_from_array(study.segmentation.labels, study.segmentation.geometry))
    segments = study.segmentation.segments
    other = Study({"ct": ct}, type(study.segmentation)(labels.array, labels.geometry, segments))
    regions = make_regions(locate_roi(other, spec), ct, spec)
    for a, b in zip(regions.regions, anatomical.regions, strict=True):
        assert (a.id, a.label) == (b.id, b.label)
        assert a.volume_ml == pytest.approx(b.volume_ml, rel=1e-9)
        assert np.allclose(a.centroid_ras, b.centroid_ras, atol=1e-6)
