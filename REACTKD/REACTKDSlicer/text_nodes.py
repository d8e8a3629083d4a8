"""The numbers of a case as a table node and its message as a text node."""

from __future__ import annotations

import math
from typing import Any

from REACTKDLib.types import RESEARCH_USE, CaseResult

from .context import SceneContext
from .run_nodes import add_node

SIMULATED_MODEL = "The model was trained on simulated data."


def summary_text(case: CaseResult) -> str:
    """What a reader must know: probabilities, notices, the state of the model, the intended use."""
    lines = [f"REACTKD: {case.task_title}", f"Case: {case.case_id}", "", "Probabilities"]
    lines += [f"  {c.title}: {case.probabilities[c.name]:.1%}" for c in case.classes]
    lines += [
        "",
        f"Attention and shares speak for or against: {case.class_title(case.target)}",
        f"Inputs: {', '.join(case.modalities)}. Region scheme: {case.scheme}.",
        "",
    ]
    if case.simulated_model:
        lines.append(SIMULATED_MODEL)
    lines += [f"{notice.severity.capitalize()}: {notice.text}" for notice in case.notices]
    lines.append(RESEARCH_USE)
    return "\n".join(lines)


def add_summary(context: SceneContext, case: CaseResult, run: str) -> Any:
    """A vtkMRMLTextNode with :func:`summary_text`."""
    node = add_node(context, "vtkMRMLTextNode", run, "summary")
    node.SetText(summary_text(case))
    return node


#: Slicer's table file has no escape for these, and a name with one would not survive saving.
_TABLE_FILE_SIGNS = str.maketrans({'"': "'", "\t": " ", "\r": " ", "\n": " "})

#: Column name, unit label, description. Text columns have no unit label.
_COLUMNS = (
    ("Region", None, "Name of the region"),
    ("Kind", None, "lesion, rim, parenchyma, organ; outside for all that lies in no region"),
    ("Volume (ml)", "ml", "Volume of the region"),
    ("Mean (HU)", "HU", "Mean CT number"),
    ("SD (HU)", "HU", "Standard deviation of the CT number"),
    ("Longest diameter (mm)", "mm", "Greatest 3-D extent; lesions only"),
    ("Share (logit)", "logit", "Contribution to the decision for the target class"),
    ("Share per ml (logit/ml)", "logit/ml", "Share divided by volume"),
    ("Spatial attention (0-1)", "1", "Mean CBAM spatial attention in the region"),
)


def add_region_table(context: SceneContext, case: CaseResult, run: str) -> Any:
    """A locked vtkMRMLTableNode: one row per region, largest share first, then all outside.

    With the last row the shares sum to ``contrast - reference_contrast``. Numbers that do not
    exist are NaN.
    """
    import vtk

    rows: list[tuple[str | float | None, ...]] = [
        (
            region.name.translate(_TABLE_FILE_SIGNS),
            region.kind,
            region.volume_ml,
            region.mean_hu,
            region.sd_hu,
            region.longest_diameter_mm,
            share.share,
            share.share_per_ml,
            share.attention,
        )
        for region, share in case.ranked
    ]
    outside = case.outside_share
    rows.append(("Outside all regions", "outside", None, None, None, None, outside, None, None))
    node = add_node(context, "vtkMRMLTableNode", run, "regions table")
    for number, (name, unit, description) in enumerate(_COLUMNS):
        column = vtk.vtkStringArray() if unit is None else vtk.vtkDoubleArray()
        for row in rows:
            column.InsertNextValue(math.nan if row[number] is None else row[number])
        column.SetName(name)
        node.AddColumn(column)
        node.SetColumnDescription(name, description)
        if unit is not None:
            node.SetColumnUnitLabel(name, unit)
    node.SetLocked(True)
    return node
