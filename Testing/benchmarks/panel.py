"""How long the panel waits, beside a run in Slicer's own process: same CT, same machine, same run.

``make bench`` prints, for a simulated 512x512x148 CT in the harness (real MRML, a double of Qt):
seconds from Apply to the shown result, in a new and in a living worker process; how long the nodes
are read before the model works, and the longest that the event loop is held while it works; Cancel
until the process is gone; a hidden region and a lower dose. The peer is ``run_and_show``, the same
pipeline without a worker, which holds the event loop from beginning to end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "REACTKD")]

from harness import installed  # noqa: E402 - found by the line above


def big_study() -> Any:
    """A simulated CT of 512x512x148 voxels (0.78x0.78x1.5 mm) with its segmentation."""
    from REACTKDLib.geometry import Geometry
    from REACTKDLib.simulation import demo_parameters, simulate_case

    size, spacing = (512, 512, 148), (0.78, 0.78, 1.5)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True))
    grid = Geometry(size, spacing, (origin[0], origin[1], origin[2]))
    return simulate_case(demo_parameters(), 20, pet=(), grid=grid).study("simulated")


def wait_until(true: Callable[[], bool]) -> tuple[float, float]:
    """Seconds until something is true, and the longest turn of the event loop before the last."""
    import slicer

    began, longest, last = time.perf_counter(), 0.0, 0.0
    while not true():
        longest = max(longest, last)
        turn = time.perf_counter()
        slicer.app.processEvents()
        last = time.perf_counter() - turn
        time.sleep(0.002)
    return time.perf_counter() - began, longest


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def measure(harness: Any) -> None:
    """Print all of it."""
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.logic import run_and_show
    from REACTKDSlicer.sample_case import add_study

    from REACTKDLib.pipeline import no_progress

    widget = harness.load_module(REPOSITORY / "REACTKD" / "REACTKD.py")
    widget.parent.enter()
    panel, ui = widget.panel, widget.panel.ui
    panel.ensure = lambda: False
    nodes = add_study(big_study())
    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)

    def apply() -> tuple[float, float, float]:
        """Seconds in all, of reading the nodes, and the longest turn while the model works."""
        began = time.perf_counter()
        ui.applyButton.click()
        read = time.perf_counter() - began
        waited, longest = wait_until(lambda: not panel.runs.busy)
        assert panel.results.shown is not None, ui.statusLabel.text
        return read + waited, read, longest

    names = ("first run (new process)", "second run (living process)")
    print(f"{'':32}{'all, s':>10}{'reading nodes, s':>18}{'longest hold meanwhile, s':>27}")
    runs = [apply() for _ in names]
    for name, (total, read, longest) in zip(names, runs, strict=True):
        print(f"{name:32}{total:10.2f}{read:18.2f}{longest:27.3f}")
    holds = []
    for name in ("peer, first run", "peer, second run"):
        began = time.perf_counter()
        run_and_show(panel.parameters, context_from_slicer_application(), no_progress)
        holds.append(time.perf_counter() - began)
        print(f"{name:32}{holds[-1]:10.2f}{'':18}{holds[-1]:27.3f}")
    print(f"the peer holds the event loop {holds[1] / runs[1][2]:.0f} times as long")

    apply()
    table = ui.whatIfTable
    import qt

    table.item(0, 0).setCheckState(qt.Qt.Checked)
    seconds, _ = wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    print(f"{'what if: a region hidden':32}{seconds:10.2f}")
    ui.whatIfResetButton.click()
    ui.doseComboBox.setCurrentIndex(2)
    seconds, _ = wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    print(f"{'what if: 50000 photons':32}{seconds:10.2f}")

    ui.applyButton.click()
    pid = panel.runs.worker._worker_pid
    if pid is None:
        wait_until(lambda: panel.runs.worker._worker_pid is not None)
        pid = panel.runs.worker._worker_pid
    began = time.perf_counter()
    ui.applyButton.click()
    wait_until(lambda: gone(pid))
    print(f"{'Cancel until the process is gone':32}{time.perf_counter() - began:10.2f}")
    widget.cleanup()


def main() -> None:
    """Measure in a harness of its own."""
    with installed() as harness:
        measure(harness)


if __name__ == "__main__":
    main()
