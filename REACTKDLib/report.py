"""A result folder: written whole or not at all, read back to the same value.

Files: ``result.json`` (schema in ``Resources/Schemas/result-1.json``), ``regions.csv``,
``graph.json`` (node-link), ``attention.nrrd`` and ``regions.seg.nrrd`` on the CT's grid,
``provenance.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, OutputError
from .geometry import image_from_array
from .palette import region_colors
from .region_csv import write_region_csv
from .result_records import case_from_documents
from .types import RESEARCH_USE, CaseResult, PredictionSet, Volume

SCHEMA_VERSION = 1
RESULT, CSV, GRAPH = "result.json", "regions.csv", "graph.json"
ATTENTION, REGIONS, PROVENANCE = "attention.nrrd", "regions.seg.nrrd", "provenance.json"
RESULT_FILES = (RESULT, CSV, GRAPH, ATTENTION, REGIONS, PROVENANCE)
#: What a result of prognosis has in the place of ``result.json``.
PROGNOSIS, CONTRIBUTIONS = "prognosis.json", "contributions.csv"

#: Folder that ``reactkd scene`` makes inside a result.
SCENE = "scene"
#: Folder of DICOM objects that a batch makes inside a result.
DICOM = "dicom"

#: Fastest zlib level: the volumes are mostly zeros and small at any level.
_COMPRESSION_LEVEL = 1


def write_result(case: CaseResult, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write a result into a new folder and return it.

    Raises
    ------
    OutputError : the folder exists (without ``overwrite``), holds files that are not a result's,
        or cannot be written (disk full, no permission). Nothing is left behind then.
    """
    folder = Path(folder).absolute()
    check_output(folder, overwrite=overwrite)
    with atomic_folder(folder) as partial:
        write_json(partial / RESULT, result_document(case))
        write_json(partial / PROVENANCE, case.provenance)
        write_regions(case, partial)
    return folder


def write_regions(case: CaseResult, folder: Path) -> None:
    """Write what a result says about regions beside its document: table, graph, volumes."""
    with ThreadPoolExecutor(2) as pool:
        labels, metadata = case.region_labels, _segment_metadata(case)
        images = [
            pool.submit(_write_image, folder / ATTENTION, case.attention, {}),
            pool.submit(_write_image, folder / REGIONS, labels, metadata),
        ]
        write_region_csv(folder / CSV, case)
        write_json(folder / GRAPH, graph_document(case))
        for image in images:
            image.result()


