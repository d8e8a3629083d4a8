"""Pictures of the module for the documentation, taken in the harness: ``make pictures``.

The simulated patient of the sample data goes through the shipped model, in the real worker process.
Fonts and widgets are those of the machine's Qt, not of Slicer's. The picture of an abstaining model
shows the same patient with the prediction set changed by hand.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / f) for f in ("Testing", "Testing/gui", "REACTKD")]

from harness import installed  # noqa: E402 - found by the line above
from harness.view_drawings import beside, picture_of, plot_picture, table_picture  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

#: Width of the panel, pixels: Slicer's default, and a small screen.
WIDTH, NARROW = 440, 320
VIEW = (470, 470)
_GROUPS = ("inputs", "options", "results", "display", "whatIf", "compare", "log", "prognosis")


class Photographer:
    """Takes pictures of one panel into a folder."""

    def __init__(self, panel: Any, host: Any, folder: Path) -> None:
        self.panel, self.host, self.folder = panel, host, folder

    def image(self, groups: tuple[str, ...], width: int = WIDTH) -> Any:
        """The panel with these groups open and the others closed."""
        import slicer

        for each in _GROUPS:
            getattr(self.panel.ui, f"{each}Group").collapsed = each not in groups
        for _ in range(3):  # labels that break lines find their height step by step
            self.host.resize(width, self.host.sizeHint().height())
            slicer.app.processEvents()
        return _without_empty_end(self.host.grab().toImage())

    def take(self, name: str, groups: tuple[str, ...], width: int = WIDTH) -> None:
        """A picture of the panel."""
        self.image(groups, width).save(str(self.folder / f"panel_{name}.png"))

    def take_with_views(self, name: str, groups: tuple[str, ...], rows: list[list[Any]]) -> None:
        """A picture of the panel beside its views."""
        self.save(beside(self.image(groups), rows), f"module_{name}.jpg")

    def save(self, image: Any, name: str) -> None:
        """A large picture, as JPEG."""
        assert image.save(str(self.folder / name), quality=88), name


def _without_empty_end(image: Any) -> Any:
    """An image without the rows at its end that are all background, but for a few."""
    background = image.pixel(1, image.height() - 1)
    end = image.height()
    while all(image.pixel(x, end - 1) == background for x in range(0, image.width(), 2)):
        end -= 1
    return image.copy(0, 0, image.width(), min(image.height(), end + 8))


def dark_palette() -> Any:
    """Colours of a dark theme."""
    from PySide6.QtGui import QColor, QPalette

    palette = QPalette(QColor(53, 53, 53))
    for role in (QPalette.WindowText, QPalette.Text, QPalette.ButtonText):
        palette.setColor(role, QColor(235, 235, 235))
    palette.setColor(QPalette.Base, QColor(35, 35, 35))
    palette.setColor(QPalette.AlternateBase, QColor(45, 45, 45))
    return palette


def take_all(harness: Any, views: Any, folder: Path) -> None:
    """The tutorial's way through the module, with a picture of each step."""
    import qt
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.logic import ShownCase
    from REACTKDSlicer.pictures import draw_pictures
    from REACTKDSlicer.sample_case import add_study, simulated_study
    from REACTKDSlicer.scene_nodes import remove_case
    from REACTKDSlicer.volumes import refresh_legends

    from REACTKDLib.types import PredictionSet

    widget = harness.load_module(REPOSITORY / "REACTKD" / "REACTKD.py")
    widget.parent.enter()
    panel, ui = widget.panel, widget.panel.ui
    panel.ensure = lambda needed: False
    camera = Photographer(panel, widget.parent._qt, folder)
    nodes = add_study(simulated_study())

    # An error: the PET was chosen as CT.
    ui.ctSelector.setCurrentNode(nodes.pet["pet_fdg"])
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    camera.take("error", ())

    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"])
    ui.acetateSelector.setCurrentNode(nodes.pet["pet_acetate"])
    camera.take("inputs", ("inputs", "options"))
    ui.applyButton.click()
    wait_until(lambda: ui.progressBar.value > 30 or not panel.runs.busy)
    camera.take("running", ("log",))
    wait_until(lambda: not panel.runs.busy)

    shown = panel.results.shown
    context = context_from_slicer_application()

    def drawn() -> dict[str, Any]:
        made = draw_pictures(context, views, shown.result, shown.nodes)
        return {name: picture_of(view.image()) for name, view in views.slices.items()} | {
            "3D": picture_of(views.threed.image()),
            "report": {name: made[name] for name in ("axial", "coronal", "sagittal", "3d")},
        }

    seen = drawn()
    plot = plot_picture(shown.nodes.chart, VIEW)
    table = table_picture(shown.nodes.table, VIEW)
    camera.take_with_views(
        "result", ("results", "display"), [[seen["Red"], seen["3D"]], [plot, table]]
    )
    camera.take("result_narrow", ("results",), NARROW)
    camera.host.setPalette(dark_palette())
    camera.take("result_dark", ("results", "display"))
    camera.host.setPalette(qt.QApplication.palette())
    take_report(shown.result, seen["report"], folder)

    before = seen["Red"]
    ui.whatIfTable.item(0, 0).setCheckState(qt.Qt.Checked)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    camera.take_with_views("what_if", ("whatIf",), [[before, drawn()["Red"]]])
    ui.whatIfResetButton.click()

    ui.compareComboBox.setCurrentIndex(1)
    wait_until(lambda: not panel.runs.busy)
    this = drawn()["Red"]
    # The view beside is one of the module's own layout, which only Slicer's window makes: what it
    # shows is drawn in the red view instead.
    red = harness.scene.GetSingletonNode("Red", "vtkMRMLSliceCompositeNode")
    red.SetForegroundVolumeID(panel.results.compare._beside.GetID())
    refresh_legends(context)
    camera.take_with_views("compare", ("compare",), [[this, drawn()["Red"]]])
    red.SetForegroundVolumeID(shown.nodes.attention.GetID())
    refresh_legends(context)
    ui.compareComboBox.setCurrentIndex(0)

    every = tuple(info.name for info in shown.result.classes)
    unsure = dict.fromkeys(every, 1 / len(every))
    abstains = dataclasses.replace(
        shown.result, prediction_set=PredictionSet(every, 0.9), probabilities=unsure
    )
    panel.results.show(ShownCase(abstains, shown.nodes), None, panel.options.package)
    camera.take("abstains", ("results",))
    remove_case(context, shown.nodes)  # its outlines and graph are not those of a prognosis
    take_prognosis(camera, nodes, views)
    widget.cleanup()


