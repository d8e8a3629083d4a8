"""A prognosis becomes MRML nodes. The same code runs in Slicer and on slicer-core."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from REACTKDLib.prognosis.result import case_to_draw, prognosis_document
from REACTKDLib.prognosis.types import PrognosisResult
from REACTKDLib.report import graph_document, result_document
from REACTKDLib.types import RESEARCH_USE, Volume

from . import prognosis_text
from .context import SceneContext
from .document_nodes import CT_REFERENCE
from .prognosis_documents import PROGNOSIS_ROLE, keep_prognosis_inputs, stored_prognosis_of
from .region_nodes import add_regions
from .run_nodes import RUN_ATTRIBUTE, add_node, file_in_folder, remove_run
from .scene_nodes import SceneStyle, check_grid
from .text_nodes import TABLE_FILE_SIGNS
from .translation import tr as _
from .volumes import add_attention, add_attention_legend, add_ct, set_slice_layers

if TYPE_CHECKING:
    from .prognosis_logic import PrognosisRequest

_BLUE = (0.22, 0.49, 0.72)
_TITLE_SIZE = 14
_TITLE_CHARACTERS = 60  # a line of the title, in a view of a quarter of the screen
#: Bars of a plot, and characters below each: more of them could not be read.
_BARS, _LABEL_CHARACTERS = 8, 22


@dataclass(frozen=True)
class PrognosisNodes:
    """The nodes that show one prognosis.

    ``ct``, ``attention`` and ``regions`` are None where the CT's branch took no part. Of a stored
    prognosis, regions, table, summary and chart are None where they were deleted. Users may delete
    any of them later: ask ``run_nodes.in_scene`` first.
    """

    run: str
    folder: int
    ct: Any | None
    attention: Any | None
    regions: Any | None
    table: Any | None
    summary: Any | None
    chart: Any | None
    document: Any


@dataclass(frozen=True)
class ShownPrognosis:
    """A prognosis and the nodes that show it."""

    result: PrognosisResult
    nodes: PrognosisNodes


def show_prognosis(
    request: PrognosisRequest, result: PrognosisResult, context: SceneContext
) -> ShownPrognosis:
    """Show the prognosis of a request; computing again with the same CT and parameters replaces
    what was shown.

    Raises
    ------
    InputError : the attention is not on the CT's grid. The scene is unchanged then.
    """
    scene, run, ct = context.scene, request.run, request.ct
    if result.ct_case is not None:
        check_grid(result.ct_case, ct)
    before = stored_prognosis_of(scene, ct, scene.GetNodeByID(request.parameters_id))
    for old in {before or run, run}:
        remove_run(context, old)
    try:
        nodes = _add_nodes(context, result, ct, run, request.overlay_opacity)
        keep_prognosis_inputs(nodes.document, request.inputs, request.parameters_id)
    except Exception:
        remove_run(context, run)  # half a result is worse than none
        raise
    return ShownPrognosis(result, nodes)


def show_prognosis_folder(
    context: SceneContext, result: PrognosisResult, ct: Volume
) -> PrognosisNodes:
    """Show a prognosis that was read from its folder, with the CT of its branch, in a new scene.

    Raises
    ------
    InputError : the attention is not on the CT's grid, or there is none.
    """
    run, style = result.case_id, SceneStyle()
    check_grid(case_to_draw(result), ct)
    ct_node = add_ct(context, ct, run, style.window_hu, style.level_hu)
    return _add_nodes(context, result, ct_node, run, style.attention_opacity, surfaces=True)


def _add_nodes(
    context: SceneContext,
    result: PrognosisResult,
    ct: Any | None,
    run: str,
    opacity: float,
    surfaces: bool = False,
) -> PrognosisNodes:
    """``surfaces`` : the regions are shown, with their surfaces."""
    chart, *behind = add_contribution_plot(context, result, run)
    nodes: dict[str, Any] = {
        "attention": None,
        "regions": None,
        "table": add_contribution_table(context, result, run),
        "summary": _add_text(context, run, "summary", prognosis_text.summary(result)),
        "document": _add_document(context, result, ct, run),
        "chart": chart,
    }
    case = result.ct_case
    if case is not None and ct is not None:
        nodes["attention"] = add_attention(context, case, run, SceneStyle().attention_floor)
        nodes["regions"] = add_regions(context, case, ct, run, surfaces)
    own = [node for node in (*nodes.values(), *behind) if node is not None]
    for node in own:
        if ct is not None and node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(ct.GetTransformNodeID())
    if ct is not None and ct.GetAttribute(RUN_ATTRIBUTE) == run:
        own.insert(0, ct)
    folder = file_in_folder(context, run, own, ct)
    if case is not None and nodes["attention"] is not None:
        nodes["regions"].GetDisplayNode().SetVisibility(surfaces)  # else where someone asks for it
        set_slice_layers(context, ct, nodes["attention"], opacity)
        add_attention_legend(context, case, nodes["attention"])
    return PrognosisNodes(run=run, folder=folder, ct=ct, **nodes)


def _add_text(context: SceneContext, run: str, role: str, text: str) -> Any:
    node = add_node(context, "vtkMRMLTextNode", run, role)
    node.SetText(text)
    return node


def _add_document(context: SceneContext, result: PrognosisResult, ct: Any | None, run: str) -> Any:
    """A hidden text node with the numbers; voxels stay in their own nodes."""
    case = result.ct_case
    document = {
        "prognosis": prognosis_document(result),
        "provenance": dict(result.provenance),
        "ct_case": None if case is None else result_document(case),
        "graph": None if case is None else graph_document(case),
    }
    node = _add_text(context, run, PROGNOSIS_ROLE, json.dumps(document))
    node.SetHideFromEditors(True)
    if ct is not None:
        node.SetNodeReferenceID(CT_REFERENCE, ct.GetID())
    return node


def add_contribution_table(context: SceneContext, result: PrognosisResult, run: str) -> Any:
    """A locked vtkMRMLTableNode: kinds of input, then variables and families, largest first."""
    import vtk

    rows = prognosis_text.contribution_rows(result)
    columns: tuple[tuple[str, str, list[Any]], ...] = (
        (_("Input"), _("Variable, family of radiomics, or kind of input"), [r.title for r in rows]),
        (_("Kind"), _("Which kind of input it belongs to"), [r.kind for r in rows]),
        (_("Value"), _("What was given, in the model's unit"), [r.value for r in rows]),
        (_("Log odds"), _("What it adds to the log odds of the outcome"), [r.logit for r in rows]),
        (
            _("Standard error"),
            _("Of an estimate; 0 where it is exact"),
            [math.nan if r.error is None else r.error for r in rows],
        ),
    )
    node = add_node(context, "vtkMRMLTableNode", run, "contributions table")
    for name, description, values in columns:
        numbers = not values or isinstance(values[0], float)
        column = vtk.vtkDoubleArray() if numbers else vtk.vtkStringArray()
        for value in values:
            column.InsertNextValue(value if numbers else value.translate(TABLE_FILE_SIGNS))
        column.SetName(name)
        node.AddColumn(column)
        node.SetColumnDescription(name, description)
    node.SetLocked(True)
    return node


def add_contribution_plot(
    context: SceneContext, result: PrognosisResult, run: str
) -> tuple[Any, ...]:
    """Chart, series and table of the largest contributions, upwards for the outcome, downwards
    against it; the chart comes first."""
    import slicer
    import vtk

    rows = prognosis_text.contribution_rows(result)[:_BARS]
    table = add_node(context, "vtkMRMLTableNode", run, "contributions")
    titles, values = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    titles.SetName(_("Input"))
    values.SetName(_("Log odds"))
    for row in rows:
        title = textwrap.shorten(row.title, _LABEL_CHARACTERS, placeholder="…")
        titles.InsertNextValue(title.translate(TABLE_FILE_SIGNS))
        values.InsertNextValue(row.logit)
    table.AddColumn(titles)
    table.AddColumn(values)
    table.SetLocked(True)
    series = add_node(context, "vtkMRMLPlotSeriesNode", run, "contribution bars")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetYColumnName(_("Log odds"))
    series.SetLabelColumnName(_("Input"))
    series.SetColor(*_BLUE)
    chart = add_node(context, "vtkMRMLPlotChartNode", run, "contributions chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    # The bars alone would look like the answer of a model that one may use.
    texts = [prognosis_text.headline(result), *prognosis_text.warnings(result), RESEARCH_USE]
    lines = [line for text in texts for line in textwrap.wrap(text, _TITLE_CHARACTERS)]
    chart.SetTitle("\n".join(lines))
    chart.SetTitleFontSize(_TITLE_SIZE)
    chart.SetYAxisTitle(_("Log odds"))
    chart.SetXAxisTitle("")
    chart.SetLegendVisibility(False)
    largest = max((abs(row.logit) for row in rows), default=0.0) or 1.0
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(-1.1 * largest, 1.1 * largest)
    return chart, series, table
