"""The attention as a DICOM Parametric Map (PS3.3 A.75) of float32, the values unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..geometry import content_box
from .codes import has_liver, own, unit
from .identity import MANUFACTURER, Identity

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset


def make_parametric_map(identity: Identity, attention: np.ndarray) -> highdicom.pm.ParametricMap:
    """The box around everything that is not zero; outside it the attention is zero.

    ``attention`` : float32 (k, j, i) on the grid of the source, logit units per litre.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    case, source = identity.case, identity.source
    box = content_box(attention)
    values = np.ascontiguousarray(attention[box], dtype=np.float32)
    peak = float(np.abs(values).max()) or 1.0
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="ATTENTION",
        lut_explanation=f"Contribution to '{case.class_title(case.target)}', logit units per litre"[
            :64
        ],
        unit=unit("/L", "per liter"),
        value_range=(-peak, peak),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.Saliency,
    )
    volume = hd.Volume(
        values,
        source.geometry.crop_to(box).kji_to_lps_matrix,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.first.FrameOfReferenceUID,
    )
    parametric_map = hd.pm.ParametricMap(
        source_images=source.headers,
        pixel_array=volume,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=2 * peak)],
        content_label="ATTENTION",
        content_description=f"{own('MAP').meaning} of REACTKD. Research use only.",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        **identity.of("PM"),
    )
    _order_along_normal(parametric_map)
    parametric_map.BurnedInAnnotation = "NO"
    parametric_map.ContentCreatorName = MANUFACTURER
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy(identity)]
    identity.finish(parametric_map, "REACTKD attention")
    return parametric_map


def _anatomy(identity: Identity) -> Dataset:
    """What the frames show (PS3.3 C.7.6.16.2.8), which this object must say."""
    from highdicom.sr import CodedConcept
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    region = codes.SCT.Liver if has_liver(identity.case) else codes.SCT.EntireBody
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(region)]
    return anatomy


def _order_along_normal(parametric_map: Dataset) -> None:
    """Turn the frames round where they run against their normal (row x column).

    highdicom stores them so. The positions say it, but some readers (paramap2itkimage of dcmqi
    1.5.7) take the stored order for the other one and show the map upside down.
    """
    frames = list(parametric_map.PerFrameFunctionalGroupsSequence)
    shared = parametric_map.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    first, last = (
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for frame in (frames[0], frames[-1])
    )
    if (last - first) @ np.cross(cosines[:3], cosines[3:]) >= 0:
        return
    frames.reverse()
    for number, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = number
    parametric_map.PerFrameFunctionalGroupsSequence = frames
    values = np.frombuffer(parametric_map.FloatPixelData, np.float32)
    parametric_map.FloatPixelData = values.reshape(len(frames), -1)[::-1].tobytes()
