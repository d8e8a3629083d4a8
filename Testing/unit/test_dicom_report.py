"""The structured report: what it says is what the result says, with codes, units and links."""

from __future__ import annotations

import dataclasses

import highdicom as hd
import pydicom
import pytest
from pydicom.sr.codedict import codes

from REACTKDLib.dicom_output import write_dicom_output
from REACTKDLib.dicom_output.codes import OWN_CODES
from REACTKDLib.types import RESEARCH_USE, Notice, PredictionSet


def numbers(group) -> dict[str, tuple[float, str]]:
    """Value and unit by code (mean and standard deviation told apart)."""
    found = {}
    for measurement in group.get_measurements():
        derivation = measurement.derivation
        key = measurement.name.value + (f" {derivation.meaning}" if derivation else "")
        found[key] = (float(measurement.value), measurement.unit.value)
    return found


@pytest.fixture(scope="module")
def calibrated(phantom_case):
    """With a prediction set of two classes, and a notice with signs beyond ASCII."""
    likely = sorted(phantom_case.classes, key=lambda c: -phantom_case.probabilities[c.name])
    possible = PredictionSet(tuple(c.name for c in likely[:2]), 0.9)
    notices = (*phantom_case.notices, Notice("odd", "warning", "Ungewöhnlich: ≥ 3 mm."))
    return dataclasses.replace(phantom_case, prediction_set=possible, notices=notices)


@pytest.fixture(scope="module")
def folder(calibrated, phantom_ct, tmp_path_factory):
    target = tmp_path_factory.mktemp("report") / "objects"
    return write_dicom_output(calibrated, phantom_ct, target)


@pytest.fixture(scope="module")
def report(folder):
    return hd.sr.srread(folder / "report.dcm")


def test_probabilities_and_prediction_set(report, calibrated):
    groups = {g.tracking_identifier: g for g in report.content.get_image_measurement_groups()}
    for info in calibrated.classes:
        group = groups[info.name]
        assert group.finding_type.meaning == info.title
        found = numbers(group)
        value, unit = found[codes.DCM.Probability.value]
        assert value == pytest.approx(calibrated.probabilities[info.name], rel=1e-5)
        assert unit == "1"
        assert found["LOGIT"][0] == pytest.approx(calibrated.logits[info.name], rel=1e-5)
        (possible,) = group.get_qualitative_evaluations()
        answer = codes.SCT.Yes if info.name in calibrated.prediction_set.classes else codes.SCT.No
        assert possible.value == answer
    contrast = numbers(groups["contrast"])
    assert contrast["COVERAGE"][0] == 0.9
    assert contrast["CONTRAST"][0] == pytest.approx(calibrated.contrast, rel=1e-5)


def test_regions_with_their_segments(report, folder, calibrated):
    segmentation = pydicom.dcmread(folder / "segmentation.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(calibrated.regions)
    for number, (group, region, share) in enumerate(
        zip(groups, calibrated.regions, calibrated.shares, strict=True), start=1
    ):
        assert group.tracking_identifier == region.id
        segment = segmentation.SegmentSequence[number - 1]
        assert group.tracking_uid == segment.TrackingUID
        reference = group.referenced_segment
        (item,) = [i for i in reference if i.name == codes.DCM.ReferencedSegment]
        sop = item.ReferencedSOPSequence[0]
        assert sop.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert sop.ReferencedSegmentNumber == number
        found = numbers(group)
        expected = {
            "YEKZ": (region.volume_ml, "mL"),
            "112031 Mean": (region.mean_hu, "[hnsf'U]"),
            "112031 Standard Deviation": (region.sd_hu, "[hnsf'U]"),
            "SHARE": (share.share, "1"),
            "SHARE-PER-ML": (share.share_per_ml, "/mL"),
            "SPATIAL-ATTN": (share.attention, "1"),
        }
        if region.longest_diameter_mm is not None:
            expected["L0JK"] = (region.longest_diameter_mm, "mm")
        assert {k: u for k, (_, u) in found.items()} == {k: u for k, (_, u) in expected.items()}
        for key, (value, _) in expected.items():
            assert found[key][0] == pytest.approx(value, rel=1e-5, abs=1e-9)


def test_shares_of_the_report_add_up(report, calibrated):
    groups = report.content.get_volumetric_roi_measurement_groups()
    whole = {g.tracking_identifier: g for g in report.content.get_image_measurement_groups()}
    contrast = numbers(whole["contrast"])
    total = sum(numbers(g)["SHARE"][0] for g in groups) + contrast["OUTSIDE"][0]
    difference = contrast["CONTRAST"][0] - contrast["REF-CONTRAST"][0]
    assert total == pytest.approx(difference, rel=1e-4, abs=1e-4)


def test_model_statement_and_notices(report, calibrated):
    text = " | ".join(
        element.value for element in report.iterall() if element.keyword == "TextValue"
    )
    model = calibrated.provenance["model"]
    for part in (RESEARCH_USE, model["name"], model["version"], model["weights_sha256"]):
        assert part in text
    for notice in calibrated.notices:
        assert notice.text in text
    assert calibrated.predicted.title in text
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY"


def test_every_code_is_explained(report):
    """Own codes are in the table, with its meaning; each object says what the scheme is."""
    scheme = report.CodingSchemeIdentificationSequence[0]
    assert scheme.CodingSchemeDesignator == "99REACTKD"
    own = {
        item.CodeValue: item.CodeMeaning
        for element in report.iterall()
        if element.VR == "SQ"
        for item in element.value
        if item.get("CodingSchemeDesignator") == "99REACTKD" and "CodeValue" in item
    }
    classes = {code for code in own if code.startswith("C-")}
    assert {code: own[code] for code in own.keys() - classes}.items() <= OWN_CODES.items()
    assert len(classes) == 3
    assert all(len(code) <= 16 for code in [*own, *OWN_CODES])


def test_an_abstaining_model_says_so(calibrated, phantom_ct, tmp_path):
    everything = PredictionSet(tuple(c.name for c in calibrated.classes), 0.9)
    case = dataclasses.replace(calibrated, prediction_set=everything)
    folder = write_dicom_output(case, phantom_ct, tmp_path / "objects")
    report = pydicom.dcmread(folder / "report.dcm")
    evaluations = report.ContentSequence[-1].ContentSequence
    (abstains,) = [
        item
        for item in evaluations
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == "ABSTAINS"
    ]
    assert abstains.ConceptCodeSequence[0].CodeMeaning == "Yes"
    assert any("abstains" in item.get("TextValue", "") for item in evaluations)