def read_regions(
    folder: Path, document: Mapping[str, Any], provenance: Mapping[str, Any]
) -> CaseResult:
    """The case of ``document`` (:func:`result_document`) and of what :func:`write_regions` wrote.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, RecursionError : a file is missing or damaged.
    """
    graph = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
    attention = _read_image(folder / ATTENTION, "attention", np.float32)
    labels = _read_image(folder / REGIONS, "regions", np.uint8)
    return case_from_documents(document, graph, provenance, attention, labels)


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done for it.

    Raises
    ------
    OutputError : as :func:`write_result`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Give another output folder.")
    names = {p.name for p in folder.iterdir()}
    if names and not overwrite:
        raise OutputError(
            f"{folder} exists and is not empty.", "Give a new folder, or --overwrite for a result."
        )
    foreign = sorted(names - {*RESULT_FILES, PROGNOSIS, CONTRIBUTIONS, SCENE, DICOM})
    if foreign:
        raise OutputError(
            f"{folder} holds files that REACTKD did not write: {', '.join(foreign[:5])}.",
            "Move them away, or give another folder; REACTKD deletes only its own files.",
        )


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder that takes the place of ``folder`` when the block ends well.

    On any error the hidden folder goes and ``folder`` is as it was.

    Raises
    ------
    OutputError : the file system refuses (disk full, permission).
    """
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        partial.chmod(0o755)
        yield partial
        if folder.exists():
            _exchange(folder, partial)
        else:
            os.replace(partial, folder)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Free space on the disk, or give another output folder.",
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _exchange(folder: Path, partial: Path) -> None:
    """Put ``partial`` in the place of ``folder`` and remove what was there; both or neither."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
    old = aside / folder.name
    try:
        os.replace(folder, old)
        os.replace(partial, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def result_document(case: CaseResult) -> dict[str, Any]:
    """The content of ``result.json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "statement": RESEARCH_USE,
        "simulated_model": case.simulated_model,
        "case_id": case.case_id,
        "task": case.task_title,
        "classes": [{"name": c.name, "title": c.title} for c in case.classes],
        "probabilities": dict(case.probabilities),
        "predicted": case.predicted.name,
        "logits": dict(case.logits),
        "bias": dict(case.bias),
        "target": case.target,
        "scheme": case.scheme,
        "modalities": list(case.modalities),
        "contrast": case.contrast,
        "reference_contrast": case.reference_contrast,
        "regions": [
            {
                "id": region.id,
                "name": region.name,
                "kind": region.kind,
                "label": region.label,
                "volume_ml": region.volume_ml,
                "centroid_ras": list(region.centroid_ras),
                "mean_hu": region.mean_hu,
                "sd_hu": region.sd_hu,
                "longest_diameter_mm": region.longest_diameter_mm,
                "share": share.share,
                "share_per_ml": share.share_per_ml,
                "logit_shares": dict(share.logit_shares),
                "attention": share.attention,
            }
            for region, share in zip(case.regions, case.shares, strict=True)
        ],
        "outside_share": case.outside_share,
        "outside_logit_shares": dict(case.outside_logit_shares),
        "prediction_set": _set_document(case.prediction_set),
        "notices": [{"code": n.code, "severity": n.severity, "text": n.text} for n in case.notices],
    }


def _set_document(possible: PredictionSet | None) -> dict[str, Any] | None:
    if possible is None:
        return None
    return {"classes": list(possible.classes), "coverage": possible.coverage}


def graph_document(case: CaseResult) -> dict[str, Any]:
    """The content of ``graph.json``: node-link form, as ``networkx.node_link_graph`` reads it."""
    return {
        "directed": False,
        "multigraph": False,
        "graph": {"target": case.target, "scheme": case.scheme},
        "nodes": [
            {
                "id": region.id,
                "name": region.name,
                "kind": region.kind,
                "volume_ml": region.volume_ml,
                "centroid_ras": list(region.centroid_ras),
                "share": share.share,
                "features": [float(v) for v in features],
            }
            for region, share, features in zip(
                case.regions, case.shares, case.graph.features, strict=True
            )
        ],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "similarity": edge.similarity,
                "contact_area_mm2": edge.contact_area_mm2,
                "distance_mm": edge.distance_mm,
            }
            for edge in case.graph.edges
        ],
    }


def read_result(folder: Path | str) -> CaseResult:
    """Read a result folder.

    Raises
    ------
    InputError : not a result folder, a file missing or damaged, another schema version.
    """
    folder = Path(folder)
    if not (folder / RESULT).is_file():
        raise InputError(
            f"{folder} is not a result: {RESULT} is missing.", "Run 'reactkd predict'."
        )
    try:
        document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{folder}: result schema {document['schema_version']}, this REACTKD reads"
                f" {SCHEMA_VERSION}.",
                "Run 'reactkd predict' again.",
            )
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return read_regions(folder, document, provenance)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder}: the result is damaged: {type(error).__name__} {error}.",
            "Run 'reactkd predict' again.",
        ) from error


def _read_image(path: Path, name: str, kind: type[np.generic]) -> Volume:
    from .read_image import read_image  # late: the panel imports this module when Slicer starts

    try:
        image = read_image(path, name)
    except InputError as error:
        raise ValueError(error.message) from error
    if image.array.dtype != kind or image.array.ndim != 3:
        raise ValueError(f"{path.name} has values of type {image.array.dtype}")
    return Volume(image.array, image.geometry, name)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object for people and programs."""
    text = json.dumps(dict(document), indent=1, ensure_ascii=False, allow_nan=False)
    # A file name may hold bytes that are no text; so escaped, they are JSON and are read back.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _segment_metadata(case: CaseResult) -> dict[str, str]:
    """Header fields by which Slicer reads a labelmap as a segmentation with names and colours."""
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    colors = region_colors(case.regions)
    for n, region in enumerate(case.regions):
        fields |= {
            f"Segment{n}_ID": region.id,
            f"Segment{n}_Name": region.name,
            f"Segment{n}_NameAutoGenerated": "0",
            f"Segment{n}_Color": " ".join(f"{c:.3f}" for c in colors[region.id]),
            f"Segment{n}_ColorAutoGenerated": "0",
            f"Segment{n}_LabelValue": str(region.label),
            f"Segment{n}_Layer": "0",
        }
    return fields


def _write_image(path: Path, volume: Volume, metadata: Mapping[str, str]) -> None:
    import SimpleITK as sitk

    image = image_from_array(volume.array, volume.geometry)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    try:
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=_COMPRESSION_LEVEL)
    except RuntimeError as error:
        raise OutputError(
            f"{path.name} cannot be written; the disk may be full.",
            "Free space on the disk, or give another output folder.",
        ) from error
