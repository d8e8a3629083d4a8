"""Low-dose CT: physics of the noise, grids, types, repeatability."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import REACTKDLib.dose.simulate as simulate
from REACTKDLib.dose import DOSES, METHODS, DoseModel, image_noise, simulate_low_dose
from REACTKDLib.dose.beam import ParallelBeam, project
from REACTKDLib.dose.counts import log_noise, slice_rng
from REACTKDLib.dose.fbp import fbp
from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry
from REACTKDLib.types import Volume

QUANTUM = DoseModel(electronic_sd_photons=0, views=128)
GRID = Geometry((72, 56, 6), (2.0, 2.6, 5.0), (-70.0, -72.0, 30.0))


def ellipse(grid: Geometry = GRID, hu: float = 0.0, dtype: type = np.float32) -> Volume:
    """A cylinder of ``hu`` in air, long along i (x): half axes 60 x 40 mm."""
    x, y = ((np.arange(grid.size[a]) - (grid.size[a] - 1) / 2) * grid.spacing_mm[a] for a in (0, 1))
    plane = np.where((x / 60) ** 2 + (y[:, None] / 40) ** 2 < 1, hu, -1000)
    return Volume(np.repeat(plane[None], grid.size[2], axis=0).astype(dtype), grid, "ct")


def added(ct: Volume, photons: float, seed: int = 1, **options) -> np.ndarray:
    """The noise alone, HU."""
    return simulate_low_dose(ct, photons, seed, **options).array - ct.array.astype(float)


def centre(noise: np.ndarray, rows: int = 8, columns: int = 8) -> np.ndarray:
    j, i = noise.shape[1] // 2, noise.shape[2] // 2
    return noise[:, j - rows : j + rows, i - columns : i + columns]


@pytest.mark.parametrize("method", ["projection", "image"])
def test_noise_falls_as_the_root_of_the_dose(method):
    ct = ellipse()
    few, many = (
        centre(added(ct, n, seed=n, model=QUANTUM, method=method)).std() for n in (40_000, 640_000)
    )
    assert few / many == pytest.approx(4, rel=0.12)


def test_electronic_noise_dominates_when_photons_are_few():
    """Its share of the integral's noise grows as 1/dose, not as 1/sqrt(dose)."""
    model = replace(QUANTUM, electronic_sd_photons=400.0)
    paths = np.full((200, 200), 1.0)
    few, many = (log_noise(paths, n, model, slice_rng(1, 0)).std() for n in (10_000, 40_000))
    assert few / many == pytest.approx(4, rel=0.1)
    quantum = log_noise(paths, 10_000, QUANTUM, slice_rng(1, 0)).std()
    assert quantum == pytest.approx(np.sqrt(np.e / 10_000), rel=0.03)
    assert few > 5 * quantum


def test_noise_size_is_the_predicted_one():
    """The image method's closed form against the sinogram's noise, in the quantum regime."""
    ct = ellipse()
    by_projection = centre(added(ct, 2e5, model=QUANTUM)).std()
    by_image = centre(added(ct, 2e5, model=QUANTUM, method="image")).std()
    assert by_image == pytest.approx(by_projection, rel=0.12)


def test_noise_is_larger_in_the_centre_and_streaks_along_the_long_axis():
    model = replace(QUANTUM, mu_water_per_mm=0.05)  # dense: the long paths lose e^-6
    noise = added(ellipse(), 2e5, model=model)
    assert centre(noise, 4, 4).std() > 2 * noise[:, :4].std()
    middle = centre(noise, 6, 20)
    along = (middle[..., 3:] * middle[..., :-3]).mean() / middle.var()
    across = (middle[:, 2:] * middle[:, :-2]).mean() / middle.var()  # 6 mm and 5.2 mm
    assert along > across + 0.1


