"""The module's self test, run by Slicer's Reload and Test: a simulated patient from end to end.

It goes the way of the panel: the worker process, the nodes of the result, the scene saved, opened
again, and the result given back by it.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import ReactKDError
from REACTKDLib.model_package import shipped_packages
from REACTKDLib.report import result_document
from REACTKDLib.types import CaseResult

from .context import SceneContext, context_from_slicer_application
from .dependencies import missing_requirements
from .logic import (
    Request,
    ShownCase,
    package_of,
    read_request,
    show_result,
    stored_package_name,
    validation,
)
from .runs import Callbacks, FinishedRun, Runs
from .sample_case import StudyNodes, add_study, simulated_study
from .scene_command import SCENE_FILE, save_scene
from .stored_cases import stored_case

#: The longest that a run may take, the start of the worker and the import of torch included, s.
_PATIENCE_S = 300.0


def run_self_test(logic: Any, say: Callable[[str], None]) -> None:
    """Run the shipped model on a simulated patient; ``logic`` is REACTKDLogic.

    The scene is closed first, as Slicer's own self tests do. Installs nothing.

    Raises
    ------
    AssertionError : something is not as it should be, or the packages of a run are missing.
    ReactKDError : the run ended in an error.
    """
    missing = missing_requirements(importlib.util.find_spec)
    names = ", ".join(requirement.module for requirement in missing)
    assert not missing, (
        f"not tested, because not installed: {names}; press Apply in the module first"
    )
    slicer.mrmlScene.Clear(False)
    say(_("Simulating a patient"))
    nodes = add_study(simulated_study())
    request = _choose(logic, nodes)
    say(_("Running the model in the worker process"))
    runs = Runs()
    try:
        finished = _wait_for(runs, request)
    finally:
        runs.close()
    context = context_from_slicer_application()
    shown = show_result(request, finished.result, context)
    _check_shown(context, shown)
    say(_("Saving the scene and opening it again"))
    _check_reopened(context, request.run, finished.result)
    say(_("Passed"))


def _choose(logic: Any, nodes: StudyNodes) -> Request:
    """Choose the inputs; a run without CT must be refused."""
    parameters = logic.getParameterNode()
    parameters.model_package = stored_package_name(shipped_packages()[0])
    package = package_of(parameters.model_package)
    parameters.ct, parameters.segmentation = None, nodes.segmentation
    assert not validation(parameters, package)[0], "a run without CT was not refused"
    parameters.ct = nodes.ct
    ready, reason = validation(parameters, package)
    assert ready, reason
    return read_request(parameters, slicer.mrmlScene)


def _wait_for(runs: Runs, request: Request) -> FinishedRun:
    """The run's end; Slicer stays alive meanwhile."""
    ends: list[FinishedRun | ReactKDError] = []
    runs.start(request, Callbacks(lambda stage, done: None, ends.append, ends.append))
    deadline = time.monotonic() + _PATIENCE_S
    while not ends:
        assert time.monotonic() < deadline, f"no answer in {_PATIENCE_S:.0f} s; {runs.worker.log()}"
        slicer.app.processEvents()
        time.sleep(0.02)
    (end,) = ends
    if isinstance(end, ReactKDError):
        raise end
    return end


def _check_shown(context: SceneContext, shown: ShownCase) -> None:
    result, nodes = shown.result, shown.nodes
    total = sum(result.probabilities.values())
    assert abs(total - 1) < 1e-6, f"probabilities sum to {total}"
    assert any(region.kind == "lesion" for region in result.regions), "no lesion was found"
    explained = math.fsum(share.share for share in result.shares) + result.outside_share
    contrast = result.contrast - result.reference_contrast
    assert math.isclose(explained, contrast, rel_tol=1e-3, abs_tol=1e-3), (explained, contrast)
    lowest, highest = nodes.attention.GetImageData().GetScalarRange()
    assert lowest < highest, "the overlay is empty"
    scene = context.scene
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        shows = composite.GetForegroundVolumeID() == nodes.attention.GetID()
        assert shows, f"a slice view does not show the overlay: {composite.GetName()}"
    rows = nodes.table.GetNumberOfRows()
    assert rows == len(result.regions) + 1, f"{rows} rows for {len(result.regions)} regions"


def _check_reopened(context: SceneContext, run: str, before: CaseResult) -> None:
    """The saved scene gives the same result back."""
    with tempfile.TemporaryDirectory(prefix="REACTKD-self-test-") as name:
        bundle = Path(name, SCENE_FILE)
        save_scene(context, bundle)
        slicer.mrmlScene.Clear(False)
        opened = context.application_logic.OpenSlicerDataBundle(str(bundle), name)
        assert opened, f"{bundle} cannot be opened"
        after, nodes = stored_case(context_from_slicer_application(), run)
        assert result_document(after) == result_document(before), "another result came back"
        assert (after.attention.array == before.attention.array).all(), "another overlay came back"
        assert nodes.ct is not None, "the CT did not come back"
