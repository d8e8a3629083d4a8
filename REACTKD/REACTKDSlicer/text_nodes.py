"""The numbers of a case as a table node and its message as a text node."""

from __future__ import annotations

import math
from typing import Any

from REACTKDLib import case_report_words as words
from REACTKDLib.types import RESEARCH_USE, CaseResult

from .context import SceneContext
from .run_nodes import add_node
from .translation import tr as _


def summary_text(case: CaseResult) -> str:
    """What a reader must know: answer, prediction set, probabilities, notices, intended use.

    Sentences about the answer are the library's, in English.
    """
    lines = [
        f"REACTKD: {case.task_title}",
        _("Case: {name}").format(name=case.case_id),
        "",
        words.headline(case),
        words.set_sentence(case),
        "",
        _("Probabilities"),
    ]
    lines += [
        f"  {c.title}: {words.percent(case.probabilities[c.name])}"
        for c in words.likely_first(case)
    ]
    lines += [
        "",
        _("Attention and shares speak for or against: {title}").format(
            title=case.class_title(case.target)
        ),
        _("Inputs: {inputs}. Region scheme: {scheme}.").format(
            inputs=", ".join(case.modalities), scheme=case.scheme
        ),
        "",
    ]
    severities = {"warning": _("Warning"), "info": _("Note")}
    if warning := words.simulated_warning(case):
        lines.append(f"{severities['warning']}: {warning}")
    lines += [f"{severities[n.severity]}: {n.text}" for n in words.other_notices(case)]
    lines.append(RESEARCH_USE)
    return "\n".join(lines)


def add_summary(context: SceneContext, case: CaseResult, run: str) -> Any:
    """A vtkMRMLTextNode with :func:`summary_text`."""
    node = add_node(context, "vtkMRMLTextNode", run, "summary")
    node.SetText(summary_text(case))
    return node


#: Slicer's table file has no escape for these, and a name with one would not survive saving.
TABLE_FILE_SIGNS = str.maketrans({'"': "'", "\t": " ", "\r": " ", "\n": " "})


def _columns() -> tuple[tuple[str, str | None, str], ...]:
    """Column name, unit label, description. Text columns have no unit label."""
    return (
        (_("Region"), None, _("Name of the region")),
        (_("Kind"), None, _("lesion, rim, parenchyma, organ; outside for what lies in no region")),
        (_("Volume (ml)"), "ml", _("Volume of the region")),
        (_("Mean (HU)"), "HU", _("Mean CT number")),
        (_("SD (HU)"), "HU", _("Standard deviation of the CT number")),
        (_("Longest diameter (mm)"), "mm", _("Greatest 3-D extent; lesions only")),
        (_("Share (logit)"), "logit", _("Contribution to the decision for the target class")),
        (_("Share per ml (logit/ml)"), "logit/ml", _("Share divided by volume")),
        (_("Spatial attention (0-1)"), "1", _("Mean CBAM spatial attention in the region")),
    )


def add_region_table(context: SceneContext, case: CaseResult, run: str) -> Any:
    """A locked vtkMRMLTableNode: one row per region, largest share first, then all outside.

    With the last row the shares sum to ``contrast - reference_contrast``. Numbers that do not
    exist are NaN.
    """
    import vtk

    rows: list[tuple[str | float | None, ...]] = [
        (
            region.name.translate(TABLE_FILE_SIGNS),
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
    rows.append((_("Outside all regions"), "outside", None, None, None, None, outside, None, None))
    node = add_node(context, "vtkMRMLTableNode", run, "regions table")
    for number, (name, unit, description) in enumerate(_columns()):
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
