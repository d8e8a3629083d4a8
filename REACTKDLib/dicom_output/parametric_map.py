"""The attention as a DICOM Parametric Map (PS3.3 A.75) of float32, the values unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..geometry import content_box
from .codes import own, unit
from .identity import Identity

if TYPE_CHECKING:
    import highdicom


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
    parametric_map.BurnedInAnnotation = "NO"
    identity.finish(parametric_map, "REACTKD attention")
    return parametric_map
