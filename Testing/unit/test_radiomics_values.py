"""Values of radiomics: IBSI's phantom, PyRadiomics' baseline tables, a library as oracle."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from REACTKDLib.prognosis.radiomics import image_features
from REACTKDLib.prognosis.radiomics_formulas import cooccurrence, emphases
from REACTKDLib.prognosis.radiomics_settings import IMAGE_CLASSES, RadiomicsSettings
from REACTKDLib.prognosis.radiomics_shape import shape
from REACTKDLib.prognosis.radiomics_textures import DIRECTIONS, grey_levels, neighbours, runs

#: The digital phantom of the Image Biomarker Standardisation Initiative, (z, y, x), voxels of 2 mm;
#: 0 stands for the voxels outside the region of interest.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    dtype=float,
)

#: IBSI's reference values (three digits) of the features that PyRadiomics shares; matrices of pairs
#: and runs in 3-D, features averaged over the directions.
IBSI = {
    "firstorder": {
        "Mean": 2.15,
        "Variance": 3.05,
        "Skewness": 1.08,
        "Kurtosis": -0.355 + 3,  # IBSI subtracts 3
        "Median": 1,
        "Minimum": 1,
        "10Percentile": 1,
        "90Percentile": 4,
        "Maximum": 6,
        "InterquartileRange": 3,
        "Range": 5,
        "MeanAbsoluteDeviation": 1.55,
        "RobustMeanAbsoluteDeviation": 1.11,
        "Energy": 567,
        "RootMeanSquared": 2.77,
        "Entropy": 1.27,
        "Uniformity": 0.512,
    },
    "glcm": {
        "MaximumProbability": 0.503,
        "JointAverage": 2.14,
        "SumSquares": 3.10,
        "JointEntropy": 2.40,
        "DifferenceAverage": 1.43,
        "DifferenceVariance": 3.06,
        "DifferenceEntropy": 1.56,
        "SumAverage": 4.29,
        "SumEntropy": 1.92,
        "JointEnergy": 0.303,
        "Contrast": 5.32,
        "Id": 0.677,
        "Idn": 0.851,
        "Idm": 0.618,
        "Idmn": 0.898,
        "InverseVariance": 0.0604,
        "Correlation": 0.157,
        "Autocorrelation": 5.06,
        "ClusterTendency": 7.07,
        "ClusterShade": 16.6,
        "ClusterProminence": 145,
        "Imc1": -0.157,
        "Imc2": 0.520,
    },
    "glrlm": {
        "ShortRunEmphasis": 0.705,
        "LongRunEmphasis": 3.06,
        "LowGrayLevelRunEmphasis": 0.603,
        "HighGrayLevelRunEmphasis": 9.70,
        "ShortRunLowGrayLevelEmphasis": 0.352,
        "ShortRunHighGrayLevelEmphasis": 8.54,
        "LongRunLowGrayLevelEmphasis": 2.39,
        "LongRunHighGrayLevelEmphasis": 17.6,
        "GrayLevelNonUniformity": 21.8,
        "GrayLevelNonUniformityNormalized": 0.430,
        "RunLengthNonUniformity": 26.9,
        "RunLengthNonUniformityNormalized": 0.513,
        "RunPercentage": 0.680,
        "GrayLevelVariance": 3.46,
        "RunVariance": 0.574,
        "RunEntropy": 2.43,
    },
    "glszm": {
        "SmallAreaEmphasis": 0.255,
        "LargeAreaEmphasis": 550,
        "LowGrayLevelZoneEmphasis": 0.253,
        "HighGrayLevelZoneEmphasis": 15.6,
        "SmallAreaLowGrayLevelEmphasis": 0.0256,
        "SmallAreaHighGrayLevelEmphasis": 2.76,
        "LargeAreaLowGrayLevelEmphasis": 503,
        "LargeAreaHighGrayLevelEmphasis": 1490,
        "GrayLevelNonUniformity": 1.40,
        "GrayLevelNonUniformityNormalized": 0.280,
        "SizeZoneNonUniformity": 1,
        "SizeZoneNonUniformityNormalized": 0.200,
        "ZonePercentage": 0.0676,
        "GrayLevelVariance": 2.64,
        "ZoneVariance": 331,
        "ZoneEntropy": 2.32,
    },
    "gldm": {
        "SmallDependenceEmphasis": 0.0450,
        "LargeDependenceEmphasis": 109,
        "LowGrayLevelEmphasis": 0.693,
        "HighGrayLevelEmphasis": 7.66,
        "SmallDependenceLowGrayLevelEmphasis": 0.00963,
        "SmallDependenceHighGrayLevelEmphasis": 0.736,
        "LargeDependenceLowGrayLevelEmphasis": 102,
        "LargeDependenceHighGrayLevelEmphasis": 235,
        "GrayLevelNonUniformity": 37.9,
        "DependenceNonUniformity": 4.86,
        "DependenceNonUniformityNormalized": 0.0657,
        "GrayLevelVariance": 3.05,
        "DependenceVariance": 22.1,
        "DependenceEntropy": 4.40,
    },
    "ngtdm": {
        "Coarseness": 0.0296,
        "Contrast": 0.584,
        "Busyness": 6.54,
        "Complexity": 13.5,
        "Strength": 0.763,
    },
    "shape": {
        "MeshVolume": 556,
        "VoxelVolume": 592,
        "SurfaceArea": 388,
        "SurfaceVolumeRatio": 0.698,
        "Sphericity": 0.843,
        "Maximum3DDiameter": 13.1,
        # IBSI divides the covariance by 73, PyRadiomics by the 74 voxels.
        "MajorAxisLength": 11.4 * np.sqrt(73 / 74),
        "MinorAxisLength": 9.31 * np.sqrt(73 / 74),
        "LeastAxisLength": 8.54 * np.sqrt(73 / 74),
        "Elongation": 0.816,
        "Flatness": 0.749,
    },
}

#: IBSI's reference values of one matrix for all directions.
MERGED_PAIRS = {
    "MaximumProbability": 0.509,
    "JointEntropy": 2.57,
    "DifferenceVariance": 3.21,
    "Contrast": 5.12,
    "Correlation": 0.183,
    "ClusterShade": 17.4,
    "ClusterProminence": 147,
    "Imc1": -0.0288,
    "Imc2": 0.269,
}
MERGED_RUNS = {
    "small": 0.729,
    "large": 2.76,
    "large high": 15.6,
    "level nonuniformity": 281,
    "size nonuniformity": 328,
    "percentage": 0.680,
    "size variance": 0.598,
    "entropy": 2.62,
}

ONE_HU = RadiomicsSettings(bin_width=1.0, image_types=("original",))


def three_digits(value: float) -> float:
    return float(f"{value:.3g}")


@pytest.fixture(scope="module")
def phantom() -> dict[str, float]:
    features, levels = image_features(PHANTOM, PHANTOM > 0, 8.0, ONE_HU)
    assert levels == 4
    return features | {f"shape_{n}": v for n, v in shape(PHANTOM > 0, (2.0, 2.0, 2.0)).items()}


@pytest.mark.parametrize("group", IBSI)
def test_the_digital_phantom_has_ibsis_values(phantom, group):
    found = {name: three_digits(phantom[f"{group}_{name}"]) for name in IBSI[group]}
    assert found == pytest.approx(IBSI[group], rel=0.006)


def test_pairs_and_runs_merged_over_the_directions_have_ibsis_values():
    grey = grey_levels(PHANTOM, PHANTOM > 0, 1.0)
    counts = neighbours(grey).cooccurrence.sum(axis=0)
    found = cooccurrence(counts[None], grey.levels)
    assert {n: three_digits(found[n]) for n in MERGED_PAIRS} == pytest.approx(
        MERGED_PAIRS, rel=0.006
    )
    merged = np.zeros((4, 6))
    for counts, lengths in runs(grey):
        merged[:, lengths.astype(int)] += counts
    found = emphases(merged[:, 1:], grey.levels, np.arange(1.0, 6.0), 74 * len(DIRECTIONS))
    assert {n: three_digits(found[n]) for n in MERGED_RUNS} == pytest.approx(MERGED_RUNS, rel=0.006)


@pytest.fixture(scope="module")
def lump() -> tuple[np.ndarray, np.ndarray]:
    """Correlated intensities, HU, and a region with a hole, a gap and a lonely voxel."""
    random = np.random.default_rng(3)
    image = np.round(random.normal(60, 60, (9, 12, 10)).cumsum(axis=2) / 3)
    k, j, i = np.indices(image.shape)
    mask = (k - 4) ** 2 / 20 + (j - 5) ** 2 / 25 + (i - 5) ** 2 / 16 < 1
    mask[4, 5, 5] = mask[:, 8] = False
    mask[0, 0, 0] = True
    return image, mask


def test_the_library_gives_the_same_where_it_has_every_direction(lump):
    library = pytest.importorskip("numpyradiomics")
    image, mask = lump
    found, _ = image_features(image, mask, 2.5, RadiomicsSettings(image_types=("original",)))
    theirs = {
        "firstorder": library.firstorder(image, mask, voxelVolume=2.5, extend=False),
        **{
            name: getattr(library, name)(image, mask) for name in ("glcm", "gldm", "glszm", "ngtdm")
        },
    }
    names = {
        "glszm": {
            "ZoneVariance": "ZoneSizeVariance",
            "SizeZoneNonUniformity": "ZoneSizeNonUniformity",
            "SizeZoneNonUniformityNormalized": "ZoneSizeNonUniformityNormalized",
        }
    }
    for group, values in theirs.items():
        for name in IMAGE_CLASSES[group]:
            expected = values[names.get(group, {}).get(name, name)]
            assert found[f"{group}_{name}"] == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_runs_are_those_found_step_by_step(lump):
    image, mask = lump
    grey = grey_levels(image, mask, 25.0)
    labels = grey.labels
    for direction, (counts, lengths) in zip(DIRECTIONS, runs(grey), strict=True):
        expected = np.zeros_like(counts)
        for place in zip(*np.nonzero(labels), strict=True):
            back = tuple(np.subtract(place, direction))
            if labels[back] == labels[place]:
                continue
            length, ahead = 1, tuple(np.add(place, direction))
            while labels[ahead] == labels[place]:
                length, ahead = length + 1, tuple(np.add(ahead, direction))
            expected[labels[place] - 1, list(lengths).index(length)] += 1
        np.testing.assert_array_equal(counts, expected)


def test_a_direction_without_two_voxels_on_a_line_is_left_out():
    flat = np.array([[[1.0, 1, 60], [60, 1, 1]]])  # one slice
    found = runs(grey_levels(flat, np.ones_like(flat, dtype=bool), 25.0))
    assert len(found) == 4


def test_shapes_of_a_box_and_diameters_by_brute_force(lump):
    box = np.ones((4, 5, 6), dtype=bool)
    found = shape(box, (3.0, 2.0, 1.0))
    assert found["VoxelVolume"] == 120 * 6
    # The mesh passes half a voxel outside the outermost centres, its edges and corners cut.
    assert 0.92 * 720 < found["MeshVolume"] < 720
    assert found["MajorAxisLength"] == pytest.approx(4 * np.sqrt((4**2 - 1) / 12) * 3)
    assert found["Maximum3DDiameter"] == pytest.approx(np.sqrt(12**2 + 8**2 + 5**2))
    _, mask = lump
    spacing = np.array([2.5, 0.7, 0.9])
    padded = np.pad(mask, 1).astype(int)
    surface = []  # middles between a voxel inside and one outside
    for axis in range(3):
        for place in np.argwhere(np.diff(padded, axis=axis)):
            surface.append(2 * place + np.eye(3, dtype=int)[axis])
    points = np.array(surface)
    found = shape(mask, tuple(spacing))
    steps = points[:, None] - points
    distance = np.linalg.norm(steps * spacing / 2, axis=2)
    far = [*(distance[steps[..., axis] == 0].max() for axis in range(3)), distance.max()]
    names = ("2DDiameterSlice", "2DDiameterColumn", "2DDiameterRow", "3DDiameter")
    assert [found[f"Maximum{name}"] for name in names] == pytest.approx(far)


@pytest.mark.real
@pytest.mark.skipif(
    "REACTKD_PYRADIOMICS" not in os.environ,
    reason="REACTKD_PYRADIOMICS names no unpacked source distribution of PyRadiomics 3.0.1",
)
def test_pyradiomics_baseline_tables():
    from Testing.benchmarks.radiomics_agreement import compare

    found = list(compare(Path(os.environ["REACTKD_PYRADIOMICS"])))
    assert len(found) > 2000
    mesh = {"SurfaceArea", "MeshVolume", "SurfaceVolumeRatio", "Sphericity"}
    for one in found:
        limit = 0.005 if one.feature.removeprefix("shape_") in mesh else 1e-6
        assert one.difference < limit, one
