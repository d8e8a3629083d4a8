"""Batches of simulated work: the name of a case says what becomes of it."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from REACTKDLib import __version__
from REACTKDLib.batch.run import Counts
from REACTKDLib.batch.task import Job, Outcome
from REACTKDLib.geometry import Geometry, image_from_array
from REACTKDLib.report import PROVENANCE, RESULT

CLASSES = ("well", "moderate", "poor")
COLUMNS = ("case", "ct", "segmentation", "pet_fdg", "pet_acetate", "series")


def simulated(job: Job, folder: Path) -> None:
    """Work of no time that leaves what the tables need.

    ``kills-*`` ends its process, ``once-*`` does so the first time, ``hangs-*`` never ends,
    ``fails-*`` raises an error that nobody foresaw.
    """
    kind = job.case.name.split("-")[0]
    if kind == "kills" or (kind == "once" and _first_time(job)):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hangs":
        time.sleep(3600)
    if kind == "fails":
        raise ZeroDivisionError("surprise")
    folder.mkdir()
    (folder / RESULT).write_text(json.dumps(result_document(job)), encoding="utf-8")
    made = {"device": "cpu", "model": {"name": "m", "version": "1"}, "reactkd_version": __version__}
    (folder / PROVENANCE).write_text(json.dumps(made), encoding="utf-8")


def _first_time(job: Job) -> bool:
    mark = job.store.folder.with_name(f"{job.case.name}.mark")
    if mark.exists():
        return False
    mark.touch()
    return True


def result_document(job: Job) -> dict[str, object]:
    """What ``simulated`` says of a case: numbers that follow from its row."""
    second = job.case.row % 7 / 100
    return {
        "predicted": "well",
        "probabilities": {"well": 0.9 - second, "moderate": 0.1, "poor": second},
        "prediction_set": {"classes": ["well"], "coverage": 0.9},
        "target": "well",
        "modalities": ["ct"],
        "notices": [],
        "regions": [
            {"kind": "lesion", "volume_ml": 4.5, "share": 0.25, "longest_diameter_mm": 21.0},
            {"kind": "lesion", "volume_ml": 1.0, "share": -0.5, "longest_diameter_mm": 33.0},
        ],
        "outside_share": 0.125,
    }


def write_manifest(folder: Path, names: Iterable[str]) -> Path:
    """``manifest.csv`` of cases that all have the same two tiny images."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    image = image_from_array(
        np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), (1, 1, 1), (0,) * 3)
    )
    for file in ("ct.nii.gz", "segmentation.nii.gz"):
        sitk.WriteImage(image, str(folder / file))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([name, "ct.nii.gz", "segmentation.nii.gz", "", "", ""] for name in names)
    return folder / "manifest.csv"


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.outcomes: list[Outcome] = []
        self.counts = Counts()

    def message(self, text: str) -> None:
        self.messages.append(text)

    def checked(self, count: int) -> None:
        self.counts.total = count

    def ended(self, outcome: Outcome | None, counts: Counts) -> None:
        self.counts = counts
        if outcome is not None:
            self.outcomes.append(outcome)

    @property
    def failures(self) -> dict[str, str]:
        """Class of error by case."""
        return {o.case.name: o.failure.error for o in self.outcomes if o.failure is not None}


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
