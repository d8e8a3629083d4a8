"""What the report of a case says: sentences and cells as plain text, nothing escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

from .types import CaseResult, ClassInfo, Notice

#: Signs that belong together and stay on one line.
_SPACE, _MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"

SIMULATED_MODEL = "simulated_model"
OUTSIDE = "Outside all regions"
COLUMNS = (
    "Region",
    "Kind",
    "Volume (ml)",
    "Mean (HU)",
    "Longest diameter (mm)",
    "Share (logit)",
    "Share per ml (logit/ml)",
)

#: An input without one of these is a folder, and folders of images are named after patients.
_IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")


def percent(fraction: float) -> str:
    """Whole percent; never 0 or 100 % for what is not certain."""
    if 0 < fraction < 0.005:
        return f"<{_SPACE}1{_SPACE}%"
    if 0.995 < fraction < 1:
        return f">{_SPACE}99{_SPACE}%"
    return f"{100 * fraction:.0f}{_SPACE}%"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign."""
    # Adding zero turns -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", _MINUS)


def likely_first(case: CaseResult) -> list[ClassInfo]:
    """The classes, the most probable first."""
    return sorted(case.classes, key=lambda c: -case.probabilities[c.name])


def headline(case: CaseResult) -> str:
    """The answer in one line."""
    if case.abstains:
        return "The model abstains: it gives no answer for this case."
    predicted = case.predicted
    return f"Most probable: {predicted.title} ({percent(case.probabilities[predicted.name])})"


def set_sentence(case: CaseResult) -> str:
    """The prediction set in words."""
    possible = case.prediction_set
    if possible is None:
        return "This model was not calibrated to name the classes that it cannot exclude."
    coverage = f"{percent(possible.coverage)} coverage"
    if not possible.classes:
        return f"At {coverage} no class fits: this case is unlike those of the calibration."
    if case.abstains:
        return f"At {coverage} the model can exclude no class."
    titles = ", ".join(case.class_title(name) for name in possible.classes)
    return (
        f"Possible classes ({coverage}): {titles}. The true class is among them for"
        f" {percent(possible.coverage)} of patients like those of the calibration."
    )


def simulated_warning(case: CaseResult) -> str:
    """What a reader must know of a model trained on simulated images; empty for others."""
    if not case.simulated_model:
        return ""
    own = (notice.text for notice in case.notices if notice.code == SIMULATED_MODEL)
    return next(own, "This model was trained on simulated images only.")


def other_notices(case: CaseResult) -> list[Notice]:
    """The notices without :func:`simulated_warning`, warnings first."""
    rest = [n for n in case.notices if not (case.simulated_model and n.code == SIMULATED_MODEL)]
    return sorted(rest, key=lambda notice: notice.severity != "warning")


def share_meaning(case: CaseResult) -> str:
    """What the column of shares means."""
    return (
        f"A share is what a region adds to the contrast of “{case.class_title(case.target)}” with"
        " the other classes, measured from a reference case. Positive speaks for that class,"
        " negative against it. It explains this model, not the disease."
    )


def region_cells(case: CaseResult) -> list[tuple[str, ...]]:
    """Rows under :data:`COLUMNS`, the largest share first, then what lies in no region."""
    rows = [
        (
            region.name,
            region.kind,
            f"{region.volume_ml:.1f}",
            f"{region.mean_hu:.0f}".replace("-", _MINUS),
            "" if region.longest_diameter_mm is None else f"{region.longest_diameter_mm:.0f}",
            signed(share.share),
            signed(share.share_per_ml, 4),
        )
        for region, share in case.ranked
    ]
    return [*rows, (OUTSIDE, "outside", "", "", "", signed(case.outside_share), "")]


def sum_of_shares(case: CaseResult) -> float:
    """Of all regions and what lies outside them."""
    return math.fsum([*(share.share for share in case.shares), case.outside_share])


def sum_sentence(case: CaseResult) -> str:
    """Whether the shares explain the whole answer, with the numbers."""
    total = sum_of_shares(case) + case.reference_contrast
    agrees = math.isclose(total, case.contrast, rel_tol=1e-3, abs_tol=1e-3)
    return (
        f"Sum of all shares {signed(sum_of_shares(case))}, with the reference case's contrast"
        f" {signed(case.reference_contrast)}: {signed(total)}. The network's contrast is"
        f" {signed(case.contrast)}: "
        + ("the shares explain all of it." if agrees else "THE SHARES DO NOT ADD UP: do not use.")
    )


def provenance_lines(case: CaseResult, titles: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What the answer was made with, as far as it is known: heading, text, SHA-256 or nothing."""
    known: Mapping[str, Any] = case.provenance
    explained = "as chosen" if known.get("options", {}).get("target") else "the most probable"
    options = f"region scheme {case.scheme}, class explained: {explained}"
    return made_lines(known, input_lines(known, titles), options)


def input_lines(known: Mapping[str, Any], titles: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The inputs of a provenance: heading, name without its folders, SHA-256."""
    return [
        (f"Input: {titles.get(e['role'], e['role'])}", _shown_name(e["path"]), e["sha256"])
        for e in known.get("inputs", ())
    ]


def made_lines(
    known: Mapping[str, Any], inputs: list[tuple[str, str, str]], options: str
) -> list[tuple[str, str, str]]:
    """What a provenance tells: heading, text, SHA-256 or nothing."""
    model = known.get("model", {})
    segments = (
        f"{s['name']} (label {s['label']}, {s['role'] or 'not used'})"
        for s in known.get("segments", ())
    )
    time = known.get("time_utc", "").replace("T", " ").replace("+00:00", " UTC")
    software = {"REACTKD": known.get("reactkd_version", ""), **known.get("libraries", {})}
    lines = [
        ("Model", _words(model.get("name"), model.get("version")), model.get("weights_sha256", "")),
        *inputs,
        ("Segments", ", ".join(segments), ""),
        ("Options", options, ""),
        ("Run", _words(time, "on", known.get("device")) if time else "", ""),
        ("Software", ", ".join(_words(*item) for item in software.items() if item[1]), ""),
    ]
    return [line for line in lines if line[1]]


def _words(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _shown_name(path: str) -> str:
    """The name of a file without its folders, which may name the patient."""
    if not path:
        return "entered values"
    name = PureWindowsPath(path).name  # splits at both kinds of slash
    return name if name.lower().endswith(_IMAGE_SUFFIXES) else "folder of images"
