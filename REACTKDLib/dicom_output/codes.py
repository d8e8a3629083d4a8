"""Coded concepts of the DICOM objects, and REACTKD's own scheme where no standard code exists.

Standard codes: PS3.16 (DCM, SCT, UCUM, IBSI). The scheme 99REACTKD is listed in
``docs/dicom_output.md``; a code never changes its meaning.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..types import CaseResult, ClassInfo

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

SCHEME = "99REACTKD"

#: Code value -> meaning (at most 64 characters).
OWN_CODES = {
    "RIM": "Rim around a lesion",
    "SHARE": "Share of the class contrast",
    "SHARE-PER-ML": "Share of the class contrast per volume",
    "SPATIAL-ATTN": "Mean spatial attention",
    "OUTSIDE": "Share of what lies outside all regions",
    "CONTRAST": "Class contrast",
    "REF-CONTRAST": "Class contrast of the reference case",
    "LOGIT": "Class logit",
    "COVERAGE": "Coverage of the prediction set",
    "PREDICTED": "Most probable class",
    "EXPLAINED": "Class that is explained",
    "POSSIBLE": "Class cannot be excluded",
    "ABSTAINS": "Model abstains",
    "SIMULATED": "Model trained on simulated images only",
    "MAP": "Attention map",
    "USE": "Intended use",
    "ANSWER": "Answer",
    "NOTICE": "Notice",
    "MEANING": "Meaning of the shares",
}
_MEANING_LIMIT = 64


def own(value: str) -> CodedConcept:
    """A concept of REACTKD's scheme."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, OWN_CODES[value])


def class_concept(case: CaseResult, info: ClassInfo) -> CodedConcept:
    """A class of the model: the code is a digest of model name and class name."""
    from highdicom.sr import CodedConcept

    model = case.provenance.get("model", {}).get("name", "")
    digest = hashlib.sha256(f"{model}\n{info.name}".encode()).hexdigest()[:12]
    return CodedConcept(f"C-{digest}", SCHEME, info.title[:_MEANING_LIMIT])


def unit(value: str, meaning: str) -> CodedConcept:
    """A unit of UCUM."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, "UCUM", meaning)


def yes_no(answer: bool) -> Any:
    """SCT yes or no."""
    from pydicom.sr.codedict import codes

    return codes.SCT.Yes if answer else codes.SCT.No


def has_liver(case: CaseResult) -> bool:
    """Whether the organ of this result is a liver, by the roles of the segments that were given."""
    return any(s["role"] == "liver" for s in case.provenance.get("segments", ()))


def segment_codes(kind: str, liver: bool) -> tuple[Any, Any]:
    """Category and type of a region (PS3.16 CID 7150 and 7151)."""
    from pydicom.sr.codedict import codes

    if kind == "lesion":
        return codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion
    if kind == "rim":
        return codes.SCT.SpatialAndRelationalConcept, own("RIM")
    return codes.SCT.AnatomicalStructure, codes.SCT.Liver if liver else codes.SCT.Parenchyma
