"""Cases to try the module on, in Slicer's module Sample Data.

A simulated patient is made on the spot, without a network. The two real CTs are those of
``reactkd demo --real``: pip fetches them, so that a site's proxy or mirror is used, and their
SHA-256 is checked before anything is unpacked. CTLiver is Slicer's own sample, fetched by Slicer
under its own name. Nothing is made or fetched before a click.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from REACTKDLib.errors import ReactKDError
from REACTKDLib.resources import resource_path
from REACTKDLib.types import Study

CATEGORY = "REACT-KD"

#: Name of the sample in Slicer's own list; Slicer knows its address and checksum.
CT_LIVER = "CTLiver"


@dataclass(frozen=True)
class Sample:
    """``make`` gives the study that a click on the sample adds to the scene; None for
    :data:`CT_LIVER`."""

    name: str
    picture: str
    make: Callable[[], Study] | None


def samples() -> tuple[Sample, ...]:
    """What Sample Data offers, in this order; the size is that of the download."""
    return (
        Sample(_("Simulated patient (CT, PET)"), "SampleSimulated", _simulated),
        Sample(_("Native CT (38 MB)"), "SampleRealNative", lambda: _real(0)),
        Sample(_("Contrast CT (38 MB)"), "SampleRealContrast", lambda: _real(1)),
        Sample(_("Slicer's CTLiver (not segmented)"), "SampleRealContrast", None),
    )


def register_sample_data() -> None:
    """Offer the samples; does nothing in an application without the module Sample Data."""
    try:
        import SampleData
    except ImportError:
        return
    for sample in samples():
        # Without addresses: Sample Data has nothing to download, the function does it all.
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            uris=[],
            fileNames=[],
            nodeNames=[],
            thumbnailFileName=str(resource_path(f"Icons/{sample.picture}.png")),
            customDownloader=lambda source, sample=sample: add_sample(sample),
        )


def add_sample(sample: Sample) -> Any:
    """Add a sample to the scene and show its CT; its nodes, or None after an error was shown."""
    import slicer

    from .sample_case import add_study

    if sample.make is None:
        return _add_ct_liver()
    with slicer.util.tryWithErrorDisplay(_("The sample cannot be loaded."), waitCursor=True):
        try:
            nodes = add_study(sample.make())
        except ReactKDError as error:
            slicer.util.errorDisplay(str(error))
            return None
        slicer.util.setSliceViewerLayers(background=nodes.ct, fit=True)
        return nodes


def _add_ct_liver() -> Any:
    """Slicer's own sample by its name: the volume node, or None after an error was shown."""
    import SampleData
    import slicer

    with slicer.util.tryWithErrorDisplay(_("The sample cannot be loaded."), waitCursor=True):
        logic = SampleData.SampleDataLogic()
        if logic.sourceForSampleName(CT_LIVER) is None:
            slicer.util.errorDisplay(_("This Slicer has no sample CTLiver."))
            return None
        return logic.downloadSample(CT_LIVER)


def _simulated() -> Study:
    from .sample_case import simulated_study

    return simulated_study()


def _real(number: int) -> Study:
    """One of the real cases, its segments named by what they are."""
    from REACTKDLib.demo import real_case_files
    from REACTKDLib.model_package import load_package
    from REACTKDLib.read import read_study

    from .worker_process import python_executable

    files = real_case_files(str(python_executable()))[number]
    study = read_study(files, load_package().role_rules)
    segments = tuple(
        dataclasses.replace(segment, name=segment.role) if segment.role else segment
        for segment in study.segmentation.segments
    )
    segmentation = dataclasses.replace(study.segmentation, segments=segments)
    return dataclasses.replace(study, segmentation=segmentation)
