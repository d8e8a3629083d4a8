"""Studies and results as files between REACTKD's own processes.

Plain ``.npy`` arrays, which are mapped into memory rather than read, and JSON beside them. For
results that people keep, see :mod:`REACTKDLib.report`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .geometry import Geometry
from .prognosis.result import prognosis_document, prognosis_from_documents
from .prognosis.types import PrognosisResult
from .report import graph_document, result_document
from .result_records import case_from_documents
from .typed_json import build
from .types import (
    CaseResult,
    Notice,
    Segment,
    Segmentation,
    SeriesChoice,
    SourceFile,
    Study,
    Volume,
)

_STUDY, _CASE, _PROGNOSIS = "study.json", "case.json", "prognosis.json"


def send_study(study: Study, folder: Path) -> None:
    """Write a study into an empty folder."""
    labels = study.segmentation
    document = {
        "case_id": study.case_id,
        "volumes": {
            name: _send(volume, folder, f"volume_{n}")
            for n, (name, volume) in enumerate(study.volumes.items())
        },
        "segmentation": _send(Volume(labels.labels, labels.geometry), folder, "segmentation"),
        "segments": [vars(segment) for segment in labels.segments],
        "sources": [vars(source) for source in study.sources],
        "series": {name: vars(choice) for name, choice in study.series.items()},
        "notices": [vars(notice) for notice in study.notices],
    }
    (folder / _STUDY).write_text(json.dumps(document), encoding="utf-8")


def receive_study(folder: Path) -> Study:
    """Read what :func:`send_study` wrote; the arrays stay on the disk until they are used."""
    document = json.loads((folder / _STUDY).read_text(encoding="utf-8"))
    labels = _receive(document["segmentation"], folder)
    return Study(
        volumes={name: _receive(v, folder) for name, v in document["volumes"].items()},
        segmentation=Segmentation(
            labels.array, labels.geometry, tuple(Segment(**s) for s in document["segments"])
        ),
        case_id=document["case_id"],
        sources=tuple(SourceFile(**s) for s in document["sources"]),
        series={
            name: build(SeriesChoice, choice, "series")
            for name, choice in document["series"].items()
        },
        notices=tuple(Notice(**n) for n in document["notices"]),
    )


def send_case(case: CaseResult, folder: Path) -> None:
    """Write a result into an empty folder."""
    document = {
        "result": result_document(case),
        "graph": graph_document(case),
        "provenance": dict(case.provenance),
        "attention": _send(case.attention, folder, "attention"),
        "region_labels": _send(case.region_labels, folder, "region_labels"),
    }
    (folder / _CASE).write_text(json.dumps(document), encoding="utf-8")


def receive_case(folder: Path) -> CaseResult:
    """Read what :func:`send_case` wrote; the arrays stay on the disk until they are used."""
    document = json.loads((folder / _CASE).read_text(encoding="utf-8"))
    return case_from_documents(
        document["result"],
        document["graph"],
        document["provenance"],
        _receive(document["attention"], folder),
        _receive(document["region_labels"], folder),
    )


def send_prognosis(result: PrognosisResult, folder: Path) -> None:
    """Write a prognosis into an empty folder, its CT's case beside it."""
    document = {
        "result": prognosis_document(result),
        "provenance": dict(result.provenance),
        "ct": result.ct_case is not None,
    }
    (folder / _PROGNOSIS).write_text(json.dumps(document), encoding="utf-8")
    if result.ct_case is not None:
        send_case(result.ct_case, folder)


def receive_prognosis(folder: Path) -> PrognosisResult:
    """Read what :func:`send_prognosis` wrote; the arrays stay on the disk until they are used."""
    document = json.loads((folder / _PROGNOSIS).read_text(encoding="utf-8"))
    case = receive_case(folder) if document["ct"] else None
    return prognosis_from_documents(document["result"], document["provenance"], case)


def _send(volume: Volume, folder: Path, stem: str) -> dict[str, Any]:
    file = f"{stem}.npy"
    np.save(folder / file, volume.array, allow_pickle=False)
    return {"file": file, "geometry": vars(volume.geometry), "name": volume.name}


def _receive(entry: dict[str, Any], folder: Path) -> Volume:
    array = np.load(folder / entry["file"], mmap_mode="r", allow_pickle=False)
    geometry: Geometry = build(Geometry, entry["geometry"], "geometry")
    return Volume(array, geometry, entry["name"])
