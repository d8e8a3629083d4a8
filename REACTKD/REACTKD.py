"""The scripted module REACTKD: liver tumour grade from CT, with the regions that decided it.

A shell: what it does stands in the package REACTKDSlicer beside this file. Nothing heavy is
imported before the first run.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

# Installed, REACTKDLib stands beside this file; in the source tree it stands one level up.
if importlib.util.find_spec("REACTKDLib") is None:
    sys.path.append(str(Path(__file__).resolve().parent.parent))

_PACKAGES = ("REACTKDLib", "REACTKDSlicer")


class REACTKD(ScriptedLoadableModule):
    """What Slicer's module list knows of REACTKD."""

    def __init__(self, parent) -> None:
        super().__init__(parent)
        import qt

        from REACTKDLib.resources import document_path, resource_path
        from REACTKDLib.types import RESEARCH_USE

        parent.title = _("REACT-KD")
        parent.categories = ["Analysis"]
        parent.dependencies = ["Colors", "Markups", "Segmentations", "SubjectHierarchy", "Volumes"]
        parent.contributors = ["REACTKD contributors"]
        parent.icon = qt.QIcon(str(resource_path("Icons/REACTKD.png")))
        purpose = _(
            "Grades liver tumours on a CT with a segmentation of liver and lesions, with PET where"
            " there is one, and shows how much each region adds to the decision, as an overlay, a"
            " table and a graph of regions."
        )
        pages = {
            "radiologists.md": _("For radiologists, with a tutorial"),
            "troubleshooting.md": _("Messages and what to do"),
            "installing.md": _("Installing"),
        }
        links = "<br>".join(
            f'<a href="{document_path(page).as_uri()}">{title}</a>' for page, title in pages.items()
        )
        parent.helpText = f"<p>{purpose}</p><p><b>{RESEARCH_USE}</b></p><p>{links}</p>"
        parent.acknowledgementText = _(
            "An implementation of REACT-KD (arXiv 2508.02104), region-aware cross-modal topological"
            " knowledge distillation for interpretable medical image classification."
        )
        # Other modules, Sample Data among them, are there when start-up is complete.
        slicer.app.connect("startupCompleted()", _register_sample_data)


def _register_sample_data() -> None:
    from REACTKDSlicer.sample_data import register_sample_data

    register_sample_data()


class REACTKDWidget(ScriptedLoadableModuleWidget):
    """Loads the panel and tells it when it is shown."""

    def setup(self) -> None:
        """Make the panel; called once, before it is first shown."""
        super().setup()
        from REACTKDSlicer.panel import Panel

        from REACTKDLib.resources import resource_path

        self.logic = REACTKDLogic()
        widget = slicer.util.loadUI(str(resource_path("UI/REACTKD.ui")))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.panel = Panel(slicer.util.childWidgetVariables(widget), self.logic.getParameterNode)

    def enter(self) -> None:
        """The module is shown."""
        self.panel.enter()

    def exit(self) -> None:
        """Another module is shown."""
        self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded."""
        self.panel.cleanup()

    def onReload(self) -> None:
        """Reload with REACTKD's packages as they are on disk now."""
        for name in [n for n in sys.modules if n.split(".")[0] in _PACKAGES]:
            del sys.modules[name]
        super().onReload()


class REACTKDLogic(ScriptedLoadableModuleLogic):
    """REACTKD for scripts: parameters in the scene, and runs without the panel."""

    def getParameterNode(self):
        """The scene's ``REACTKDSlicer.parameters.ReactKDParameters``."""
        from REACTKDSlicer.parameters import ReactKDParameters

        return ReactKDParameters(super().getParameterNode())

    def run(self, parameters):
        """Run with ``parameters`` and show the result; see ``REACTKDSlicer.logic.run_and_show``.

        Asks nothing: the packages that a run needs must be installed.
        """
        from REACTKDSlicer.context import context_from_slicer_application
        from REACTKDSlicer.logic import run_and_show

        from REACTKDLib.pipeline import no_progress

        return run_and_show(parameters, context_from_slicer_application(), no_progress)


class REACTKDTest(ScriptedLoadableModuleTest):
    """Reload and Test: a simulated case through the module, in the scene."""

    def runTest(self) -> None:
        """Run all of it; Slicer calls this."""
        from REACTKDSlicer.self_test import run_self_test

        run_self_test(REACTKDLogic(), self.delayDisplay)
