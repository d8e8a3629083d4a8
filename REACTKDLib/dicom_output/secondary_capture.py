"""The page of a result as a Secondary Capture image (PS3.3 A.8.1): any viewer shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .identity import Identity
from .page import PICTURES, draw_page
from .planes import cut_planes

if TYPE_CHECKING:
    import highdicom


def make_secondary_capture(
    identity: Identity, attention: np.ndarray, labels: np.ndarray
) -> highdicom.sc.SCImage:
    """``attention`` and ``labels`` (k, j, i) lie on the grid of the source."""
    import highdicom as hd
    from pydicom import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    case, source = identity.case, identity.source
    sizes = {name: (width, height) for name, (_, _, width, height) in PICTURES.items()}
    pixels = draw_page(case, cut_planes(source, attention, labels, sizes))
    capture = hd.sc.SCImage.from_ref_dataset(
        source.first,
        pixel_array=pixels,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **identity.of("SC"),
    )
    capture.copy_patient_and_study_information(source.first)
    capture["PatientOrientation"].value = None  # a page has none (type 2C)
    capture.BurnedInAnnotation = "NO"
    capture.RecognizableVisualFeatures = "NO"
    capture.ImageComments = "Research use only. Not for diagnosis."
    capture.SourceImageSequence = []
    for header in source.headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        capture.SourceImageSequence.append(reference)
    identity.finish(capture, "REACTKD page")
    return capture
