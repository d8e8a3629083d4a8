"""The regions of a case as a table for spreadsheets and statistics programs."""

from __future__ import annotations

import csv
from pathlib import Path

from .types import CaseResult


def write_region_csv(path: Path, case: CaseResult) -> None:
    """Write ``regions.csv``: one row per region, in the case's order, numbers to six digits."""
    # A name from a command line may hold bytes that are no text.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "id",
                "name",
                "kind",
                "volume_ml",
                "centroid_r_mm",
                "centroid_a_mm",
                "centroid_s_mm",
                "mean_hu",
                "sd_hu",
                "longest_diameter_mm",
                "share",
                "share_per_ml",
                "attention",
            ]
            + [f"logit_share_{c.name}" for c in case.classes]
        )
        for region, share in zip(case.regions, case.shares, strict=True):
            diameter = region.longest_diameter_mm
            numbers = [
                region.volume_ml,
                *region.centroid_ras,
                region.mean_hu,
                region.sd_hu,
                "" if diameter is None else diameter,
                share.share,
                share.share_per_ml,
                share.attention,
                *(share.logit_shares[c.name] for c in case.classes),
            ]
            texts = [spreadsheet_text(t) for t in (region.id, region.name, region.kind)]
            writer.writerow(texts + [n if n == "" else f"{n:.6g}" for n in numbers])


#: Signs that begin a formula, also in their full-width forms.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def spreadsheet_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula, whatever white space it begins with."""
    control = text[:1] < " " if text else False
    return f"'{text}" if control or text.lstrip().startswith(_FORMULA) else text
