"""Radiomics: names, settings, filters, grid, unusual regions, the cache."""

from __future__ import annotations

import dataclasses
import json
import threading

import numpy as np
import pytest
from images import OBLIQUE

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry
from REACTKDLib.prognosis import radiomics_cache
from REACTKDLib.prognosis.radiomics import radiomics_features
from REACTKDLib.prognosis.radiomics_cache import cached_features
from REACTKDLib.prognosis.radiomics_filters import filtered_images
from REACTKDLib.prognosis.radiomics_grid import region_of_interest, resampled_region
from REACTKDLib.prognosis.radiomics_settings import (
    RadiomicsSettings,
    feature_names,
    image_names,
    read_settings,
)
from REACTKDLib.prognosis.types import family
from REACTKDLib.types import Segment, Segmentation, Volume

GRID = Geometry((24, 22, 14), (1.0, 1.5, 2.5), (10.0, -20.0, 30.0))
ORIGINAL = RadiomicsSettings(image_types=("original",), spacing_mm=None)


def ct(geometry: Geometry = GRID) -> Volume:
    random = np.random.default_rng(11)
    k, j, i = np.indices(geometry.array_shape)
    return Volume(np.round(60 + 3 * i - 2 * j + random.normal(0, 25, k.shape)), geometry, "ct")


def ball(geometry: Geometry = GRID) -> np.ndarray:
    k, j, i = np.indices(geometry.array_shape)
    return (k - 6) ** 2 / 16 + (j - 10) ** 2 / 49 + (i - 12) ** 2 / 64 <= 1


def same(one, other, **tolerance):
    np.testing.assert_allclose(list(one.values.values()), list(other.values.values()), **tolerance)


# names and settings


def test_names_are_pyradiomics_1781():
    names = feature_names(RadiomicsSettings())
    assert len(names) == len(set(names)) == 1781
    assert names[0] == "original_shape_Elongation"
    assert names[14] == "original_firstorder_10Percentile"
    assert names[-1] == "gradient_ngtdm_Strength"
    assert (
        "wavelet-LLH_glcm_Imc1" in names and "log-sigma-1-0-mm-3D_gldm_DependenceEntropy" in names
    )
    assert len({family(name) for name in names}) == 1 + 19 * 6


def test_settings_from_json_and_their_digest(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"bin_width": 10, "spacing_mm": null, "image_types": ["original", "log"]}')
    settings = read_settings(path)
    assert settings == RadiomicsSettings(10.0, None, image_types=("original", "log"))
    assert image_names(settings)[1:3] == ("log-sigma-1-0-mm-3D", "log-sigma-2-0-mm-3D")
    path.write_text(json.dumps(dataclasses.asdict(settings)))
    assert read_settings(path).digest == settings.digest
    for field, value in {
        "bin_width": 11.0,
        "spacing_mm": (1.0, 1.0, 1.0),
        "interpolation": "linear",
        "whole_hu": False,
        "padding": 6,
        "image_types": ("original",),
        "classes": ("glcm",),
        "log_sigmas_mm": (1.0,),
        "wavelet": "haar",
        "energy_shift": 1000.0,
        "roles": ("lesion",),
    }.items():
        assert dataclasses.replace(settings, **{field: value}).digest != settings.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"bin_width": 0},
        {"spacing_mm": [1, 1, -1]},
        {"interpolation": "sinc"},
        {"padding": -1},
        {"image_types": []},
        {"image_types": ["original", "lbp"]},
        {"image_types": ["log", "log"]},
        {"classes": []},
        {"classes": ["glcm", "shapes"]},
        {"log_sigmas_mm": [0]},
        {"roles": []},
        {"bins": 32},
        {"bin_width": "25"},
        [],
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, fields):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(OptionError):
        read_settings(path)
    with pytest.raises(OptionError, match="cannot be used"):
        read_settings(tmp_path / "none.json")


# filters


def images(
    array: np.ndarray, geometry: Geometry = GRID, **settings
) -> dict[str, np.ndarray | None]:
    return dict(filtered_images(array, geometry, RadiomicsSettings(**settings)))


def test_wavelet_letters_are_along_i_j_k():
    array = np.zeros(GRID.array_shape)
    array[:] = np.random.default_rng(1).normal(0, 50, GRID.size[0])  # varies along i alone
    for name, band in images(array, image_types=("wavelet",)).items():
        letters = name.removeprefix("wavelet-")
        assert np.any(np.abs(band) > 1) == (letters[1:] == "LL"), name