#: What is written of the patient in the picture, in no patient's name: value and unit.
WRITTEN = {
    "age": ("61", "a"),
    "sex": ("female", ""),
    "hbv": ("yes", ""),
    "alcoholic": ("no", ""),
    "height": ("164", "cm"),
    "weight": ("58", "kg"),
    "platelets": ("96", "10*9/l"),
    "alt": ("74", "U/l"),
    "ast": ("88", "U/l"),
    "bilirubin_total": ("2.1", "mg/dl"),
    "bilirubin_direct": ("0.9", "mg/dl"),
    "creatinine": ("71", "umol/l"),
}


def take_prognosis(camera: Photographer, nodes: Any, views: Any) -> None:
    """The section "Prognosis": a wrong unit at its field, then the result beside the views."""
    import qt
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.scene_nodes import jump_to_attention

    from REACTKDLib.prognosis.clinical_entries import Entries

    panel, ui = camera.panel, camera.panel.ui
    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    wrong = Entries({**WRITTEN, "albumin": ("4.1", "g/l")})
    panel.parameters.clinical_input = wrong.to_json()
    camera.image(("prognosis",))
    panel.prognosis.clinical.table.reveal("albumin")
    camera.take("prognosis_inputs", ("prognosis",))
    right = Entries({**WRITTEN, "albumin": ("4.1", "g/dl")})
    panel.parameters.clinical_input = right.to_json()
    ui.prognosisButton.click()
    wait_until(lambda: not panel.prognosis.running, 300.0)
    shown = panel.prognosis.view.shown
    assert shown is not None, ui.prognosisStatusLabel.text
    if shown.result.ct_case is not None:
        context = context_from_slicer_application()
        jump_to_attention(context, shown.result.ct_case, shown.nodes)
    axial, coronal = (picture_of(views.slices[n].image()) for n in ("Red", "Green"))
    rows = [
        [axial, plot_picture(shown.nodes.chart, VIEW)],
        [coronal, table_picture(shown.nodes.table, VIEW)],
    ]
    camera.image(("prognosis",))  # what is new in the panel finds its height
    camera.take_with_views("prognosis", ("prognosis",), rows)
    camera.take("prognosis_narrow", ("prognosis",), NARROW)
    camera.host.setPalette(dark_palette())
    camera.take("prognosis_dark", ("prognosis",))
    camera.host.setPalette(qt.QApplication.palette())


def take_report(case: Any, views: dict[str, np.ndarray], folder: Path) -> None:
    """The first printed page of the report; left as it is where there is no Chromium."""
    from REACTKDSlicer.drawing import write_png

    from REACTKDLib.case_report import case_report_html, pictures_of_scene
    from REACTKDLib.model_package import load_package

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None or shutil.which("pdftoppm") is None:
        print("No Chromium or pdftoppm: the picture of the report is not renewed.")
        return
    titles = {m.name: m.title for m in load_package().modalities}
    with tempfile.TemporaryDirectory() as name:
        inside = Path(name)
        for view, pixels in views.items():
            write_png(pixels, inside / f"{view}.png")
        pictures = pictures_of_scene(inside)
        html, pdf = inside / "report.html", inside / "report.pdf"
        html.write_text(case_report_html(case, pictures, titles), encoding="utf-8")
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--no-pdf-header-footer", f"--user-data-dir={inside / 'profile'}"),
                *(f"--print-to-pdf={pdf}", html.as_uri()),
            ],
            check=True,
            capture_output=True,
        )
        for page in ("1", "2"):
            subprocess.run(
                [
                    *("pdftoppm", "-jpeg", "-r", "72", "-f", page, "-l", page, "-singlefile"),
                    *(str(pdf), str(folder / f"report_{page}")),
                ],
                check=True,
            )


def main(folder: Path) -> None:
    """Write all pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with installed() as harness:  # the main window would have views of its own
        from REACTKDSlicer.context import context_from_slicer_application
        from REACTKDSlicer.offscreen import offscreen_views

        # Before the nodes: legends react only to nodes that are added later.
        with offscreen_views(context_from_slicer_application(), VIEW) as views:
            take_all(harness, views, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
