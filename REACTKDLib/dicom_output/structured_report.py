"""The answer as a Comprehensive 3D SR, template TID 1500 (PS3.16): numbers with codes and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import __version__
from .. import case_report_words as words
from ..types import RESEARCH_USE, ClassInfo, Region, RegionShare
from .codes import class_concept, has_liver, own, segment_codes, unit, yes_no
from .identity import MANUFACTURER, Identity

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

#: Container of TID 1500, row 12.
_QUALITATIVE_EVALUATIONS = ("C0034375", "UMLS", "Qualitative Evaluations")


def make_report(
    identity: Identity,
    segmentation: highdicom.seg.Segmentation,
    parametric_map: highdicom.pm.ParametricMap,
) -> highdicom.sr.Comprehensive3DSR:
    """Measurement groups: each class, the contrast that is explained, each region; then words."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    case, source = identity.case, identity.source
    name, version = identity.model
    algorithm = hd.sr.AlgorithmIdentification(
        name=name,
        version=version,
        parameters=[f"weights SHA-256 {identity.model_sha256}", f"REACTKD {__version__}"],
    )
    groups = [_class_group(identity, info, algorithm) for info in case.classes]
    groups.append(_contrast_group(identity, algorithm))
    series = hd.sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID)
    for number, (region, share) in enumerate(zip(case.regions, case.shares, strict=True), start=1):
        segment = hd.sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=series,
        )
        groups.append(_region_group(identity, region, share, segment, algorithm))

    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=identity.device_uid,
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=f"{name} {version}"[:64],
            serial_number=identity.model_sha256[:16] or __version__,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.append(_evaluations(identity, parametric_map))
    report = hd.sr.Comprehensive3DSR(
        evidence=[*source.headers, segmentation, parametric_map],
        content=content,
        # A machine wrote it and nobody looked at it: complete, neither final nor verified.
        is_complete=True,
        **identity.of("SR"),
    )
    identity.finish(report, "REACTKD report")
    return report


def _number(name: Any, value: float, of: Any, **more: Any) -> Any:
    import highdicom as hd

    # Six significant digits: as many as the numbers deserve, and short enough for a DS.
    return hd.sr.Measurement(name=name, value=float(f"{value:.6g}"), unit=of, **more)


def _class_group(identity: Identity, info: ClassInfo, algorithm: Any) -> Any:
    """Probability and logit of one class, and whether it cannot be excluded."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    case = identity.case
    possible = []
    if case.prediction_set is not None:
        answer = yes_no(info.name in case.prediction_set.classes)
        possible = [hd.sr.QualitativeEvaluation(own("POSSIBLE"), answer)]
    one = codes.UCUM.NoUnits
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=identity.uid(f"class {info.name}"), identifier=info.name
        ),
        finding_type=class_concept(case, info),
        algorithm_id=algorithm,
        measurements=[
            _number(codes.DCM.Probability, case.probabilities[info.name], one),
            _number(own("LOGIT"), case.logits[info.name], one),
        ],
        qualitative_evaluations=possible,
    )


def _contrast_group(identity: Identity, algorithm: Any) -> Any:
    """What the shares add up to, so that a reader can check the sum."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    case = identity.case
    target = next(info for info in case.classes if info.name == case.target)
    one = codes.UCUM.NoUnits
    numbers = [
        _number(own("CONTRAST"), case.contrast, one),
        _number(own("REF-CONTRAST"), case.reference_contrast, one),
        _number(own("OUTSIDE"), case.outside_share, one),
    ]
    if case.prediction_set is not None:
        numbers.append(_number(own("COVERAGE"), case.prediction_set.coverage, one))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=identity.uid("contrast"), identifier="contrast"
        ),
        finding_type=class_concept(case, target),
        algorithm_id=algorithm,
        measurements=numbers,
    )


def _region_group(
    identity: Identity, region: Region, share: RegionShare, segment: Any, algorithm: Any
) -> Any:
    """Size, HU and shares of one region, tied to its segment."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    liver = has_liver(identity.case)
    category, kind = segment_codes(region.kind, liver)
    one, hu = codes.UCUM.NoUnits, codes.UCUM.HounsfieldUnit
    attenuation = codes.DCM.AttenuationCoefficient
    numbers = [
        _number(codes.IBSI.VolumeFromVoxelSummation, region.volume_ml, unit("mL", "milliliter")),
        _number(attenuation, region.mean_hu, hu, derivation=codes.SCT.Mean),
        _number(attenuation, region.sd_hu, hu, derivation=codes.SCT.StandardDeviation),
        _number(own("SHARE"), share.share, one),
        _number(own("SHARE-PER-ML"), share.share_per_ml, unit("/mL", "per milliliter")),
        _number(own("SPATIAL-ATTN"), share.attention, one),
    ]
    if region.longest_diameter_mm is not None:
        diameter = codes.IBSI.Maximum3DDiameterOfAMesh
        numbers.append(_number(diameter, region.longest_diameter_mm, codes.UCUM.Millimeter))
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=identity.uid(f"region {region.id}"), identifier=region.id
        ),
        referenced_segment=segment,
        finding_category=category,
        finding_type=kind,
        algorithm_id=algorithm,
        finding_sites=[hd.sr.FindingSite(codes.SCT.Liver)] if liver else None,
        measurements=numbers,
    )


def _evaluations(identity: Identity, parametric_map: Dataset) -> Any:
    """What holds for the whole case: codes where there are some, sentences for people."""
    import highdicom as hd

    case = identity.case
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(
        hd.sr.CodedConcept(*_QUALITATIVE_EVALUATIONS), relationship_type=contains
    )
    target = next(info for info in case.classes if info.name == case.target)
    coded = [
        ("PREDICTED", class_concept(case, case.predicted)),
        ("EXPLAINED", class_concept(case, target)),
        ("SIMULATED", yes_no(case.simulated_model)),
    ]
    if case.prediction_set is not None:
        coded.append(("ABSTAINS", yes_no(case.abstains)))
    texts = [
        ("USE", RESEARCH_USE),
        ("ANSWER", f"{case.task_title}. {words.headline(case)}"),
        ("ANSWER", words.set_sentence(case)),
        ("MEANING", words.share_meaning(case)),
        *(("NOTICE", notice.text) for notice in case.notices),
    ]
    items: list[Any] = [hd.sr.CodeContentItem(own(c), value, contains) for c, value in coded]
    items += [hd.sr.TextContentItem(own(c), text, contains) for c, text in texts]
    items.append(
        hd.sr.ImageContentItem(
            own("MAP"),
            parametric_map.SOPClassUID,
            parametric_map.SOPInstanceUID,
            relationship_type=contains,
        )
    )
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container
