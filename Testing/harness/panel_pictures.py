"""Pictures of the panel for the documentation, taken in the harness: ``make pictures``.

The simulated patient of the sample data goes through the shipped model, in the real worker process.
Fonts and widgets are those of the machine's Qt, not of Slicer's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "REACTKD")]

from harness import installed  # noqa: E402 - found by the line above
from harness.waiting import wait_until  # noqa: E402

#: Width of the panel, pixels: Slicer's default, and a small screen.
WIDTHS = {"": 440, "_narrow": 320}


def take(panel: Any, host: Any, folder: Path, name: str, groups: tuple[str, ...]) -> None:
    """A picture of the panel with these groups open and the others closed, at every width."""
    import slicer

    for each in ("inputs", "options", "results", "display", "whatIf", "compare", "log"):
        getattr(panel.ui, f"{each}Group").collapsed = each not in groups
    for suffix, width in WIDTHS.items():
        for _ in range(3):  # labels that break lines find their height step by step
            host.resize(width, host.sizeHint().height())
            slicer.app.processEvents()
        _without_empty_end(host.grab().toImage()).save(str(folder / f"panel_{name}{suffix}.png"))


def _without_empty_end(image: Any) -> Any:
    """An image without the rows at its end that are all background, but for a few."""
    background = image.pixel(1, image.height() - 1)
    end = image.height()
    while all(image.pixel(x, end - 1) == background for x in range(0, image.width(), 2)):
        end -= 1
    return image.copy(0, 0, image.width(), min(image.height(), end + 8))


def main(folder: Path) -> None:
    """Write all pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with installed(main_window=True) as harness:
        import qt
        from REACTKDSlicer.sample_case import add_study, simulated_study

        widget = harness.load_module(REPOSITORY / "REACTKD" / "REACTKD.py")
        widget.parent.enter()
        panel, ui, host = widget.panel, widget.panel.ui, widget.parent._qt
        panel.ensure = lambda: False
        nodes = add_study(simulated_study())
        ui.ctSelector.setCurrentNode(nodes.ct)
        ui.segmentationSelector.setCurrentNode(nodes.segmentation)
        ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"])
        ui.acetateSelector.setCurrentNode(nodes.pet["pet_acetate"])
        take(panel, host, folder, "inputs", ("inputs", "options"))
        ui.applyButton.click()
        wait_until(lambda: ui.progressBar.value > 30 or not panel.runs.busy)
        take(panel, host, folder, "running", ())
        wait_until(lambda: not panel.runs.busy)
        take(panel, host, folder, "result", ("results", "display"))
        ui.whatIfTable.item(0, 0).setCheckState(qt.Qt.Checked)
        wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
        take(panel, host, folder, "what_if", ("whatIf",))
        ui.whatIfResetButton.click()
        ui.compareComboBox.setCurrentIndex(1)
        wait_until(lambda: not panel.runs.busy)
        take(panel, host, folder, "compare", ("compare",))
        widget.cleanup()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
