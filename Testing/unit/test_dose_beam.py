"""The projector against scikit-image and against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import iradon, radon

from REACTKDLib.dose.beam import ParallelBeam, backproject, project
from REACTKDLib.dose.fbp import fbp, variance_gain

ODD = ParallelBeam((40, 91), (1.3, 0.6), 37, 0.6)
TALL = ParallelBeam((64, 33), (0.7, 2.0), 30, 1.1)


def two_ellipses(size: int = 129) -> np.ndarray:
    """Asymmetric in both axes, without edges finer than a pixel."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = ((x / 40) ** 2 + ((y - 10) / 25) ** 2 < 1) * 1.0
    image -= 0.5 * (((x - 15) / 6) ** 2 + ((y - 14) / 9) ** 2 < 1)
    return gaussian_filter(image, 1.5)


def gaussian_slice(beam: ParallelBeam, centre: tuple[float, float], sd: float) -> torch.Tensor:
    """A Gaussian of known line integrals; ``centre`` is (x, y) mm from the slice's centre."""
    rows, columns = (
        (np.arange(n) - (n - 1) / 2) * s for n, s in zip(beam.shape, beam.spacing_mm, strict=True)
    )
    r2 = (columns - centre[0]) ** 2 + (rows[:, None] - centre[1]) ** 2
    return torch.from_numpy(np.exp(-r2 / (2 * sd**2)))[None]


def test_projection_agrees_with_radon():
    image = two_ellipses()
    beam = ParallelBeam(image.shape, (1.0, 1.0), 180, 1.0)
    ours = project(torch.from_numpy(image)[None], beam)[0].numpy()
    theirs = radon(image, np.arange(180.0), circle=False).T
    extra = (ours.shape[1] - theirs.shape[1]) // 2
    theirs = np.pad(theirs, ((0, 0), (extra, extra)))
    assert np.abs(ours - theirs).max() < 0.005 * theirs.max()


def test_reconstruction_agrees_with_iradon_and_the_truth():
    image = two_ellipses()
    beam = ParallelBeam(image.shape, (1.0, 1.0), 180, 1.0)
    views = project(torch.from_numpy(image)[None], beam)
    ours = fbp(views, beam, "ramp")[0].numpy()
    theirs = iradon(views[0].numpy().T, np.arange(180.0), output_size=129, circle=False)
    assert np.abs(ours - theirs).max() < 0.02
    assert np.abs(ours - image).max() < 0.002


@pytest.mark.parametrize("beam", [ODD, TALL], ids=["odd", "tall"])
def test_line_integrals_of_a_gaussian_in_mm(beam):
    centre, sd = (4.0, -6.0), 4.0
    views = project(gaussian_slice(beam, centre, sd), beam)[0].numpy()
    angle = beam.angles[:, None]
    offset = beam.positions_mm - centre[0] * np.cos(angle) + centre[1] * np.sin(angle)
    expected = np.sqrt(2 * np.pi) * sd * np.exp(-(offset**2) / (2 * sd**2))
    assert np.abs(views - expected).max() < 1e-2 * expected.max()


@pytest.mark.parametrize("beam", [ODD, TALL], ids=["odd", "tall"])
def test_backprojection_is_the_adjoint(beam):
    rng = torch.Generator().manual_seed(3)
    image = torch.randn(2, *beam.shape, dtype=torch.float64, generator=rng)
    views = torch.randn(2, beam.views, beam.bins, dtype=torch.float64, generator=rng)
    forward = (project(image, beam) * views).sum()
    torch.testing.assert_close(
        (image * backproject(views, beam)).sum(), forward, rtol=1e-10, atol=0
    )


def test_slices_do_not_mix():
    image = gaussian_slice(ODD, (4.0, -6.0), 4.0)
    both = project(torch.cat([image, 0 * image]), ODD)
    assert both[0].max() > 1
    assert both[1].abs().max() == 0


@pytest.mark.parametrize("kernel", ["ramp", "hann"])
def test_variance_gain_is_what_white_noise_becomes(kernel):
    beam = ParallelBeam((48, 60), (0.9, 0.7), 96, 0.7)
    rng = torch.Generator().manual_seed(5)
    noise = torch.randn(60, beam.views, beam.bins, generator=rng)
    centre = fbp(noise, beam, kernel)[:, 12:-12, 15:-15]
    assert centre.var().item() == pytest.approx(variance_gain(beam, kernel), rel=0.04)
