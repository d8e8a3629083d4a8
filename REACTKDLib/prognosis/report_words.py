"""What the report of a prognosis says: sentences and cells as plain text, nothing escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..case_report_words import input_lines, made_lines, percent, signed
from ..types import Notice
from .notices import SIMULATED_MODEL
from .titles import TITLES
from .types import Contribution, PrognosisResult

PART, ADDS, DIRECTION = "Part", "Adds (log odds)", "Blue: towards the outcome"
MODALITY, VALUE = "Modality", "Value"
#: How many variables and families a page shows.
LARGEST = 15


def outcome(result: PrognosisResult) -> str:
    """The outcome in words, with its time."""
    if result.outcome_title:
        return result.outcome_title
    title = next(c.title for c in result.classes if c.name == result.outcome)
    return f"{title} ({result.horizon})" if result.horizon else title


def headline(result: PrognosisResult) -> str:
    """The answer in one line."""
    return f"{outcome(result)}: {percent(result.probability)}"


def simulated_warning(result: PrognosisResult) -> str:
    """What a reader must know of a model trained on simulated patients; empty for others."""
    if not result.simulated_model:
        return ""
    own = (notice.text for notice in result.notices if notice.code == SIMULATED_MODEL)
    return next(own, "This model was trained on simulated patients only.")


def other_notices(result: PrognosisResult) -> list[Notice]:
    """The notices without :func:`simulated_warning`, warnings first."""
    rest = [n for n in result.notices if not (result.simulated_model and n.code == SIMULATED_MODEL)]
    return sorted(rest, key=lambda notice: notice.severity != "warning")


def meaning(result: PrognosisResult) -> str:
    """What a contribution is."""
    return (
        f"A contribution is what a part of the input adds to the log odds of “{outcome(result)}”,"
        " on average over the orders in which the parts may become known; what is not yet known is"
        " missing. Positive speaks for the outcome, negative against it. It explains this model,"
        " not the disease."
    )


def amount(one: Contribution) -> str:
    """A contribution with its standard error, where it is an estimate."""
    if one.error is None:
        return f"{signed(one.logit)} (error unknown)"
    return signed(one.logit) + (f" ± {one.error:.3f}" if one.error > 0 else "")


def cells(one: Contribution, columns: tuple[str, ...]) -> list[str]:
    """The cells of ``columns``, of :data:`MODALITY` and :data:`VALUE`."""
    known = {MODALITY: TITLES.get(one.modality, one.modality), VALUE: one.value}
    return [known[name] for name in columns]


def sum_sentence(result: PrognosisResult) -> str:
    """Whether the contributions explain the whole answer, with the numbers."""
    total = result.base_logit + math.fsum(one.logit for one in result.modality_contributions)
    agrees = math.isclose(total, result.logit, rel_tol=1e-3, abs_tol=1e-3)
    return (
        f"Log odds with nothing known {signed(result.base_logit)}, with all contributions"
        f" {signed(total)}. The answer's log odds are {signed(result.logit)}: "
        + ("they explain all of it." if agrees else "THEY DO NOT ADD UP: do not use.")
    )


def rest_sentence(result: PrognosisResult) -> str:
    """What the table of the largest leaves out."""
    rest = result.ranked[LARGEST:]
    estimated = any(one.error != 0 for one in result.contributions)
    text = ""
    if rest:
        total = math.fsum(one.logit for one in rest)
        text = f"{len(rest)} more add {signed(total)} together; contributions.csv lists all. "
    text += "The CT is one part: its regions stand below. " if result.ct_case is not None else ""
    text += "± is the standard error of an estimate over random orders." if estimated else ""
    return text or "All are shown."


def missing_sentence(result: PrognosisResult) -> str:
    """That variables are missing, and what that means."""
    count = len(result.missing)
    what = "1 variable that the model knows is" if count == 1 else f"{count} variables are"
    place = "its" if count == 1 else "their"
    return f"{what} missing. Nothing was put in {place} place; the model was trained to do without."


def regions_meaning(result: PrognosisResult) -> str:
    """What the shares of the regions are."""
    return (
        f"How the CT's part is divided among regions: shares in the contrast of “{outcome(result)}”"
        " with the other outcome, measured from a CT that is missing, before calibration, the other"
        " modalities being as they are. They do not sum to the contribution of the CT above, which"
        " averages over what else is known."
    )


def provenance_lines(result: PrognosisResult) -> list[tuple[str, str, str]]:
    """What the answer was made with: heading, text, SHA-256 or nothing."""
    known: Mapping[str, Any] = result.provenance
    options = known.get("options", {})
    orders = f"{options['pairs']} pairs of orders" if options else ""
    if options.get("tolerance"):
        orders = f"at most {orders}, fewer within a standard error of {options['tolerance']:g}"
    if options:
        orders += f", seed {options['seed']}"
    regions = [] if result.ct_case is None else [f"region scheme {result.ct_case.scheme}"]
    text = ", ".join([*regions, orders])
    return made_lines(known, input_lines(known, TITLES), text)


def checksum(sha256: str) -> str:
    """A checksum as HTML: hexadecimal digits need no escape, anything else does not pass."""
    digits = sha256 if all(c in "0123456789abcdef" for c in sha256) else ""
    return f' <span class="sha">SHA-256 {digits}</span>' if digits else ""
