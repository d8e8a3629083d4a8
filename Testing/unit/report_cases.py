"""A case by hand for tests of its report: three classes, two regions, answers that are known."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from REACTKDLib.case_report_words import SIMULATED_MODEL
from REACTKDLib.geometry import Geometry
from REACTKDLib.types import (
    CaseResult,
    ClassInfo,
    Notice,
    PredictionSet,
    Region,
    RegionGraph,
    RegionShare,
    Volume,
)

#: One grey pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNwAAAAQgBBKTf07wAAAABJRU5ErkJggg=="
)
TITLES = {"ct": "contrast CT", "segmentation": "segmentation"}
CLASSES = tuple(ClassInfo(n, f"{n} differentiated") for n in ("well", "moderately", "poorly"))
SIMULATED = Notice(SIMULATED_MODEL, "warning", "Trained on simulated images only.")
PROVENANCE = {
    "reactkd_version": "0.1.0",
    "time_utc": "2026-01-02T03:04:05+00:00",
    "model": {"name": "grade", "version": "1.2", "weights_sha256": "ab" * 32},
    "inputs": [
        {"role": "ct", "path": "/data/DOE^JANE/series 1", "sha256": "01" * 32},
        {"role": "segmentation", "path": "C:\\DOE\\liver.seg.nrrd", "sha256": "02" * 32},
        {"role": "pet_fdg", "path": "/DOE/pet.nii.gz", "sha256": "03" * 32},
    ],
    "segments": [{"label": 1, "name": "Leber", "role": "liver"}],
    "options": {"scheme": "anatomical", "target": None, "device": "auto"},
    "device": "cpu",
    "libraries": {"torch": "2.9"},
}


def region(number: int, kind: str, share: float) -> tuple[Region, RegionShare]:
    name, ml = f"{kind.capitalize()} {number}", 10.0 * number
    diameter = 24.6 if kind == "lesion" else None
    place = (1.0, 2.0, 3.0)
    logits = dict.fromkeys((c.name for c in CLASSES), share / 3)
    return (
        Region(f"{kind}-{number}", name, kind, number, ml, place, -4.6, 9.0, diameter),
        RegionShare(f"{kind}-{number}", share, share / ml, logits, 0.5),
    )


def make_case(*parts: tuple[Region, RegionShare], **changes: Any) -> CaseResult:
    parts = parts or (region(1, "parenchyma", -0.25), region(2, "lesion", 1.5))
    regions, shares = zip(*parts, strict=True)
    geometry = Geometry((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    fields = dict(
        case_id="case 7",
        task_title="Grade",
        classes=CLASSES,
        probabilities={"well": 0.001, "moderately": 0.279, "poorly": 0.72},
        logits=dict.fromkeys((c.name for c in CLASSES), 0.0),
        bias=dict.fromkeys((c.name for c in CLASSES), 0.0),
        target="poorly",
        scheme="anatomical",
        regions=regions,
        shares=shares,
        outside_share=0.05,
        outside_logit_shares=dict.fromkeys((c.name for c in CLASSES), 0.0),
        contrast=math.fsum([s.share for s in shares]) + 0.05 - 0.4,
        reference_contrast=-0.4,
        graph=RegionGraph(tuple(r.id for r in regions), np.eye(len(regions)), ()),
        attention=Volume(np.zeros((2, 2, 2), np.float32), geometry),
        region_labels=Volume(np.zeros((2, 2, 2), np.uint8), geometry),
        modalities=("ct", "pet_fdg"),
        simulated_model=True,
        notices=(Notice("a", "info", "Not given."), Notice("b", "warning", "Unusual."), SIMULATED),
        provenance=PROVENANCE,
        prediction_set=PredictionSet(("poorly", "moderately"), 0.9),
    )
    return CaseResult(**(fields | changes))
