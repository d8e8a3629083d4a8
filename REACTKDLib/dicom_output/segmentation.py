"""The regions as a DICOM Segmentation (PS3.3 A.51), type BINARY, which every viewer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..palette import region_colors
from .codes import has_liver, segment_codes
from .identity import MANUFACTURER, Identity

if TYPE_CHECKING:
    import highdicom


def make_segmentation(identity: Identity, labels: np.ndarray) -> highdicom.seg.Segmentation:
    """One segment a region, in the order of ``case.regions``, numbered from 1.

    ``labels`` : uint8 (k, j, i) on the grid of the source, values ``Region.label``.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    case, source = identity.case, identity.source
    colors = region_colors(case.regions)
    liver = has_liver(case)
    algorithm = hd.AlgorithmIdentificationSequence(
        name="REACTKD regions",
        family=codes.DCM.MorphologicalOperations,
        version=__version__,
        source=MANUFACTURER,
        parameters={"scheme": case.scheme},
    )
    numbers = np.zeros(256, np.uint8)
    descriptions = []
    for number, region in enumerate(case.regions, start=1):
        numbers[region.label] = number
        category, kind = segment_codes(region.kind, liver)
        descriptions.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=region.name[:64],
                segmented_property_category=category,
                segmented_property_type=kind,
                # Rules cut the regions out of a segmentation that somebody gave.
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=identity.uid(f"region {region.id}"),
                tracking_id=region.id,
                anatomic_regions=[codes.SCT.Liver] if liver else None,
                display_color=hd.color.CIELabColor.from_rgb(
                    *(round(255 * part) for part in colors[region.id])
                ),
            )
        )
    volume = hd.Volume(
        numbers[labels],
        source.geometry.kji_to_lps_matrix,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.first.FrameOfReferenceUID,
    )
    segmentation = hd.seg.Segmentation(
        source_images=source.headers,
        pixel_array=volume,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        content_label="REGIONS",
        content_description="Regions of REACTKD. Research use only.",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        **identity.of("SEG"),
    )
    segmentation.ContentCreatorName = MANUFACTURER
    identity.finish(segmentation, "REACTKD regions")
    return segmentation
