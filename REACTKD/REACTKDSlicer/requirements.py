"""Which Python packages a run needs that Slicer does not bring, and which of them are missing."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from REACTKDLib.prognosis.metadata import PrognosisMetadata
from REACTKDLib.prognosis.types import RADIOMICS

__all__ = [
    "OF_SOME_MODELS",
    "REQUIREMENTS",
    "TORCH",
    "Requirement",
    "installed_if_too_old",
    "missing_requirements",
    "prognosis_requirements",
]


@dataclass(frozen=True)
class Requirement:
    """``module`` is imported, ``specifier`` installed; ``size`` is that of the download."""

    module: str
    specifier: str
    size: str

    @property
    def name(self) -> str:
        """The package's name at the index; its module may have another."""
        return re.split(r"[^\w.-]", self.specifier, maxsplit=1)[0]


TORCH = Requirement("torch", "torch>=2.4", "200 MB to 3 GB")
#: Of every run.
REQUIREMENTS = (
    TORCH,
    Requirement("safetensors", "safetensors>=0.4", "1 MB"),
)

_SURFACES = Requirement("skimage", "scikit-image>=0.24", "20 MB")
_WAVELETS = Requirement("pywt", "PyWavelets>=1.6", "5 MB")
_LANGUAGE_MODELS = Requirement("transformers", "transformers>=4.44", "25 MB")
#: Of prognosis alone, and not of all its models.
OF_SOME_MODELS = (_SURFACES, _WAVELETS, _LANGUAGE_MODELS)


def prognosis_requirements(
    metadata: PrognosisMetadata, images: bool, text: bool
) -> tuple[Requirement, ...]:
    """What a prognosis by a model needs; ``images`` : CT and segmentation are used, ``text`` : free
    text is given.

    The language model itself is not among them: it may be any folder.
    """
    found = list(REQUIREMENTS)
    if images and RADIOMICS in metadata.network.modalities and metadata.radiomics is not None:
        if "shape" in metadata.radiomics.classes:
            found.append(_SURFACES)
        if "wavelet" in metadata.radiomics.image_types:
            found.append(_WAVELETS)
    if metadata.text is not None and (text or metadata.text.reads == "record"):
        found.append(_LANGUAGE_MODELS)
    return tuple(found)


def missing_requirements(
    requirements: Iterable[Requirement],
    find: Callable[[str], Any],
    version: Callable[[str], str] = importlib.metadata.version,
) -> tuple[Requirement, ...]:
    """Those whose module ``find`` (as ``importlib.util.find_spec``) does not find, or whose
    installed ``version`` (as ``importlib.metadata.version``) is too old."""
    return tuple(
        r for r in requirements if find(r.module) is None or installed_if_too_old(r, version)
    )


def installed_if_too_old(requirement: Requirement, version: Callable[[str], str]) -> str:
    """The installed version if it is not what is required; else "". Without metadata it counts as
    right: then only importing tells."""
    try:
        from packaging.requirements import Requirement as Specified
    except ModuleNotFoundError:  # Slicer before 5.12 has it in pip only
        from pip._vendor.packaging.requirements import Requirement as Specified
    try:
        installed = version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    fits = Specified(requirement.specifier).specifier.contains(installed, prereleases=True)
    return "" if fits else installed
