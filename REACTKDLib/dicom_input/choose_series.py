"""Which CT series of a DICOM folder is read, and in words why.

A series qualifies if it is a CT in HU of several slices on a regular grid; localisers,
projections, dose reports and screen captures never do (:mod:`~.judge_series`). The series
that the segmentation was drawn on is taken before all others; two series that no criterion tells
apart are an error: the user chooses.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OptionError
from ..types import SeriesChoice
from .contrast_phase import PHASES, TITLES
from .files import DicomSeries, list_series
from .judge_series import JudgedSeries, judge, preference

_log = logging.getLogger("REACTKD")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of every series of a folder.

    ``chosen`` : the one to read, and ``why``; or None, and ``problem`` says why none is.
    ``others`` : every other series with the reason against it.
    """

    chosen: JudgedSeries | None
    why: str
    others: tuple[tuple[JudgedSeries, str], ...]
    problem: InputError | None = None


def check_phase(phase: str | None) -> None:
    """Raises OptionError for a phase that does not exist."""
    if phase is not None and phase not in PHASES:
        raise OptionError(f"Unknown phase {phase!r}.", f"Choose one of {', '.join(PHASES)}.")


def judge_folder(
    folder: Path,
    *,
    series_uid: str | None = None,
    phase: str | None = None,
    drawn_on: Collection[str] = (),
) -> Verdict:
    """Every CT series of a folder and what speaks for it or against it.

    Parameters
    ----------
    series_uid : the user's choice; nothing else counts then, as long as it is a CT.
    phase : only series of this phase (``PHASES``) qualify.
    drawn_on : UIDs of the series that the segmentation was drawn on.

    Raises
    ------
    InputError : as :func:`REACTKDLib.dicom_input.files.list_series`.
    OptionError : a phase that does not exist.
    """
    check_phase(phase)
    judged = judge(folder, list_series(folder))
    if not judged:
        return _none(judged, f"{folder} holds no DICOM images.",
                     "Give the folder that the scanner or PACS exported.")  # fmt: skip
    if series_uid is not None:
        return _by_uid(folder, judged, series_uid)
    good = [j for j in judged if not j.why_not]
    if not good:
        broken = [j.error for j in judged if j.error is not None]
        reasons = "; ".join(f"{j.series}: {j.why_not}" for j in judged)
        if len(broken) == 1:
            return dataclasses.replace(_none(judged, ""), problem=broken[0])
        return _none(judged, f"{folder} has no CT series of several slices that can be read.",
                     f"It has: {reasons}.")  # fmt: skip
    drawn = [j for j in good if j.series.uid in drawn_on]
    if len(drawn) == 1:
        return _verdict(judged, drawn[0], "the segmentation was drawn on it",
                        lambda j: "the segmentation was drawn on another")  # fmt: skip
    studies = {j.series.tags["StudyInstanceUID"] for j in good}
    if len(studies) > 1:
        listing = "; ".join(str(j.series) for j in good)
        return _none(judged, f"{folder} has CT series of {len(studies)} studies: {listing}.",
                     "Give the folder of one study, or choose by --series.")  # fmt: skip
    if phase is not None:
        there = "; ".join(f"{j.series}: {j.phase}" for j in good)
        wanted = f"{TITLES[phase]} is asked for"
        good = [j for j in good if j.phase.name == phase]
        judged = [
            j if j in good or j.why_not else dataclasses.replace(j, why_not=f"{j.phase}; {wanted}")
            for j in judged
        ]
        if not good:
            return _none(judged, f"{folder} has no CT series of the {TITLES[phase]}.",
                         f"It has: {there}. Choose by --series.")  # fmt: skip
    return _best(folder, judged, good)


def _none(judged: list[JudgedSeries], message: str, advice: str = "") -> Verdict:
    others = tuple((j, j.why_not or str(j.phase)) for j in judged)
    return Verdict(None, "", others, InputError(message, advice))


def _verdict(
    judged: list[JudgedSeries],
    chosen: JudgedSeries,
    why: str,
    why_not: Callable[[JudgedSeries], str],
) -> Verdict:
    others = tuple((j, j.why_not or why_not(j)) for j in judged if j is not chosen)
    return Verdict(chosen, why, others)


def _by_uid(folder: Path, judged: list[JudgedSeries], uid: str) -> Verdict:
    listing = "; ".join(str(j.series) for j in judged)
    named = [j for j in judged if j.series.uid == uid]
    if not named:
        return _none(judged, f"{folder} has no series {uid}.", f"It has: {listing}.")
    chosen = next((j for j in named if not j.why_not), named[0])
    # A derived image or a secondary capture may be asked for; another modality may not.
    if chosen.series.modality not in ("CT", ""):
        return _none(judged, f"The series {chosen.series} is no CT.", f"{folder} has: {listing}.")
    return _verdict(judged, chosen, "chosen by its UID", lambda j: f"{j.phase}; not asked for")


def _best(folder: Path, judged: list[JudgedSeries], good: list[JudgedSeries]) -> Verdict:
    best = good[0]
    for other in good[1:]:
        if preference(other, best)[0] > 0:
            best = other
    # Equality has a tolerance and is not transitive: the best must beat each of the others.
    against = {id(j): preference(best, j) for j in good if j is not best}
    equal = [j for j in good if j is not best and against[id(j)][0] <= 0]
    if equal:
        listing = "; ".join(f"{j.series}, {j.phase}" for j in good if j is best or j in equal)
        return _none(judged, f"{folder} has {1 + len(equal)} CT series between which nothing"
                     f" decides: {listing}.",
                     "Choose one by its series UID (--series), or by --phase.")  # fmt: skip
    reasons = list(dict.fromkeys(why for _, why in against.values()))
    what = f"{best.phase}, slices every {best.grid.spacing_mm[2]:.2f} mm"
    why = f"{what}; preferred for: {', '.join(reasons)}" if reasons else f"the only one; {what}"

    def why_not(other: JudgedSeries) -> str:
        return f"{other.phase}; the chosen one is preferred for: {against[id(other)][1]}"

    return _verdict(judged, best, why, why_not)


def choose_series(
    folder: Path,
    series_uid: str | None = None,
    *,
    phase: str | None = None,
    drawn_on: Collection[str] = (),
) -> tuple[DicomSeries, SeriesChoice]:
    """The CT series of a folder to read, and why; parameters as :func:`judge_folder`.

    The choice is logged (series number and description, nothing about the patient).

    Raises
    ------
    InputError : no DICOM images, no such UID, a UID of another modality, no CT volume that can be
        read, several between which nothing decides, several studies.
    OptionError : a phase that does not exist.
    """
    verdict = judge_folder(folder, series_uid=series_uid, phase=phase, drawn_on=drawn_on)
    if verdict.problem is not None:
        raise verdict.problem
    assert verdict.chosen is not None
    series = verdict.chosen.series
    _log.info(
        'DICOM: CT series number %s, "%s", %d slices, chosen among %d series: %s',
        series.number or "-",
        series.description,
        series.count,
        1 + len(verdict.others),
        verdict.why,
    )
    return series, SeriesChoice(
        uid=series.uid,
        description=series.description,
        why=verdict.why,
        others=tuple(f"{j.series}: {why}" for j, why in verdict.others),
    )
