"""DICOM objects made with pydicom: enhanced CT, SEG, RTSTRUCT and PET, with known content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from images import OBLIQUE, label_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import UID, ExplicitVRLittleEndian

from REACTKDLib.geometry import Geometry

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
CT_UID, STUDY_UID, FRAME_UID = "1.2.826.1", "1.2.826.9", "1.2.826.5"

LABELS = label_array()
AORTA = np.zeros_like(LABELS)
AORTA[3:5, 8:11, 10:13] = 1  # partly in the liver
SEGMENTS = (("Liver", LABELS > 0), ("Mass", LABELS == 2), ("Abdominal aorta", AORTA > 0))


def expected_labels() -> np.ndarray:
    """Segment numbers of ``SEGMENTS`` on their grid: lesion over liver over what has no role."""
    labels = (AORTA * 3).astype(np.uint8)
    labels[LABELS > 0] = 1
    labels[LABELS == 2] = 2
    return labels


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Writes a dataset as a DICOM file with its meta header."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def position(geometry: Geometry, k: int) -> list[str]:
    return [f"{v:.6f}" for v in geometry.lps_from_ijk(np.array([0, 0, k]))]


def orientation(geometry: Geometry) -> list[str]:
    axes = geometry.direction_matrix
    return [f"{v:.10f}" for v in (*axes[:, 0], *axes[:, 1])]


def pixel_module(geometry: Geometry, bits: int = 16, signed: bool = False) -> dict[str, object]:
    return {
        "Rows": geometry.size[1], "Columns": geometry.size[0], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": int(signed),
        "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
    }  # fmt: skip


def write_seg(
    path: Path,
    segments: Sequence[tuple[str, np.ndarray]] = SEGMENTS,
    geometry: Geometry = OBLIQUE,
    *,
    kind: str = "BINARY",
    tags: Mapping[str, object] | None = None,
    types: Mapping[str, str] | None = None,
    spacing_between: float | None = None,
    refers: str | None = CT_UID,
    frame_of_reference: str | None = None,
) -> Path:
    """A SEG of (k, j, i) masks: one frame per segment and slice that is not empty, last first."""
    frames, pixels, described = [], [], []
    for number, (label, mask) in enumerate(segments, start=1):
        segment = item(SegmentNumber=number, SegmentLabel=label, SegmentAlgorithmType="MANUAL")
        if types:
            segment.SegmentedPropertyTypeCodeSequence = [item(CodeMeaning=types[label])]
        described.append(segment)
        for k in reversed(np.flatnonzero(mask.any(axis=(1, 2))).tolist()):
            frames.append(
                item(
                    PlanePositionSequence=[item(ImagePositionPatient=position(geometry, k))],
                    SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
                )
            )
            pixels.append(mask[k])
    measures = item(PixelSpacing=[geometry.spacing_mm[1], geometry.spacing_mm[0]])
    measures.SliceThickness = geometry.spacing_mm[2]
    if spacing_between is not None:
        measures.SpacingBetweenSlices = spacing_between
    shared = item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[item(ImageOrientationPatient=orientation(geometry))],
    )
    binary = kind == "BINARY"
    seg = item(
        SOPClassUID=SEG_CLASS, SOPInstanceUID="1.2.826.77", Modality="SEG",
        StudyInstanceUID=STUDY_UID, SeriesInstanceUID="1.2.826.7", SeriesDescription="Tumours",
        **pixel_module(geometry, 1 if binary else 8), NumberOfFrames=len(frames),
        SegmentationType=kind, SegmentSequence=described,
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    if not binary:
        seg.MaximumFractionalValue = 200
        # Just below a half outside, half and full inside.
        stored = np.where(np.array(pixels), 200, 99).astype(np.uint8)
        stored[::2][np.array(pixels)[::2]] = 100
        seg.PixelData = stored.tobytes()
    else:
        seg.PixelData = pack_bits(np.array(pixels).astype(np.uint8).ravel())
    if refers:
        seg.ReferencedSeriesSequence = [item(SeriesInstanceUID=refers)]
    if frame_of_reference:
        seg.FrameOfReferenceUID = frame_of_reference
    for name, value in (tags or {}).items():
        setattr(seg, name, value)
    return save(seg, path)


def write_enhanced_ct(
    path: Path,
    array: np.ndarray,
    geometry: Geometry = OBLIQUE,
    *,
    syntax: str = ExplicitVRLittleEndian,
    uid: str = CT_UID,
    tags: Mapping[str, object] | None = None,
    intercepts: Sequence[float] | None = None,
) -> Path:
    """A (k, j, i) volume in HU as one enhanced CT; frames in reverse order, offset by frame."""
    intercepts = intercepts or [-1024.0 - k for k in range(len(array))]
    frames, pixels = [], []
    for k in reversed(range(len(array))):
        frames.append(
            item(
                PlanePositionSequence=[item(ImagePositionPatient=position(geometry, k))],
                FrameContentSequence=[item(FrameAcquisitionDateTime=f"2020010112000{k % 10}")],
                PixelValueTransformationSequence=[
                    item(RescaleSlope=1, RescaleIntercept=intercepts[k], RescaleType="HU")
                ],
            )
        )
        pixels.append(array[k] - intercepts[k])
    shared = item(
        PixelMeasuresSequence=[
            item(
                PixelSpacing=[geometry.spacing_mm[1], geometry.spacing_mm[0]],
                SliceThickness=geometry.spacing_mm[2],
            )
        ],
        PlaneOrientationSequence=[item(ImageOrientationPatient=orientation(geometry))],
        CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
    )
    ct = item(
        SOPClassUID=ENHANCED_CT, SOPInstanceUID=f"{uid}.1", Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], PatientName="Secret^Patient",
        StudyInstanceUID=STUDY_UID, SeriesInstanceUID=uid, SeriesNumber=3,
        SeriesDescription="portal venous", FrameOfReferenceUID=FRAME_UID,
        **pixel_module(geometry), NumberOfFrames=len(frames),
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    ct.PixelData = np.array(pixels).astype(np.uint16).tobytes()
    ct["PixelData"].VR = "OW"
    for name, value in (tags or {}).items():
        setattr(ct, name, value)
    if UID(syntax).is_compressed and not UID(syntax).is_deflated:
        ct.file_meta = FileMetaDataset()
        ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ct.compress(syntax, generate_instance_uid=False)
    return save(ct, path, syntax)


def write_rtstruct(
    path: Path,
    regions: Sequence[tuple[str, Sequence[np.ndarray]]],
    *,
    kind: str = "CLOSED_PLANAR",
    refers: str | None = CT_UID,
    frame_of_reference: str | None = FRAME_UID,
    meanings: Mapping[str, str] | None = None,
) -> Path:
    """An RTSTRUCT of regions, each with its contours, (n, 3) LPS mm."""
    struct = item(
        SOPClassUID=RTSTRUCT_CLASS, SOPInstanceUID="1.2.826.88", Modality="RTSTRUCT",
        StudyInstanceUID=STUDY_UID, SeriesInstanceUID="1.2.826.8", StructureSetLabel="Plan",
        StructureSetROISequence=[
            item(ROINumber=n, ROIName=name) for n, (name, _) in enumerate(regions, start=1)
        ],
        ROIContourSequence=[
            item(
                ReferencedROINumber=n,
                ContourSequence=[
                    item(
                        ContourGeometricType=kind,
                        NumberOfContourPoints=len(points),
                        ContourData=[f"{v:.4f}" for v in np.asarray(points).ravel()],
                    )
                    for points in contours
                ],
            )
            for n, (_, contours) in enumerate(regions, start=1)
        ],
    )  # fmt: skip
    reference = item()
    if frame_of_reference:
        reference.FrameOfReferenceUID = frame_of_reference
    if refers:
        series = item(SeriesInstanceUID=refers)
        reference.RTReferencedStudySequence = [item(RTReferencedSeriesSequence=[series])]
    struct.ReferencedFrameOfReferenceSequence = [reference]
    if meanings:
        struct.RTROIObservationsSequence = [
            item(
                ReferencedROINumber=n,
                RTROIIdentificationCodeSequence=[item(CodeMeaning=meanings[name])],
            )
            for n, (name, _) in enumerate(regions, start=1)
            if name in meanings
        ]
    return save(struct, path)


def write_pet(
    folder: Path,
    array: np.ndarray,
    geometry: Geometry = OBLIQUE,
    *,
    slopes: Sequence[float],
    tags: Mapping[str, object] | None = None,
    drug: Mapping[str, object] | None = None,
    per_slice: Sequence[Mapping[str, object]] | None = None,
    private: Sequence[tuple[int, str, int, str, object]] = (),
    uid: str = "1.2.826.4",
) -> list[Path]:
    """Stored values (k, j, i), one file and one rescale slope per slice. None removes an element.

    Default: 70 kg, 350 MBq of F-18 injected at 11:00, scanned at 12:00, Bq/ml.
    """
    files = []
    for k, plane in enumerate(array):
        values = {
            "SOPClassUID": PET_CLASS, "SOPInstanceUID": f"{uid}.{k}", "Modality": "PT",
            "ImageType": ["ORIGINAL", "PRIMARY"], "StudyInstanceUID": STUDY_UID,
            "SeriesInstanceUID": uid, "SeriesNumber": 5, "SeriesDescription": "PET AC",
            "PatientName": "Secret^Patient", "PatientWeight": 70, "Units": "BQML",
            "DecayCorrection": "START", "CorrectedImage": ["DECY", "ATTN", "SCAT"],
            "SeriesDate": "20200103", "SeriesTime": "120000",
            "AcquisitionDate": "20200103", "AcquisitionTime": "120000",
            "FrameReferenceTime": 60000, "ActualFrameDuration": 120000,
            "ImagePositionPatient": position(geometry, k),
            "ImageOrientationPatient": orientation(geometry),
            "PixelSpacing": [geometry.spacing_mm[1], geometry.spacing_mm[0]],
            "RescaleSlope": slopes[k], "RescaleIntercept": 0,
            **pixel_module(geometry, signed=True), "PixelData": plane.astype(np.int16).tobytes(),
            **(tags or {}), **(per_slice[k] if per_slice else {}),
        }  # fmt: skip
        injected = {
            "RadiopharmaceuticalStartTime": "110000", "RadionuclideTotalDose": 350e6,
            "RadionuclideHalfLife": 6588, **(drug or {}),
        }  # fmt: skip
        dataset = item(**{name: v for name, v in values.items() if v is not None})
        dataset["PixelData"].VR = "OW"
        dataset.RadiopharmaceuticalInformationSequence = [
            item(**{name: v for name, v in injected.items() if v is not None})
        ]
        for group, creator, element, vr, value in private:
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
        files.append(save(dataset, folder / f"{len(array) - k:03d}.dcm"))
    return files
