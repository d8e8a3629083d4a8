"""A network of a prognosis study as a model package, trained on all of the study's patients.

The nested cross-validation says how good a method is; the package's network is one more training of
that method, on everybody, of whom one part in ``inner_parts`` stops it early and calibrates it. It
was tested on nobody: the card says so, and gives the figures of the cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from REACTKDLib import __version__
from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.model_package import TrainingRanges
from REACTKDLib.prognosis.metadata import (
    Calibration,
    ImageSpec,
    PrognosisMetadata,
    TextEncoderSpec,
    TrainingStatistics,
)
from REACTKDLib.prognosis.model import text_encoder
from REACTKDLib.prognosis.package import PrognosisPackage, write_prognosis_package
from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings
from REACTKDLib.prognosis.scaling import PrognosisScaling
from REACTKDLib.prognosis.types import CLINICAL, CT, RADIOMICS
from REACTKDLib.types import ClassInfo

from ..folds import split_units
from .cohort import PrognosisCase, named
from .features import FullRadiomics, radiomics_of
from .listed import read_spec
from .nested import OUTCOMES, NestedStudy
from .network_method import FittedNetwork, Member, NetworkMethod

if TYPE_CHECKING:
    from .settings import ListedPatients, PackageTexts, SimulatedPatients

__all__ = ["INTENDED_USE", "LARGEST_MB", "Exported", "export_prognosis", "fit_on_everybody"]

INTENDED_USE = (
    "Research use only, not for diagnosis or treatment. Its probabilities have no clinical meaning"
    " for a patient."
)
#: A package is shipped with the extension: it must stay small.
LARGEST_MB = 15.0


@dataclass(frozen=True, eq=False)
class Exported:
    """A network that was trained on everybody with a ``seed``: ``train`` and ``selection`` are its
    patients."""

    fitted: FittedNetwork
    train: tuple[PrognosisCase, ...]
    selection: tuple[PrognosisCase, ...]
    seed: int


def fit_on_everybody(study: NestedStudy, method: str, seed: int = 0) -> Exported:
    """One network of a method, trained on all patients but those that stop and calibrate it.

    Raises
    ------
    OptionError : no such method, or one that is no network.
    """
    if method not in study.methods:
        raise OptionError(f"No method {method!r}.", f"Choose from {list(study.methods)}.")
    network = study.methods[method]
    if not isinstance(network, NetworkMethod):
        raise OptionError(
            f"{method} is no network, and packages hold networks.", "Export a network."
        )
    # A package holds one network: its contributions are those of one, and so is its time.
    choices = tuple(replace(settings, members=1) for settings in network.choices)
    cases = study.cohort.cases
    parts = split_units(
        study.cohort.units, study.cohort.labels, study.settings.inner_parts, seed, OUTCOMES
    )[0]
    train, selection = named(cases, parts.train), named(cases, parts.held_out)
    fitted = replace(network, choices=choices).fit(train, selection, seed)
    return Exported(fitted, tuple(train), tuple(selection), seed)


def export_prognosis(
    study: NestedStudy, method: str, package: Path, attribution: str, seed: int = 0
) -> PrognosisPackage:
    """Train a method on everybody and write the model package.

    Parameters
    ----------
    attribution : source and licence of the training data, a sentence for the card.

    Raises
    ------
    OptionError : as :func:`fit_on_everybody`; a study without texts for a package, radiomics or a
        network that packages cannot describe. OutputError : too large, or it cannot be written.
    """
    from .card import model_card

    texts = study.settings.package
    if texts is None:
        raise OptionError(
            f"The study {study.settings.name} has no texts for a package.",
            'Give "package" in its configuration.',
        )
    exported = fit_on_everybody(study, method, seed)
    (member,) = exported.fitted.members
    if member.size is not None:
        raise OptionError(
            f"{method} reads the whole volume; packages are for networks of a region of interest.",
            'Train it with "region": "roi".',
        )
    state = member.network.state_dict()
    size = sum(t.numel() * t.element_size() for t in state.values()) / 1e6
    if size > LARGEST_MB:
        raise OutputError(f"The network has {size:.1f} MB.", f"Stay below {LARGEST_MB:g} MB.")
    metadata = metadata_of(study, texts, exported)
    card = model_card(study, method, exported, metadata, attribution)
    return write_prognosis_package(package, metadata, state, card)


def metadata_of(study: NestedStudy, texts: PackageTexts, exported: Exported) -> PrognosisMetadata:
    """What the package of an exported network says.

    Raises
    ------
    OptionError : radiomics that a package cannot describe, or none of a specification for the CT.
    """
    (member,) = exported.fitted.members
    spec, calibration = member.spec, exported.fitted.calibration
    images = study.settings.simulated or study.settings.listed
    none, event = texts.classes
    return PrognosisMetadata(
        name=texts.name,
        title=texts.title,
        version=__version__,
        task=texts.task,
        outcome="event",
        outcome_title=texts.outcome_title,
        horizon=texts.horizon,
        classes=(ClassInfo("none", none), ClassInfo("event", event)),
        network=spec,
        scaling=used_scaling(member.scaling, spec.modalities),
        simulated=study.cohort.simulated,
        intended_use=INTENDED_USE,
        clinical_schema=study.cohort.schema if CLINICAL in spec.modalities else None,
        radiomics=_radiomics(study, images) if RADIOMICS in spec.modalities else None,
        text=_text(member),
        image=_image(study, images) if {CT, RADIOMICS} & set(spec.modalities) else None,
        calibration=Calibration(1 / calibration.slope, calibration.intercept),
        training=training_statistics(exported.train, member.scaling, spec.modalities),
    )


def used_scaling(scaling: PrognosisScaling, modalities: Sequence[str]) -> PrognosisScaling:
    """The parts of a scaling that a network of these modalities reads."""
    return PrognosisScaling(
        scaling.clinical if CLINICAL in modalities else None,
        scaling.radiomics if RADIOMICS in modalities else None,
    )


def _radiomics(
    study: NestedStudy, images: SimulatedPatients | ListedPatients | None
) -> RadiomicsSettings:
    assert images is not None and images.radiomics is not None  # the network reads radiomics
    made = radiomics_of(images.radiomics, study.configuration.folder)
    if not isinstance(made, FullRadiomics):
        raise OptionError(
            f"A package cannot describe the radiomics {images.radiomics!r}.",
            "Use settings of REACTKDLib's radiomics.",
        )
    return replace(made.how, roles=images.roles)


def _text(member: Member) -> TextEncoderSpec | None:
    if member.texts is None:
        return None
    spec = member.texts.spec
    return replace(spec, digest=text_encoder(spec.name, spec.digest, "cpu").digest())


def _image(study: NestedStudy, images: SimulatedPatients | ListedPatients | None) -> ImageSpec:
    if images is None or images.spec is None:
        raise OptionError(
            f"The study {study.settings.name} has no model specification for the CT.",
            'Give "spec".',
        )
    spec = read_spec(study.configuration.folder, images.spec)
    ct = next(modality for modality in spec.modalities if modality.name == CT)
    return ImageSpec(spec.role_rules, ct, spec.grid, spec.regions, spec.plausibility)


def training_statistics(
    train: Sequence[PrognosisCase], scaling: PrognosisScaling, modalities: Sequence[str]
) -> TrainingStatistics:
    """What training patients were like: 1st and 99th percentiles, of all who have a value."""
    clinical: dict[str, tuple[float, float]] = {}
    if CLINICAL in modalities and scaling.clinical is not None:
        rows = [c.arrays.clinical for c in train if c.arrays.clinical is not None]
        for place, name in enumerate(scaling.clinical.names):
            column = np.array([row[place] for row in rows])
            if scaling.clinical.kinds[place] == "number" and not np.isnan(column).all():
                clinical[name] = _span(column[~np.isnan(column)], 4)
    distance = None
    if RADIOMICS in modalities and scaling.radiomics is not None:
        known = [c.arrays.radiomics for c in train if c.arrays.radiomics is not None]
        squares = scaling.radiomics.scaled(np.array(known)) ** 2
        distance = float(np.percentile(np.sqrt(np.nanmean(squares, axis=1)), 99))
    seen = [case.statistics for case in train if case.statistics is not None]
    image = None
    if seen and {CT, RADIOMICS} & set(modalities):
        image = TrainingRanges(
            median_hu=_span(np.array([s.median_hu for s in seen]), 1),
            volume_ml=_span(np.array([s.volume_ml for s in seen]), 1),
            largest_spacing_mm=_span(np.array([s.largest_spacing_mm for s in seen]), 1),
        )
    return TrainingStatistics(len(train), clinical, distance, image)


def _span(values: np.ndarray, digits: int) -> tuple[float, float]:
    low, high = np.percentile(values, (1, 99))
    return (round(float(low), digits), round(float(high), digits))
