"""``reactkd series``: what a DICOM folder holds, which CT series is read and why no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .dicom_input.choose_series import judge_folder
from .dicom_input.contrast_phase import NOT_STATED
from .dicom_input.judge_series import CRITERIA, JudgedSeries
from .geometry import Geometry


def direction_name(geometry: Geometry) -> str:
    """``axial``, ``coronal`` or ``sagittal``: the nearest to the direction of the slices."""
    nearest = int(np.abs(geometry.direction_matrix[:, 2]).argmax())
    return ("sagittal", "coronal", "axial")[nearest]


def list_folder(
    folder: Path, *, series_uid: str | None = None, phase: str | None = None
) -> tuple[str, list[dict[str, Any]]]:
    """A text for people, and the same as one record per series.

    Raises
    ------
    InputError, OptionError : as :func:`REACTKDLib.dicom_input.choose_series.judge_folder`.
    """
    verdict = judge_folder(folder, series_uid=series_uid, phase=phase)
    rows = [] if verdict.chosen is None else [(verdict.chosen, verdict.why)]
    records = [
        _record(judged, why, judged is verdict.chosen) for judged, why in (*rows, *verdict.others)
    ]
    lines = []
    for record in records:
        lines.append(
            f"{'*' if record['chosen'] else ' '} {record['number'] or '-':>4}"
            f'  "{record["description"]}"  {record["modality"] or "-"}'
            f"  {record['slices']} slices{_size(record)}"
        )
        lines.append(f"        {'chosen' if record['chosen'] else 'not chosen'}: {record['why']}")
        lines.append(f"        {record['uid'] or '(no UID)'}")
    if verdict.problem is not None:
        lines += ["", f"None is chosen: {verdict.problem}"]
    lines += ["", "Decided, in this order, by: " + "; ".join(c.words for c in CRITERIA) + "."]
    return "\n".join(lines), records


def _record(judged: JudgedSeries, why: str, chosen: bool) -> dict[str, Any]:
    series, grid = judged.series, judged.geometry
    return {
        "uid": series.uid,
        "number": series.number,
        "description": series.description,
        "modality": series.modality,
        "slices": series.count,
        "phase": None if judged.phase is NOT_STATED else judged.phase.name,
        "spacing_mm": None if grid is None else [round(s, 4) for s in grid.spacing_mm],
        "direction": None if grid is None else direction_name(grid),
        "chosen": chosen,
        "why": why,
    }


def _size(record: dict[str, Any]) -> str:
    if record["spacing_mm"] is None:
        return ""
    return f" every {record['spacing_mm'][2]:.2f} mm, {record['direction']}"
