"""How long the panel waits, beside a run in Slicer's own process: same CT, same machine, same run.

``make bench`` prints, for a simulated 512x512x148 CT in the harness (real MRML, a double of Qt):
seconds from Apply to the shown result, in a new and in a living worker process; how long the nodes
are read before the model works, the longest that the event loop is held while it works, while the
result's nodes are made, and after that for the surface of one region in 3D; Cancel until the
process is gone; a hidden region and a lower dose. The peer is ``run_and_show``, the same pipeline
without a worker, which holds the event loop from beginning to end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "REACTKD")]

from harness import installed  # noqa: E402 - found by the line above
from harness.waiting import gone  # noqa: E402
from pipeline import big_case  # noqa: E402 - the benchmark beside this one


def wait_until(true: Callable[[], bool]) -> tuple[float, float, float]:
    """Seconds until something is true; of that, the last turn of the event loop, in which it came
    true, and the longest of those before."""
    import slicer

    began, longest, last = time.perf_counter(), 0.0, 0.0
    while not true():
        longest = max(longest, last)
        turn = time.perf_counter()
        slicer.app.processEvents()
        last = time.perf_counter() - turn
        time.sleep(0.002)
    return time.perf_counter() - began, last, longest


def measure(harness: Any) -> None:
    """Print all of it."""
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.logic import run_and_show
    from REACTKDSlicer.sample_case import add_study

    from REACTKDLib.pipeline import no_progress

    widget = harness.load_module(REPOSITORY / "REACTKD" / "REACTKD.py")
    widget.parent.enter()
    panel, ui = widget.panel, widget.panel.ui
    panel.ensure = lambda needed: False
    nodes = add_study(big_case().study("simulated"))
    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)

    def apply() -> tuple[float, float, float, float, float]:
        """Seconds in all, of reading and of making nodes, the longest turn between them and the
        longest after them, until the surfaces are there too."""
        began = time.perf_counter()
        ui.applyButton.click()
        read = time.perf_counter() - began
        waited, made, longest = wait_until(lambda: not panel.runs.busy)
        assert panel.results.shown is not None, ui.statusLabel.text
        _, last, turn = wait_until(lambda: panel.results._surfaces is None)
        return read + waited, read, made, longest, max(turn, last)

    row = "{:34}{:>8}{:>15}{:>14}{:>21}{:>13}"
    heads = ("all", "reading nodes", "making nodes", "held while it works", "a surface")
    print(row.format("seconds", *heads))
    runs = [apply() for _ in range(2)]
    for name, times in zip(("first run (new process)", "second run"), runs, strict=True):
        print(row.format(name, *(f"{t:.3f}" for t in times)))
    holds = []
    for name in ("peer, first run", "peer, second run"):
        began = time.perf_counter()
        run_and_show(panel.parameters, context_from_slicer_application(), no_progress)
        holds.append(time.perf_counter() - began)
        print(row.format(name, f"{holds[-1]:.3f}", "", "", f"{holds[-1]:.3f}", ""))
    held = max(runs[1][1:])
    print(f"the peer holds the event loop {holds[1] / held:.1f} times as long at a stretch")

    apply()
    table = ui.whatIfTable
    import qt

    table.item(0, 0).setCheckState(qt.Qt.Checked)
    seconds, _, _ = wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    print(f"{'what if: a region hidden':34}{seconds:8.3f}")
    ui.whatIfResetButton.click()
    ui.doseComboBox.setCurrentIndex(2)
    seconds, _, _ = wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    print(f"{'what if: 50000 photons':34}{seconds:8.3f}")

    ui.applyButton.click()
    pid = panel.runs.worker._worker_pid
    if pid is None:
        wait_until(lambda: panel.runs.worker._worker_pid is not None)
        pid = panel.runs.worker._worker_pid
    began = time.perf_counter()
    ui.applyButton.click()
    wait_until(lambda: gone(pid))
    print(f"{'Cancel until the process is gone':34}{time.perf_counter() - began:8.3f}")
    widget.cleanup()


def main() -> None:
    """Measure in a harness of its own."""
    with installed() as harness:
        measure(harness)


if __name__ == "__main__":
    main()
