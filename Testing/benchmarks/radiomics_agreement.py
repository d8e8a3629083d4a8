"""How well the radiomics agree with PyRadiomics' own baseline tables and with IBSI's phantom.

Run with the folder of PyRadiomics' unpacked source distribution (version 3.0.1):
``REACTKD_PYRADIOMICS=... python Testing/benchmarks/radiomics_agreement.py [--write]``. It prints
the table, and ``--write`` puts it into docs/radiomics.md.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from REACTKDLib.geometry import geometry_from_image
from REACTKDLib.prognosis.radiomics import image_features
from REACTKDLib.prognosis.radiomics_grid import resampled_region
from REACTKDLib.prognosis.radiomics_settings import CLASSES, RadiomicsSettings
from REACTKDLib.prognosis.radiomics_shape import shape
from REACTKDLib.types import Volume

PAGE = Path(__file__).parents[2] / "docs" / "radiomics.md"
BEGIN, END = "<!-- agreement: begin -->", "<!-- agreement: end -->"
IMAGES = ("brain1", "brain2", "breast1", "lung1", "lung2")

#: Suffix of a column of the tables -> how PyRadiomics was set there. Fixed bin numbers, 2-D and
#: weighted directions are settings that we do not have.
CONFIGURATIONS = {
    "": "as stored, 25 HU",
    "_resampling": "B-spline to 2 mm",
    "_resegmentation": "within 3 standard deviations",
    "_normalization": "z-scores x 100, bin width 5",
    "_flatRegion": "one grey level",
}
CALLED_EQUAL = 1e-6


@dataclass(frozen=True)
class Compared:
    """One value: of which feature, in which column, ours and theirs."""

    feature: str
    column: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Relative; absolute where theirs is 0."""
        return abs(self.ours - self.theirs) / (abs(self.theirs) or 1.0)


def compare(folder: Path) -> Iterator[Compared]:
    """Every feature of every image and configuration that the tables of ``folder`` have."""
    tables = {
        name: _table(folder / "data" / "baseline" / f"baseline_{name}.csv") for name in CLASSES
    }
    for image in IMAGES:
        ct = sitk.ReadImage(str(folder / "data" / f"{image}_image.nrrd"))
        label = sitk.ReadImage(str(folder / "data" / f"{image}_label.nrrd"))
        for suffix in CONFIGURATIONS:
            ours = _ours(ct, sitk.GetArrayFromImage(label) == 1, suffix)
            for table in tables.values():
                for feature, values in table.items():
                    column, key = image + suffix, feature.removeprefix("original_")
                    if column in values and feature.startswith("original_"):
                        yield Compared(key, column, ours[key], float(values[column]))


def _table(path: Path) -> dict[str, dict[str, str]]:
    """Feature -> column -> text."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["featureName"]: row for row in csv.DictReader(file)}


def _ours(ct: sitk.Image, mask: np.ndarray, suffix: str) -> dict[str, float]:
    array = sitk.GetArrayFromImage(ct).astype(np.float64)
    width, spacing, shift = 25.0, None, 0.0
    if suffix == "":
        shift = 2000.0
    if suffix == "_resampling":
        spacing = (2.0, 2.0, 2.0)
    if suffix == "_resegmentation":
        mean, spread = array[mask].mean(), array[mask].std()
        mask = mask & (np.abs(array - mean) <= 3 * spread)
    if suffix == "_normalization":
        array, width = sitk.GetArrayFromImage(sitk.Normalize(ct)).astype(np.float64) * 100, 5.0
    if suffix == "_flatRegion":
        mask, width = mask & (array >= 0), 5000.0
    settings = RadiomicsSettings(
        bin_width=width, spacing_mm=spacing, image_types=("original",), energy_shift=shift
    )
    region = resampled_region(Volume(array, geometry_from_image(ct)), mask, settings)
    inside = region.mask[region.box]
    i, j, k = region.geometry.spacing_mm
    features, _ = image_features(region.image[region.box], inside, i * j * k, settings)
    return features | {f"shape_{name}": v for name, v in shape(inside, (k, j, i)).items()}


def table(found: list[Compared]) -> str:
    """Markdown: by class, how many values are the same, and every feature that differs."""
    lines = [
        "| class | features | values | the same | largest difference |",
        "|---|---|---|---|---|",
    ]
    for group in CLASSES:
        mine = [one for one in found if one.feature.startswith(f"{group}_")]
        same = sum(one.difference < CALLED_EQUAL for one in mine)
        worst = max(mine, key=lambda one: one.difference)
        number = len({one.feature for one in mine})
        named = "" if worst.difference < CALLED_EQUAL else f" ({worst.feature}, {worst.column})"
        lines.append(
            f"| {group} | {number} | {len(mine)} | {same} | {worst.difference:.2g}{named} |"
        )
    differing: dict[str, list[Compared]] = {}
    for one in found:
        if not one.difference < CALLED_EQUAL:
            differing.setdefault(one.feature, []).append(one)
    lines += ["", "| feature that differs | images | smallest | largest |", "|---|---|---|---|"]
    for feature, ones in sorted(differing.items()):
        parts = sorted(one.difference for one in ones)
        lines.append(f"| {feature} | {len(ones)} | {parts[0]:.3%} | {parts[-1]:.3%} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    write = parser.parse_args().write
    text = table(list(compare(Path(os.environ["REACTKD_PYRADIOMICS"]))))
    print(text)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
