"""Takes out who the patient is: of a result, and of the CT headers that DICOM objects come from.

Same salt, same pseudonyms: whoever keeps the salt can bring later cases of a patient together, and
give the CT itself the same UIDs (:meth:`Pseudonyms.uid`). Without a salt file the salt is random
and forgotten, and nothing leads back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .types import CaseResult, frozen_mapping

if TYPE_CHECKING:
    from pydicom import Dataset

#: Stands where a path was.
REMOVED = "(removed)"
#: Stands where the reason of a failure was.
LEFT_OUT = "The reason is left out, because it may name the patient"

_LEAST_SALT_BYTES = 16

#: The CT's attributes that the written objects need and that say nothing about the person.
KEPT = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames"),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImageOrientationPatient", "ImagePositionPatient"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
#: Replaced by other UIDs, the same everywhere (PS3.15 Annex E: action U).
REPLACED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
#: Present and empty (action Z).
EMPTIED = (
    *("PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
#: Of an enhanced image's functional groups: the geometry alone.
_KEPT_GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence")


@dataclass(frozen=True, repr=False)
class Pseudonyms:
    """Names and UIDs that stand for others; the salt never shows."""

    salt: bytes

    @classmethod
    def forgotten(cls) -> Pseudonyms:
        """Of a random salt that nobody keeps."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_file(cls, path: Path) -> Pseudonyms:
        """Of the salt in a file; line ends and blanks around it do not count.

        Raises
        ------
        InputError : no such file, or less than 16 bytes in it.
        """
        try:
            salt = Path(path).read_bytes().strip()
        except OSError as error:
            raise InputError(
                f"The salt file {path} cannot be read ({error.strerror}).", "Check the path."
            ) from error
        if len(salt) < _LEAST_SALT_BYTES:
            raise InputError(
                f"The salt file {path} holds {len(salt)} bytes; at least {_LEAST_SALT_BYTES} are"
                " needed, or the names could be guessed.",
                "Make one: python -c 'import secrets; print(secrets.token_hex(32))' > FILE",
            )
        return cls(salt)

    def _digest(self, text: str) -> bytes:
        return hmac.new(self.salt, text.encode(), hashlib.sha256).digest()

    def name(self, kind: str, identifier: str) -> str:
        """``kind``, a hyphen and 16 hexadecimal digits."""
        return f"{kind}-{self._digest(f'{kind}:{identifier}').hex()[:16]}"

    def uid(self, uid: str) -> str:
        """The UID that stands for ``uid``, below 2.25 (PS3.5 Annex B.2)."""
        number = uuid.UUID(bytes=self._digest(f"uid:{uid}")[:16], version=4).int
        return f"2.25.{number}"


def deidentified_case(case: CaseResult, pseudonyms: Pseudonyms) -> CaseResult:
    """The result without case name, paths and digests of input files, names of segments and of
    series, time; UIDs of series are replaced."""
    return replace(
        case,
        case_id=pseudonyms.name("case", case.case_id),
        provenance=deidentified_provenance(case.provenance, pseudonyms),
    )


def deidentified_provenance(
    provenance: Mapping[str, Any], pseudonyms: Pseudonyms
) -> Mapping[str, Any]:
    """A provenance without paths and digests of input files, names of segments and of series,
    time; UIDs of series are replaced."""
    known: dict[str, Any] = dict(provenance)
    known["inputs"] = [
        {**entry, "path": REMOVED, "sha256": ""} for entry in known.get("inputs", ())
    ]
    known["segments"] = [
        {**segment, "name": segment["role"] or f"segment {segment['label']}"}
        for segment in known.get("segments", ())
    ]
    known["series"] = {
        name: {"uid": pseudonyms.uid(series["uid"]), "description": "", "why": "", "others": []}
        for name, series in known.get("series", {}).items()
    }
    # The hour of the run is often that of the examination.
    known["time_utc"] = ""
    known["deidentified"] = True
    return frozen_mapping(known)


def deidentified_header(header: Dataset, pseudonyms: Pseudonyms) -> Dataset:
    """A new header with what DICOM objects made from this image need, and nothing else.

    What stays is named in :data:`KEPT`; everything else, private elements among it, goes. This is
    more than PS3.15 Annex E asks: there, what the table does not name may stay.
    """
    from pydicom import Dataset

    new = Dataset()
    for keyword in KEPT:
        if keyword in header:
            new[keyword] = header[keyword]
    for keyword in REPLACED_UIDS:
        if header.get(keyword):
            setattr(new, keyword, pseudonyms.uid(str(header.get(keyword))))
    for keyword in EMPTIED:
        setattr(new, keyword, "")
    patient = f"{header.get('PatientID', '')}\n{header.get('IssuerOfPatientID', '')}"
    new.PatientID = pseudonyms.name("patient", patient)
    new.PatientName = new.PatientID
    new.SpecificCharacterSet = "ISO_IR 192"
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if groups in header:
            setattr(new, groups, [_geometry_groups(item) for item in header[groups].value])
    return new


def _geometry_groups(item: Dataset) -> Dataset:
    from pydicom import Dataset

    kept = Dataset()
    for keyword in _KEPT_GROUPS:
        if keyword in item:
            kept[keyword] = item[keyword]
    return kept
