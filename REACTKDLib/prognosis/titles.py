"""What people call the modalities. Needs nothing heavy: the panel reads it, too."""

from __future__ import annotations

from .types import CLINICAL, CT, RADIOMICS

TITLES = {CT: "CT", CLINICAL: "Clinical data", RADIOMICS: "Radiomics"}
