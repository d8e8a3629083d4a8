"""The module's self test, run by Slicer's Reload and Test: a simulated patient from end to end.

It goes the way of the panel: a grade in the worker process, and a prognosis where a model of it is
shipped, the nodes of both, the scene saved, opened again, and both given back by it.
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
from REACTKDLib.prognosis.clinical_entries import Entries
from REACTKDLib.prognosis.package import PrognosisMetadata, PrognosisPackage
from REACTKDLib.prognosis.result import prognosis_document
from REACTKDLib.prognosis.schema import CATEGORY, FLAG
from REACTKDLib.prognosis.types import PrognosisResult, Variable
from REACTKDLib.report import result_document
from REACTKDLib.types import CaseResult

from .context import SceneContext, context_from_slicer_application
from .logic import (
    Request,
    ShownCase,
    package_of,
    read_request,
    show_result,
    stored_package_name,
    validation,
)
from .parameters import ReactKDParameters
from .prognosis_logic import PrognosisRequest, prognosis_obstacle, read_prognosis_request
from .prognosis_model import default_package, prognosis_package_of
from .prognosis_nodes import ShownPrognosis, show_prognosis
from .prognosis_text import contribution_rows
from .requirements import (
    REQUIREMENTS,
    Requirement,
    missing_requirements,
    prognosis_requirements,
)
from .run_nodes import nodes_of
from .runs import Callbacks, Runs
from .sample_case import StudyNodes, add_study, simulated_study
from .scene_command import SCENE_FILE, save_scene
from .stored_cases import stored_case
from .stored_prognoses import stored_prognosis

#: The longest that a run may take, the start of the worker and the import of torch included, s.
_PATIENCE_S = 300.0


def run_self_test(logic: Any, say: Callable[[str], None]) -> None:
    """Run the shipped models on a simulated patient; ``logic`` is REACTKDLogic.

    The scene is closed first, as Slicer's own self tests do. Installs nothing.

    Raises
    ------
    AssertionError : something is not as it should be, or the packages of a run are missing.
    ReactKDError : the run ended in an error.
    """
    shipped = default_package()
    package = prognosis_package_of(shipped) if shipped else None
    _require_packages(package)
    slicer.mrmlScene.Clear(False)
    say(_("Simulating a patient"))
    nodes = add_study(simulated_study())
    request = _choose(logic, nodes)
    context = context_from_slicer_application()
    prognosis = None
    runs = Runs()
    try:
        say(_("Running the model in the worker process"))
        result = _wait_for(runs, lambda callbacks: runs.start(request, callbacks))
        _check_shown(context, show_result(request, result, context))
        if package is not None:
            say(_("Computing a prognosis in the worker process"))
            asked = _choose_prognosis(logic.getParameterNode(), package)
            answer = _wait_for(runs, lambda callbacks: runs.prognose(asked, callbacks))
            prognosis = show_prognosis(asked, answer, context)
            _check_prognosis(context, asked, prognosis)
    finally:
        runs.close()
    say(_("Saving the scene and opening it again"))
    _check_reopened(context, request.run, result, prognosis)
    say(_("Passed"))


def _require_packages(package: PrognosisPackage | None) -> None:
    """Fail where a Python package is missing that grade or prognosis needs."""
    needed: tuple[Requirement, ...] = REQUIREMENTS
    if package is not None:
        needed = prognosis_requirements(package.metadata, images=True, text=False)
    missing = missing_requirements(needed, importlib.util.find_spec)
    names = ", ".join(requirement.name for requirement in missing)
    button = "Apply" if set(missing) <= set(REQUIREMENTS) else "Compute prognosis"
    assert not missing, (
        f"not tested, because not installed: {names}; press {button} in the module first"
    )


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


def _choose_prognosis(parameters: ReactKDParameters, package: PrognosisPackage) -> PrognosisRequest:
    """Give clinical values beside the CT; a prognosis of nothing must be refused."""
    parameters.prognosis_package = ""  # the one that is shipped
    parameters.clinical_input = ""
    parameters.prognosis_images = False
    assert prognosis_obstacle(parameters, package), "a prognosis of nothing was not refused"
    parameters.prognosis_images = True
    parameters.clinical_input = _some_values(package.metadata).to_json()
    reason = prognosis_obstacle(parameters, package)
    assert not reason, reason
    return read_prognosis_request(parameters, slicer.mrmlScene)


def _some_values(metadata: PrognosisMetadata) -> Entries:
    """A value of every clinical variable, but of those that must fit others."""
    schema, entries = metadata.clinical_schema, Entries()
    if schema is None:
        return entries
    related = {name for relation in schema.relations for name in relation.variables}
    for variable in schema.variables:
        if variable.name not in related:
            value = _some_value(variable, metadata.training.clinical.get(variable.name))
            entries = entries.with_value(variable.name, value, variable.unit)
    return entries


def _some_value(variable: Variable, trained: tuple[float, float] | None) -> str:
    """A number in the middle of those of training, the first category, or no."""
    if variable.kind == CATEGORY:
        return variable.categories[0]
    if variable.kind == FLAG:
        return "no"
    low, high = trained or variable.plausible or (0.0, 0.0)
    return f"{(low + high) / 2:.4g}"


def _wait_for(runs: Runs, begin: Callable[[Callbacks], None]) -> Any:
    """The result of what is begun; Slicer stays alive meanwhile."""
    ends: list[Any] = []
    begin(Callbacks(lambda stage, done: None, ends.append, ends.append))
    deadline = time.monotonic() + _PATIENCE_S
    while not ends:
        assert time.monotonic() < deadline, f"no answer in {_PATIENCE_S:.0f} s; {runs.worker.log()}"
        slicer.app.processEvents()
        time.sleep(0.02)
    (end,) = ends
    if isinstance(end, ReactKDError):
        raise end
    return end.result


def _check_shown(context: SceneContext, shown: ShownCase) -> None:
    result, nodes = shown.result, shown.nodes
    total = sum(result.probabilities.values())
    assert abs(total - 1) < 1e-6, f"probabilities sum to {total}"
    assert any(region.kind == "lesion" for region in result.regions), "no lesion was found"
    explained = math.fsum(share.share for share in result.shares) + result.outside_share
    contrast = result.contrast - result.reference_contrast
    assert math.isclose(explained, contrast, rel_tol=1e-3, abs_tol=1e-3), (explained, contrast)
    _check_overlay(context, nodes.attention)
    rows = nodes.table.GetNumberOfRows()
    assert rows == len(result.regions) + 1, f"{rows} rows for {len(result.regions)} regions"


def _check_prognosis(
    context: SceneContext, request: PrognosisRequest, shown: ShownPrognosis
) -> None:
    result, nodes = shown.result, shown.nodes
    given = set(request.package.metadata.network.modalities)
    assert set(result.modalities) == given, f"of {given} it used {result.modalities}"
    total = result.base_logit + math.fsum(c.logit for c in result.modality_contributions)
    _check_sum("contributions and base", total, result.logit)
    for whole in result.modality_contributions:
        own = [c.logit for c in result.contributions if c.modality == whole.modality]
        if own:  # a CT may be one part
            _check_sum(f"contributions of {whole.modality}", math.fsum(own), whole.logit)
    expected = 1 / (1 + math.exp(-result.logit))
    assert math.isclose(result.probability, expected, abs_tol=1e-6), (
        f"the log odds {result.logit:.4f} are not those of {result.probability:.4f}"
    )
    if result.ct_case is not None:
        _check_overlay(context, nodes.attention)
    rows, parts = nodes.table.GetNumberOfRows(), len(contribution_rows(result))
    assert rows == parts, f"{rows} rows for {parts} contributions"
    assert nodes.chart in nodes_of(context, request.run), "the chart is not in the scene"


def _check_sum(what: str, found: float, expected: float) -> None:
    fits = math.isclose(found, expected, rel_tol=1e-3, abs_tol=1e-3)
    assert fits, f"{what} sum to {found:.4f}, not {expected:.4f}"


def _check_overlay(context: SceneContext, attention: Any) -> None:
    """Every slice view shows it, and it is not the same everywhere."""
    lowest, highest = attention.GetImageData().GetScalarRange()
    assert lowest < highest, "the overlay is empty"
    scene = context.scene
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        shows = composite.GetForegroundVolumeID() == attention.GetID()
        assert shows, f"a slice view does not show the overlay: {composite.GetName()}"


def _check_reopened(
    context: SceneContext, run: str, before: CaseResult, prognosis: ShownPrognosis | None
) -> None:
    """The saved scene gives the same results back."""
    with tempfile.TemporaryDirectory(prefix="REACTKD-self-test-") as name:
        bundle = Path(name, SCENE_FILE)
        save_scene(context, bundle)
        slicer.mrmlScene.Clear(False)
        opened = context.application_logic.OpenSlicerDataBundle(str(bundle), name)
        assert opened, f"{bundle} cannot be opened"
        context = context_from_slicer_application()
        after, nodes = stored_case(context, run)
        _check_same_case(after, before)
        assert nodes.ct is not None, "the CT did not come back"
        if prognosis is not None:
            again = stored_prognosis(context, prognosis.nodes.run)
            _check_same_prognosis(again.result, prognosis.result)
            assert again.nodes.ct is not None, "the CT of the prognosis did not come back"


def _check_same_case(after: CaseResult, before: CaseResult) -> None:
    assert result_document(after) == result_document(before), "another result came back"
    assert (after.attention.array == before.attention.array).all(), "another overlay came back"


def _check_same_prognosis(after: PrognosisResult, before: PrognosisResult) -> None:
    assert prognosis_document(after) == prognosis_document(before), "another prognosis came back"
    if before.ct_case is not None:
        assert after.ct_case is not None, "the attention of the prognosis did not come back"
        _check_same_case(after.ct_case, before.ct_case)