def test_wavelet_of_odd_sizes_keeps_the_shape_and_the_low_band_the_mean():
    array = ct().array[:13, :21, :23]
    bands = images(array, image_types=("wavelet",))
    assert {band.shape for band in bands.values()} == {array.shape}
    constant = images(np.full((8, 8, 8), 10.0), image_types=("wavelet",))
    assert constant["wavelet-LLL"] == pytest.approx(np.full((8, 8, 8), 10 * 2**1.5))
    assert np.abs(constant["wavelet-HHH"]).max() < 1e-9


def test_laplacian_of_gaussian_beside_scipy():
    from scipy.ndimage import gaussian_laplace

    grid = Geometry((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    k, j, i = np.indices(grid.array_shape)
    array = 100 * np.exp(-((k - 20) ** 2 + (j - 19) ** 2 + (i - 20) ** 2) / (2 * 4.0**2))
    found = images(array, grid, image_types=("log",), log_sigmas_mm=(2.0, 3.0))
    for sigma in (2.0, 3.0):
        expected = sigma**2 * gaussian_laplace(array, sigma)
        error = np.abs(found[f"log-sigma-{int(sigma)}-0-mm-3D"] - expected)[8:-8, 8:-8, 8:-8]
        assert error.max() < 0.02 * np.abs(expected).max()


def test_gradient_of_a_ramp_is_its_slope_per_millimetre():
    k, j, i = np.indices(GRID.array_shape)
    x, y, z = i * 1.0, j * 1.5, k * 2.5
    found = images(2.0 * x - 3.0 * y + 6.0 * z, image_types=("gradient",))["gradient"]
    assert found[1:-1, 1:-1, 1:-1] == pytest.approx(np.full((12, 20, 22), 7.0))


def test_functions_of_intensity_keep_range_and_sign():
    array = np.array([[[-1000.0, -10.0, 0.0, 10.0, 250.0]]])
    grid = Geometry((5, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    types = ("square", "squareroot", "logarithm", "exponential")
    found = {name: image.ravel() for name, image in images(array, grid, image_types=types).items()}
    assert found["square"] == pytest.approx([1000, 0.1, 0, 0.1, 62.5])
    assert found["squareroot"] == pytest.approx([-1000, -100, 0, 100, 500])
    factor = 1000 / np.log(1001)
    assert found["logarithm"] == pytest.approx(
        [-1000, -factor * np.log(11), 0, factor * np.log(11), factor * np.log(251)]
    )
    assert found["exponential"] == pytest.approx(1000 ** (array.ravel() / 1000))


# grid and region


def test_oblique_directions_change_nothing():
    straight = dataclasses.replace(OBLIQUE, direction_lps=Geometry.direction_lps)
    settings = RadiomicsSettings(spacing_mm=(1.5, 1.5, 1.5))
    mask = np.zeros(OBLIQUE.array_shape, dtype=bool)
    mask[1:7, 2:9, 2:11] = True
    same(
        radiomics_features(ct(OBLIQUE), mask, settings),
        radiomics_features(ct(straight), mask, settings),
        rtol=1e-6,
        atol=1e-6,
        equal_nan=False,
    )


def test_a_mirrored_image_has_the_same_texture_and_shape():
    mirrored = Volume(ct().array[::-1, :, ::-1], GRID)
    one = radiomics_features(ct(), ball(), ORIGINAL)
    same(one, radiomics_features(mirrored, ball()[::-1, :, ::-1], ORIGINAL), rtol=1e-9)


def test_what_lies_far_from_the_region_changes_nothing():
    wide = Geometry((80, 70, 60), GRID.spacing_mm, GRID.origin_lps)
    array = np.zeros(wide.array_shape)
    array[20:34, 24:46, 30:54] = ct().array
    mask = np.zeros(array.shape, dtype=bool)
    mask[20:34, 24:46, 30:54] = ball()
    settings = RadiomicsSettings(spacing_mm=(2.0, 2.0, 2.0), padding=2, image_types=("original",))
    one = radiomics_features(Volume(array, wide), mask, settings)
    other = array.copy()
    other[:4], other[:, :4], other[..., -4:] = 900, -900, 500
    same(one, radiomics_features(Volume(other, wide), mask, settings), rtol=1e-9)


@pytest.mark.parametrize("classes", [("shape",), ("ngtdm", "firstorder"), ("glrlm", "glszm")])
def test_some_classes_have_the_values_that_all_have(classes):
    settings = dataclasses.replace(ORIGINAL, classes=classes)
    some, whole = (radiomics_features(ct(), ball(), s).values for s in (settings, ORIGINAL))
    assert tuple(some) == feature_names(settings)
    assert {name.split("_")[1] for name in some} == set(classes)
    assert some == {name: whole[name] for name in some}


def test_no_notice_of_textures_that_nobody_asked_for():
    flat = Volume(np.full(GRID.array_shape, 60.0), GRID)
    settings = dataclasses.replace(ORIGINAL, classes=("shape", "firstorder"))
    assert radiomics_features(flat, ball(), ORIGINAL).notices
    assert not radiomics_features(flat, ball(), settings).notices


def test_resampling_keeps_place_and_volume():
    i = np.indices(GRID.array_shape)[2]
    ramp = Volume(10.0 * i + 100, GRID)
    settings = RadiomicsSettings(spacing_mm=(0.5, 0.5, 0.5), whole_hu=False)
    region = resampled_region(ramp, ball(), settings)
    place = np.argwhere(region.mask)[:, ::-1]
    x = region.geometry.lps_from_ijk(place)[:, 0]
    # The spline of a ramp bends a little at the border of the CT.
    assert np.abs(region.image[region.mask] - (10 * (x - 10.0) + 100)).max() < 0.1
    expected = ball().sum() * np.prod(GRID.spacing_mm)
    assert region.mask.sum() * 0.5**3 == pytest.approx(expected, rel=0.02)
    whole = resampled_region(ramp, ball(), dataclasses.replace(settings, whole_hu=True))
    assert np.array_equal(whole.image, np.trunc(region.image))


def test_the_mask_does_not_depend_on_the_padding_where_voxels_tie():
    grid = Geometry((12, 12, 12), (0.664062, 0.664062, 2.1), (-118.9, -48.5, -1.6))
    mask = np.random.default_rng(5).random(grid.array_shape) < 0.5
    masks = [
        resampled_region(ct(grid), mask, RadiomicsSettings(padding=padding))
        for padding in (0, 3, 8)
    ]
    for region in masks[1:]:
        assert np.array_equal(region.mask[region.box], masks[0].mask[masks[0].box])


def test_a_region_that_touches_the_border_and_one_slice():
    mask = np.zeros(GRID.array_shape, dtype=bool)
    mask[:5, :6, :7] = True
    found = radiomics_features(ct(), mask, RadiomicsSettings(spacing_mm=(2.0, 2.0, 2.0)))
    assert np.isfinite(list(found.values.values())).all() and not found.notices
    flat = np.zeros_like(mask)
    flat[3, 5:15, 5:15] = True
    region = resampled_region(ct(), flat, RadiomicsSettings(spacing_mm=(2.0, 2.0, 2.0)))
    assert region.geometry.spacing_mm == (2.0, 2.0, 2.5)  # not resampled across its slice


def test_one_voxel_has_missing_features_and_a_notice():
    mask = np.zeros(GRID.array_shape, dtype=bool)
    mask[5, 6, 7] = True
    found = radiomics_features(ct(), mask, ORIGINAL)
    assert found.values["original_firstorder_Mean"] == ct().array[5, 6, 7]
    assert np.isnan(found.values["original_glcm_Contrast"])
    assert np.isnan(found.values["original_ngtdm_Coarseness"])
    assert np.isnan(found.values["original_shape_Elongation"])
    assert "radiomics_missing" in {notice.code for notice in found.notices}


def test_constant_intensities_follow_pyradiomics_and_are_told():
    found = radiomics_features(Volume(np.full(GRID.array_shape, 60.0), GRID), ball(), ORIGINAL)
    values = found.values
    assert values["original_glcm_Correlation"] == values["original_glcm_MCC"] == 1
    assert values["original_ngtdm_Coarseness"] == 1e6
    assert values["original_firstorder_Skewness"] == 0
    assert {notice.code for notice in found.notices} == {"radiomics_one_level"}
    zero = Volume(np.zeros(GRID.array_shape), GRID)
    settings = RadiomicsSettings(spacing_mm=None, image_types=("original", "logarithm"))
    found = radiomics_features(zero, ball(), settings)
    assert np.isnan(found.values["logarithm_firstorder_Mean"])
    assert "radiomics_no_image" in {notice.code for notice in found.notices}


def test_too_many_grey_levels_are_told():
    array = np.arange(np.prod(GRID.size), dtype=float).reshape(GRID.array_shape)
    found = radiomics_features(
        Volume(array, GRID), array >= 0, dataclasses.replace(ORIGINAL, bin_width=1.0)
    )
    assert np.isnan(found.values["original_glcm_Contrast"])
    assert np.isfinite(found.values["original_firstorder_Mean"])
    assert "radiomics_many_levels" in {notice.code for notice in found.notices}


def test_regions_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="empty"):
        radiomics_features(ct(), np.zeros(GRID.array_shape, dtype=bool))
    with pytest.raises(InputError, match="shape"):
        radiomics_features(ct(), ball()[1:])
    small = np.zeros(GRID.array_shape, dtype=bool)
    small[5:7, 5:7, 5:7] = True
    with pytest.raises(InputError, match="vanishes"):
        radiomics_features(ct(), small, RadiomicsSettings(spacing_mm=(40.0, 40.0, 40.0)))
    holes = ct().array.copy()
    holes[6, 10, 12] = np.nan
    with pytest.raises(InputError, match="finite"):
        radiomics_features(Volume(holes, GRID), ball())
    with pytest.raises(OptionError, match="wavelet"):
        radiomics_features(ct(), ball(), RadiomicsSettings(wavelet="coif1.1"))


def test_roles_make_the_region():
    labels = ball().astype(np.uint8)
    labels[6, 10, 10:14] = 2
    segments = (Segment(1, "liver", "liver"), Segment(2, "hcc", "lesion"))
    segmentation = Segmentation(labels, GRID, segments)
    assert region_of_interest(segmentation, GRID, RadiomicsSettings()).sum() == ball().sum()
    lesion = RadiomicsSettings(roles=("lesion",))
    assert region_of_interest(segmentation, GRID, lesion).sum() == 4
    finer = Geometry((48, 44, 28), (0.5, 0.75, 1.25), (9.75, -20.375, 29.375))
    assert region_of_interest(segmentation, finer, lesion).sum() == 4 * 8
    with pytest.raises(InputError, match="spleen"):
        region_of_interest(segmentation, GRID, RadiomicsSettings(roles=("spleen",)))


def test_progress_goes_forward_and_what_it_raises_ends_the_work():
    told: list[float] = []
    settings = RadiomicsSettings(spacing_mm=None, image_types=("original", "square"))
    radiomics_features(ct(), ball(), settings, lambda stage, done: told.append(done))
    assert told == sorted(told) and (told[0], told[-1]) == (0.0, 1.0) and len(told) == 4

    def cancel(stage: str, done: float) -> None:
        if done > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        radiomics_features(ct(), ball(), settings, cancel)


# cache


def test_kept_values_are_used_again_and_any_change_is_another_key(tmp_path, monkeypatch):
    mask = np.zeros(GRID.array_shape, dtype=bool)
    mask[5, 6, 7] = True  # has NaN and notices
    first = cached_features(tmp_path, ct(), mask, ORIGINAL)
    calls = []
    compute = radiomics_cache.radiomics_features
    monkeypatch.setattr(
        radiomics_cache,
        "radiomics_features",
        lambda *arguments: calls.append(1) or compute(*arguments),
    )
    again = cached_features(tmp_path, ct(), mask, ORIGINAL)
    assert calls == [] and again.notices == first.notices and again.settings == first.settings
    same(first, again, rtol=0)
    brighter = ct().array.copy()
    brighter[0, 0, 0] += 1
    moved = dataclasses.replace(GRID, origin_lps=(0.0, 0.0, 0.0))
    cached_features(tmp_path, Volume(brighter, GRID), mask, ORIGINAL)
    cached_features(tmp_path, ct(moved), mask, ORIGINAL)
    cached_features(tmp_path, ct(), mask | ball(), ORIGINAL)
    cached_features(tmp_path, ct(), mask, dataclasses.replace(ORIGINAL, bin_width=5.0))
    assert len(calls) == 4 and len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "cut", "changed"])
def test_damaged_values_are_computed_anew(tmp_path, damage, caplog):
    first = cached_features(tmp_path, ct(), ball(), ORIGINAL)
    (path,) = tmp_path.iterdir()
    text = path.read_text()
    fields = json.loads(text)
    fields["values"][3] += 1
    path.write_text({"cut": text[:-40], "changed": json.dumps(fields)}.get(damage, damage))
    again = cached_features(tmp_path, ct(), ball(), ORIGINAL)
    same(first, again, rtol=0)
    assert [notice.code for notice in again.notices] == ["radiomics_cache_damaged"]
    assert path.name in caplog.text
    assert path.read_text() == text


def test_several_at_once_leave_one_whole_file(tmp_path):
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(cached_features(tmp_path, ct(), ball(), ORIGINAL))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(list(tmp_path.iterdir())) == 1
    for result in results:
        same(result, results[0], rtol=0)
