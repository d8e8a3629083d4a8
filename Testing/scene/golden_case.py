"""The case of the golden pictures: a simulated patient with the product's regions and views.

Shares, attention and graph are made by formula, so that another model changes no picture.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from REACTKDLib.model_package import load_package
from REACTKDLib.regions import make_regions
from REACTKDLib.roi import locate_roi
from REACTKDLib.simulation import Scanner, demo_parameters, simulate_case
from REACTKDLib.types import (
    CaseResult,
    ClassInfo,
    Edge,
    Notice,
    PredictionSet,
    Region,
    RegionGraph,
    RegionShare,
    Study,
    Volume,
)

CLASSES = (
    ClassInfo("well", "Well differentiated"),
    ClassInfo("moderate", "Moderately differentiated"),
    ClassInfo("poor", "Poorly differentiated"),
)
SIMULATED = Notice("simulated_model", "warning", "This model was trained on simulated images only.")


def golden_study() -> Study:
    """CT and segmentation of a simulated patient with two lesions."""
    grid = Scanner(spacing_mm=(2.5, 2.5, 3.5)).geometry()
    study = simulate_case(demo_parameters(), 20, grid=grid).study("Simulated patient")
    return dataclasses.replace(study, volumes={"ct": study.ct})


def golden_case(study: Study) -> CaseResult:
    """An answer with a prediction set of one class."""
    package = load_package()
    roi = locate_roi(study, package)
    regions = make_regions(roi, study.ct, package)
    labels = np.zeros(study.ct.geometry.array_shape, np.uint8)
    labels[roi.slices] = regions.labels
    shares = tuple(_share(region) for region in regions.regions)
    weight = np.zeros(labels.max() + 1)
    for region, share in zip(regions.regions, shares, strict=True):
        weight[region.label] = max(0.0, share.share)
    density = ndimage.gaussian_filter(20 * weight[labels], 6 / np.array([3.5, 2.5, 2.5]))
    thirds = dict.fromkeys(("well", "moderate", "poor"), 0.0)
    return CaseResult(
        case_id=study.case_id,
        task_title="Hepatocellular carcinoma grade",
        classes=CLASSES,
        probabilities={"well": 0.003, "moderate": 0.247, "poor": 0.75},
        logits=thirds,
        bias=thirds,
        target="poor",
        scheme="anatomical",
        regions=regions.regions,
        shares=shares,
        outside_share=0.01,
        outside_logit_shares=thirds,
        contrast=sum(share.share for share in shares) + 0.01,
        reference_contrast=0.0,
        graph=_graph(regions.regions, regions.contact_area_mm2),
        attention=Volume(density.astype(np.float32), study.ct.geometry, "attention"),
        region_labels=Volume(labels, study.ct.geometry, "regions"),
        modalities=("ct",),
        simulated_model=True,
        notices=(SIMULATED, *regions.notices),
        prediction_set=PredictionSet(("poor",), 0.9),
    )


def case_without_lesion(study: Study) -> CaseResult:
    """The same patient as if nobody had segmented the lesions; the model abstains."""
    lesions = [s.label for s in study.segmentation.segments if s.role == "lesion"]
    liver = next(s.label for s in study.segmentation.segments if s.role == "liver")
    labels = np.where(np.isin(study.segmentation.labels, lesions), liver, study.segmentation.labels)
    segmentation = dataclasses.replace(study.segmentation, labels=labels)
    case = golden_case(dataclasses.replace(study, segmentation=segmentation))
    return dataclasses.replace(
        case,
        probabilities={"well": 0.31, "moderate": 0.35, "poor": 0.34},
        prediction_set=PredictionSet(("well", "moderate", "poor"), 0.9),
    )


def _share(region: Region) -> RegionShare:
    side = np.sign(region.centroid_ras[0] - 60.0)
    share = {"lesion": 1.4, "rim": 0.5, "parenchyma": 0.12 * side}[region.kind] / (
        2 if region.id.endswith("2") else 1
    )
    return RegionShare(region.id, float(share), float(share / region.volume_ml), {}, 0.5)


def _graph(regions: tuple[Region, ...], contact: np.ndarray) -> RegionGraph:
    edges = []
    for a, first in enumerate(regions):
        for b in range(a + 1, len(regions)):
            second = regions[b]
            apart = float(np.linalg.norm(np.subtract(first.centroid_ras, second.centroid_ras)))
            alike = float(np.cos(apart / 60.0))
            edges.append(Edge(first.id, second.id, alike, float(contact[a, b]), apart))
    return RegionGraph(tuple(r.id for r in regions), np.eye(len(regions)), tuple(edges))
