"""A CT series as a scanner would write it: complete headers, identifiers that must not leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from REACTKDLib.geometry import Geometry

#: Everything by which this patient could be known. No log and no de-identified file may hold it.
CANARIES = {
    "PatientName": "Kanarienvogel^Zoë",
    "PatientID": "CANARY-4711",
    "PatientBirthDate": "19610703",
    "PatientAge": "064Y",
    "PatientAddress": "Canary Street 9",
    "OtherPatientIDs": "CANARY-OTHER-1",
    "AccessionNumber": "CANARYACC12",
    "StudyID": "CANARYSTUDY",
    "StudyDate": "20250317",
    "StudyTime": "111213",
    "SeriesDate": "20250318",
    "AcquisitionDate": "20250319",
    "ReferringPhysicianName": "Canaryreferrer^Ann",
    "OperatorsName": "Canaryoperator^Bob",
    "InstitutionName": "Canary General Hospital",
    "InstitutionAddress": "Canary Square 3",
    "StationName": "CANARYSTATION",
    "DeviceSerialNumber": "CANARYSERIAL",
    "StudyDescription": "canary abdomen of Mr Bird",
    "ProtocolName": "canary protocol",
    "RequestedProcedureDescription": "canary request",
    "PatientComments": "canary comment",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.40711",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.40712",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.40713",
}
SOP_ROOT = "1.2.826.0.1.3680043.8.498.40714"


def write_ct(
    folder: Path,
    hu: np.ndarray,
    geometry: Geometry,
    *,
    charset: str = "ISO_IR 100",
    **changes: Any,
) -> list[Path]:
    """A (k, j, i) volume, one file a slice, named against their order; ``changes`` by keyword.

    A value None leaves the attribute out.
    """
    folder.mkdir(parents=True)
    axes = geometry.direction_matrix
    files = []
    for k, plane in enumerate(hu):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = f"{SOP_ROOT}.{k + 1}"
        ds.SpecificCharacterSet = charset
        for keyword, value in CANARIES.items():
            setattr(ds, keyword, value)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = f"{SOP_ROOT}.{k + 1}"
        ds.Modality, ds.Manufacturer, ds.PatientSex = "CT", "Simulator", "F"
        ds.ManufacturerModelName = "Phantom scanner"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 3, 1, k + 1
        ds.SeriesDescription = "portal venous"
        ds.PositionReferenceIndicator = ""
        ds.ImagePositionPatient = [f"{v:.9g}" for v in geometry.lps_from_ijk(np.array([0, 0, k]))]
        ds.ImageOrientationPatient = [f"{v:.11f}"[:16] for v in (*axes[:, 0], *axes[:, 1])]
        ds.PixelSpacing = [geometry.spacing_mm[1], geometry.spacing_mm[0]]
        ds.SliceThickness = geometry.spacing_mm[2]
        ds.KVP, ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 120, -1024, 1, "HU"
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = plane.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        stored = np.clip(np.round(np.asarray(plane, dtype=float)) + 1024, 0, 65535)
        ds.PixelData = stored.astype("<u2").tobytes()
        private = ds.private_block(0x0019, "CANARY PRIVATE", create=True)
        private.add_new(0x01, "LO", "canary private value")
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
            if value is None:
                del ds[keyword]
        files.append(folder / f"IM{len(hu) - k:04d}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    return files
