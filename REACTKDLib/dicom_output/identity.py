"""Who an object is and where it belongs: UIDs, series, time, equipment, marks of de-identification.

UIDs follow from the content: the same result on the same CT, written by the same version, gives the
same files, and sending them twice stores them once. Anything else gives other UIDs.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..report import graph_document, result_document
from ..types import CaseResult
from .codes import SCHEME, has_liver
from .source import CtSource

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "REACTKD"
#: After the numbers of scanners and workstations; the objects close the list of series.
SERIES_NUMBERS = {"SEG": 9101, "PM": 9102, "SR": 9103, "SC": 9104}
#: Stand for every date and time in de-identified objects (PS3.15 Annex E: action D).
DUMMY = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}
_NO_TIME = datetime.datetime(1900, 1, 1)


@dataclass(frozen=True, eq=False)
class Identity:
    """What all objects of one result share.

    ``digest`` : of everything that they say. ``when`` : the time of the run, in the time zone of
    the CT where its header says one, else in that of this machine.
    """

    case: CaseResult
    source: CtSource
    digest: bytes
    when: datetime.datetime
    deidentified: bool

    def uid(self, what: str) -> str:
        """The UID of a part of the output, below 2.25 (PS3.5 Annex B.2)."""
        return _uid(self.digest + what.encode())

    @property
    def device_uid(self) -> str:
        """The UID of this version with this model, the same in all its reports."""
        return _uid(f"device {__version__} {self.model_sha256}".encode())

    def of(self, kind: str) -> dict[str, Any]:
        """Arguments for highdicom's constructors: series, instance and equipment."""
        return {
            "series_instance_uid": self.uid(f"series {kind}"),
            "series_number": SERIES_NUMBERS[kind],
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MANUFACTURER,
            "software_versions": __version__,
            "device_serial_number": self.model_sha256[:16] or __version__,
        }

    @property
    def model(self) -> tuple[str, str]:
        """Name and version of the model package."""
        known = self.case.provenance.get("model", {})
        return known.get("name", "unknown"), known.get("version", "unknown")

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the model's weights; empty when the result does not say it."""
        return self.case.provenance.get("model", {}).get("weights_sha256", "")

    def finish(self, dataset: Dataset, description: str) -> None:
        """Add what highdicom's constructors do not know, and make the object repeatable."""
        from pydicom import Dataset

        dataset.SeriesDescription = description
        part = "LIVER" if has_liver(self.case) else ""
        part = self.source.first.get("BodyPartExamined") or part
        if part and dataset.Modality != "SR":  # the SR Document Series has no body part
            dataset.BodyPartExamined = part
        scheme = Dataset()
        scheme.CodingSchemeDesignator = SCHEME
        scheme.CodingSchemeName = "REACTKD"
        scheme.CodingSchemeResponsibleOrganization = "REACTKD contributors"
        dataset.CodingSchemeIdentificationSequence = [scheme]
        self._set_times(dataset)
        for element in dataset.iterall():
            if element.keyword == "DimensionOrganizationUID":
                element.value = self.uid(f"dimensions {dataset.Modality}")
        if self.deidentified:
            _mark_deidentified(dataset)

    def _set_times(self, dataset: Dataset) -> None:
        """The time of the run wherever highdicom wrote the time of writing."""
        dataset.SeriesDate = dataset.SeriesTime = ""
        for what in ("InstanceCreation", "Content", "Series"):
            if f"{what}Date" in dataset:
                setattr(dataset, f"{what}Date", self.when.strftime("%Y%m%d"))
                setattr(dataset, f"{what}Time", self.when.strftime("%H%M%S"))
        if "DateOfSecondaryCapture" in dataset:
            dataset.DateOfSecondaryCapture = self.when.strftime("%Y%m%d")
            dataset.TimeOfSecondaryCapture = self.when.strftime("%H%M%S")
        # The last one is highdicom; the one before it is the scanner.
        writer = dataset.ContributingEquipmentSequence[-1]
        writer.ContributionDateTime = self.when.strftime("%Y%m%d%H%M%S")


def _uid(content: bytes) -> str:
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4).int}"


def make_identity(case: CaseResult, source: CtSource, *, deidentified: bool) -> Identity:
    """The identity of the objects of ``case`` on ``source``."""
    # Of a de-identified result no date is written, and none may change the UIDs.
    when = _NO_TIME if deidentified else _time_of_run(case, source)
    digest = hashlib.sha256()
    said = {
        "versions": [__version__, importlib.metadata.version("highdicom")],
        "result": result_document(case),
        "graph": graph_document(case),
        "provenance": dict(case.provenance),
        "when": when.isoformat(),
        "deidentified": deidentified,
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    digest.update(case.attention.array.tobytes())
    digest.update(case.region_labels.array.tobytes())
    for header in source.headers:
        digest.update(str(header.SOPInstanceUID).encode())
    # Patient and study are copied from here: corrected ones make other objects.
    digest.update(str(source.first).encode())
    return Identity(case, source, digest.digest(), when, deidentified)


def _time_of_run(case: CaseResult, source: CtSource) -> datetime.datetime:
    """Local time of the run; now where the result does not say it."""
    when = datetime.datetime.now(datetime.timezone.utc)
    with contextlib.suppress(ValueError):
        when = datetime.datetime.fromisoformat(case.provenance.get("time_utc", ""))
    zone = None
    with contextlib.suppress(ValueError):
        offset = str(source.first.get("TimezoneOffsetFromUTC", ""))
        zone = datetime.datetime.strptime(offset, "%z").tzinfo
    return when.astimezone(zone)


def _mark_deidentified(dataset: Dataset) -> None:
    """What PS3.15 E.1.1 asks of a de-identified object; all dates become a dummy."""
    from pydicom import Dataset

    for element in dataset.iterall():
        if element.VR in DUMMY and element.value:
            element.value = DUMMY[element.VR]
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DeidentificationMethod = f"REACTKD {__version__}: attributes not needed are left out"
    profile = Dataset()
    profile.CodeValue = "113100"
    profile.CodingSchemeDesignator = "DCM"
    profile.CodeMeaning = "Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = [profile]