@pytest.mark.parametrize("method", ["projection", "image"])
def test_power_spectrum_begins_as_a_ramp(method):
    grid = Geometry((96, 96, 64), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    water = Volume(np.full(grid.array_shape, -990, np.float32), grid)  # nearly even noise
    noise = added(water, 1e5, model=replace(QUANTUM, views=192), method=method)
    window = np.outer(np.hanning(96), np.hanning(96))
    power = (np.abs(np.fft.fft2(noise * window)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96))
    ring = [power[np.abs(frequency - f) < 0.012].mean() for f in (0.05, 0.10)]
    # The windows fall to 0.95 and 0.82 of their start: cos^4(pi f) at the two frequencies.
    expected = 2 * (np.cos(np.pi * 0.10) / np.cos(np.pi * 0.05)) ** 4
    assert ring[1] / ring[0] == pytest.approx(expected, rel=0.15)
    assert power[0, 0] < 0.2 * ring[0]


def test_noise_alone_is_the_difference_of_full_reconstructions():
    beam = ParallelBeam((56, 72), (2.6, 2.0), 64, 2.0)
    values = (ellipse().array[:1] / 1000 + 1) * 0.0193
    paths = project(torch.from_numpy(values.astype(np.float64)), beam)
    noise = torch.from_numpy(
        log_noise(paths.clamp(min=0).numpy(), 1e4, DoseModel(), slice_rng(1, 0)).astype(float)
    )
    full = fbp(paths + noise, beam, "hann") - fbp(paths, beam, "hann")
    torch.testing.assert_close(full, fbp(noise, beam, "hann"), rtol=0, atol=1e-12)
    assert noise.std() > 0


def test_low_resolution_paths_give_the_noise_of_full_ones():
    exact, quick = (added(ellipse(), 1e5, model=replace(QUANTUM, path_reduction=n)) for n in (1, 4))
    assert centre(quick).std() == pytest.approx(centre(exact).std(), rel=0.05)


def test_mean_hu_and_edges_stay():
    """Over many slices the noise averages out, at the edge as elsewhere."""
    grid = Geometry((36, 28, 96), (4.0, 5.2, 5.0), (0.0, 0.0, 0.0))
    noise = added(ellipse(grid), 1e5, model=QUANTUM)
    error = noise.std(axis=0) / np.sqrt(len(noise))
    assert np.abs(noise.mean(axis=0) / error).max() < 5
    assert abs(noise.mean()) < 1


def test_starved_paths_read_too_low():
    """Readings below one photon count as one, so the integral ends at log(photons)."""
    model = DoseModel(electronic_sd_photons=0)
    noise = log_noise(np.full((50, 50), 12.0), 1e3, model, slice_rng(1, 0))
    assert 12 + noise.max() <= np.log(1e3) + 1e-5
    assert np.isfinite(noise).all()


def test_authors_noise_is_poisson_on_the_normalised_integral():
    """An even slice with one dark and one light pixel: variance p / dose in every bin."""
    grid = Geometry((64, 64, 12), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    array = np.full(grid.array_shape, 100, np.float32)
    array[:, 0, 0], array[:, 0, 1] = 0, 200
    noise = added(Volume(array, grid), 1e5, method="authors")[:, 24:40, 24:40] / 200
    quarter = added(Volume(array, grid), 4e5, method="authors")[:, 24:40, 24:40] / 200
    pixel = 4.0
    mean_path = (
        0.5
        * 256
        * np.mean(  # chord through the centre over all angles, grey value 0.5
            1 / np.maximum(*np.abs([f(np.arange(64) * np.pi / 64) for f in (np.cos, np.sin)]))
        )
    )
    variance = np.pi**2 / (12 * 64 * pixel**2) * mean_path / 1e5
    assert noise.std() == pytest.approx(np.sqrt(variance), rel=0.1)
    assert noise.std() / quarter.std() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_integers_stay_integers_and_floats_are_float32(method):
    for dtype, expected in (
        (np.int16, np.int16), (np.int32, np.int32), (np.float32, np.float32), (float, np.float32)
    ):  # fmt: skip
        result = simulate_low_dose(ellipse(dtype=dtype), 1e4, 1, QUANTUM, method=method)
        assert result.array.dtype == expected
        assert result.array.shape == GRID.array_shape
        assert result.geometry == GRID


def test_int16_does_not_wrap():
    array = np.full(GRID.array_shape, -1000, np.int16)
    array[:, 8:-8:8, 8:-8:8] = 32_760
    noisy = simulate_low_dose(Volume(array, GRID), 100, 1, QUANTUM).array
    grains = noisy[:, 8:-8:8, 8:-8:8]
    assert grains.max() == 32_767
    assert grains.min() > 25_000


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_noise_whatever_the_chunks_and_threads(method, monkeypatch):
    ct = ellipse()
    kept = ct.array.copy()
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    one = added(ct, 1e4, model=QUANTUM, method=method)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(ct.array, kept)
    monkeypatch.setattr(simulate, "CHUNK", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again = added(ct, 1e4, model=QUANTUM, method=method)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(again, one, rtol=0, atol=0.02)
    assert np.abs(added(ct, 1e4, seed=2, model=QUANTUM, method=method) - one).max() > 1
    assert np.abs(one[0] - one[1]).max() > 1


@pytest.mark.parametrize("method", ["projection", "image"])
def test_slices_lie_across_the_body_however_stored(method):
    """The same patient, oblique in the plane, stored with superior first (k) or last (i)."""
    oblique = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)
    axial = Volume(ellipse().array, replace(GRID, direction_lps=oblique), "ct")
    # Axes i and k change places, in the array as in the columns of the direction matrix.
    swapped = tuple(np.asarray(oblique).reshape(3, 3)[:, ::-1].ravel().tolist())
    stored = Geometry(GRID.size[::-1], GRID.spacing_mm[::-1], GRID.origin_lps, swapped)
    sagittal = Volume(axial.array.transpose(2, 1, 0), stored, "ct")
    first = added(axial, 1e4, model=QUANTUM, method=method)
    second = added(sagittal, 1e4, model=QUANTUM, method=method).transpose(2, 1, 0)
    for noise in (first, second):  # neighbours along superior-inferior are independent
        assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.03
    assert second.std() == pytest.approx(first.std(), rel=0.05)


def test_padding_and_the_outside_of_the_scan_circle_stay():
    array = ellipse().array.copy()
    array[:, :5, :5] = -2000
    model = replace(QUANTUM, scan_diameter_mm=130.0)
    noise = added(Volume(array, GRID), 1e4, model=model)
    assert not noise[:, :5, :5].any()
    assert not noise[:, 0, 36].any()
    assert noise[:, 28, 36].all()


def test_image_noise_has_the_asked_size_anywhere():
    sd = np.linspace(5, 40, 10, dtype=np.float32)[:, None, None]
    noise = image_noise((10, 61, 90), (0.9, 0.7), sd, 3)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), sd[:, 0, 0], rtol=0.08)
    assert noise.dtype == np.float32
    later = image_noise((4, 61, 90), (0.9, 0.7), sd[6:], 3, first=6)
    assert np.array_equal(later, noise[6:])
    with pytest.raises(OptionError, match="-1"):
        image_noise((1, 8, 8), (1.0, 1.0), -1, 3)


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [("photons", 0, "0"), ("photons", 1e13, r"1e\+13"), ("seed", -1, "-1"),
     ("method", "x", "'x'"), ("device", "tpu", "'tpu'")],
)  # fmt: skip
def test_wrong_options_are_named(name, value, quoted):
    with pytest.raises(OptionError, match=quoted):
        simulate_low_dose(**{"ct": ellipse(), "photons": 1e4, "seed": 1, name: value})


@pytest.mark.parametrize(
    "wrong",
    [{"views": 0}, {"views": 1.5}, {"kernel": "bone"}, {"bin_mm": -1.0},
     {"electronic_sd_photons": -1.0}, {"mu_water_per_mm": float("nan")}],
)  # fmt: skip
def test_a_model_refuses_wrong_values(wrong):
    with pytest.raises(OptionError, match=str(next(iter(wrong.values())))):
        DoseModel(**wrong)


def test_unusable_values_are_refused():
    array = ellipse().array.copy()
    array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 values"):
        simulate_low_dose(Volume(array, GRID), 1e4, 1)
    with pytest.raises(InputError, match="uint16"):
        simulate_low_dose(Volume(np.ones(GRID.array_shape, np.uint16), GRID), 1e4, 1)


def test_the_five_doses():
    assert list(DOSES.values()) == [1e6, 5e4, 1e4, 1e3, 5e2]


def test_importing_brings_no_torch():
    code = (
        "import sys, REACTKDLib.dose; assert not {'torch', 'scipy', 'SimpleITK'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
