"""What people call the parts of the input. Needs nothing heavy: the panel reads it, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from .clinical_values import describe
from .metadata import PrognosisMetadata
from .types import CLINICAL, CT, RADIOMICS, ClinicalRecord, Contribution, family

__all__ = ["TITLES", "named_contributions"]

#: Titles of the modalities.
TITLES = {CT: "CT", CLINICAL: "Clinical data", RADIOMICS: "Radiomics"}


def named_contributions(
    contributions: Sequence[Contribution], metadata: PrognosisMetadata, record: ClinicalRecord
) -> tuple[Contribution, ...]:
    """Titles and values for people: a variable's own, a family's number of features."""
    schema = metadata.clinical_schema
    variables = {v.name: v for v in schema.variables} if schema is not None else {}
    kept = metadata.scaling.radiomics.kept if metadata.scaling.radiomics is not None else ()
    counts = Counter(map(family, kept))

    def one(found: Contribution) -> Contribution:
        if found.modality == RADIOMICS:
            count = counts[found.name]
            title = found.name.replace("_", " ")
            return replace(found, title=title, value=f"{count} feature{'s' if count != 1 else ''}")
        if (variable := variables.get(found.name)) is None:
            return replace(found, title="Clinical text") if found.modality == CLINICAL else found
        value = describe(variable, record.values.get(variable.name))
        return replace(found, title=variable.title, value=value)

    return tuple(one(found) for found in contributions)
