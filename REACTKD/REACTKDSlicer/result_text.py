"""A result in words and rows, as the panel shows it."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from REACTKDLib.types import CaseResult, ClassInfo


@dataclass(frozen=True)
class RegionRow:
    """One row of the table. ``region_id`` is None for what lies outside all regions."""

    region_id: str | None
    name: str
    volume_ml: float | None
    mean_hu: float | None
    share: float


def headline(result: CaseResult) -> str:
    """The most probable class with its probability."""
    predicted = result.predicted
    return _("Most probable: {title} ({percent})").format(
        title=predicted.title, percent=_percent(result.probabilities[predicted.name])
    )


def other_classes(result: CaseResult) -> str:
    """The other classes, the most probable first."""

    def probability(info: ClassInfo) -> float:
        return result.probabilities[info.name]

    others = [c for c in result.classes if c is not result.predicted]
    ranked = sorted(others, key=probability, reverse=True)
    return ", ".join(f"{c.title} {_percent(probability(c))}" for c in ranked)


def inputs_line(result: CaseResult, titles: dict[str, str]) -> str:
    """Whose answer it is and what it rests on; ``titles`` names the modalities for people."""
    used = ", ".join(titles.get(name, name) for name in result.modalities)
    return _("{case}: {task}, from {inputs}").format(
        case=result.case_id, task=result.task_title, inputs=used
    )


def shares_line(result: CaseResult) -> str:
    """What the shares in the table mean."""
    return _("Regions that speak for “{title}” have a positive share (logit units).").format(
        title=result.class_title(result.target)
    )


def notice_lines(result: CaseResult) -> tuple[str, ...]:
    """The notices, warnings first."""
    ranked = sorted(result.notices, key=lambda n: n.severity != "warning")
    marks = {"warning": "\N{WARNING SIGN}\N{VARIATION SELECTOR-15} ", "info": ""}
    return tuple(f"{marks[n.severity]}{n.text}" for n in ranked)


def region_rows(result: CaseResult) -> tuple[RegionRow, ...]:
    """Regions, the largest share first, then what lies outside all of them."""
    rows = [
        RegionRow(region.id, region.name, region.volume_ml, region.mean_hu, share.share)
        for region, share in result.ranked
    ]
    rows.append(RegionRow(None, _("Outside all regions"), None, None, result.outside_share))
    return tuple(rows)


def _percent(probability: float) -> str:
    # No-break space: a number and its unit stay on one line.
    return f"{100 * probability:.0f}\N{NO-BREAK SPACE}%"
