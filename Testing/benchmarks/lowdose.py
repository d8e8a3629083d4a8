"""The low-dose projector beside scikit-image's radon and iradon, same slices, same run.

``make bench`` prints seconds a slice for 512x512 pixels and 512 angles, the ratio, and the time of
a whole 512x512x148 volume by every method.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from skimage.transform import iradon, radon

from REACTKDLib.dose import DOSES, METHODS, simulate_low_dose
from REACTKDLib.dose.beam import ParallelBeam, project
from REACTKDLib.dose.fbp import fbp
from REACTKDLib.dose.simulate import CHUNK
from REACTKDLib.geometry import Geometry
from REACTKDLib.types import Volume

SIZE = 512
ANGLES = 512
REPEATS = 3
PIXEL_MM = 0.78


def slices(count: int) -> np.ndarray:
    """Elliptical abdomens in HU, int16 (count, rows, columns)."""
    y, x = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) * PIXEL_MM
    body = np.where((x / 170) ** 2 + (y / 120) ** 2 < 1, 50, -1000)
    body[((x - 60) / 30) ** 2 + ((y + 10) / 40) ** 2 < 1] = 120
    return np.repeat(body.astype(np.int16)[None], count, axis=0)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Shortest wall time: what else the machine does only adds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volume-slices", type=int, default=148)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()

    degrees = np.arange(ANGLES) * 180 / ANGLES
    image = slices(1)[0].astype(np.float32) / 1000 + 1
    stack = torch.from_numpy(np.repeat(image[None], CHUNK, axis=0))
    beam = ParallelBeam((SIZE, SIZE), (1.0, 1.0), ANGLES, 1.0)
    their_views = radon(image, degrees, circle=False)
    our_views = project(stack, beam)
    pairs = {
        "projection": (
            lambda: radon(image, degrees, circle=False),
            lambda: project(stack, beam),
        ),
        "filtered backprojection": (
            lambda: iradon(their_views, degrees, output_size=SIZE, circle=False),
            lambda: fbp(our_views, beam, "ramp"),
        ),
    }
    print(f"{SIZE}x{SIZE}, {ANGLES} angles, {torch.get_num_threads()} threads: seconds a slice")
    print(f"(scikit-image one at a time, REACTKD {CHUNK} together)")
    total = [0.0, 0.0]
    for name, (theirs, ours) in pairs.items():
        slow, fast = seconds(theirs, options.repeats), seconds(ours, options.repeats) / CHUNK
        total = [total[0] + slow, total[1] + fast]
        print(f"  {name:24s} scikit-image {slow:6.2f}   REACTKD {fast:7.3f}   {slow / fast:6.1f} x")
    print(f"scikit-image / REACTKD, both together: {total[0] / total[1]:.1f}")

    volume = slices(options.volume_slices)
    grid = Geometry((SIZE, SIZE, len(volume)), (PIXEL_MM, PIXEL_MM, 1.5), (0.0, 0.0, 0.0))
    ct = Volume(volume, grid, "ellipse")
    for method in METHODS:
        once = seconds(lambda m=method: simulate_low_dose(ct, DOSES["low"], 1, method=m), 1)
        print(f"{SIZE}x{SIZE}x{len(volume)} by {method:10s} {once:6.1f} s")


if __name__ == "__main__":
    main()
