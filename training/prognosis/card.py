"""The model card of a package of prognosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from REACTKDLib.prognosis.metadata import PrognosisMetadata
from REACTKDLib.prognosis.types import CLINICAL, CT, MODALITIES, RADIOMICS

from .nested import NestedStudy
from .report import attainable_figures, table_of
from .results import prognosis_results

if TYPE_CHECKING:
    from .export import Exported

__all__ = ["model_card"]

_TITLES = {CT: "CT with segmentation", CLINICAL: "clinical variables", RADIOMICS: "radiomics"}


def model_card(
    study: NestedStudy,
    method: str,
    exported: Exported,
    metadata: PrognosisMetadata,
    attribution: str,
) -> str:
    """Use, data, training, figures of the study with n and intervals, limits; Markdown."""
    s, cohort = study.settings, study.cohort
    kind = "SIMULATED patients only" if cohort.simulated else "real patients"
    network = metadata.network
    inputs = ", ".join(_TITLES[name] for name in MODALITIES if name in network.modalities)
    events = sum(case.label for case in (*exported.train, *exported.selection))
    details = exported.fitted.details
    members = study.configuration.method_settings(method).get("members", 1)
    averaged = (
        f" In the study this method averages {members} networks; a package holds one."
        if members > 1
        else ""
    )
    return f"""# {metadata.name}

**Trained on {kind}. {metadata.intended_use}**

## What it does

{metadata.title}.

Probability of: {metadata.outcome_title}. Inputs: {inputs}; any of them may be missing.
Network: TMI-CLNet in the {network.form} form, fusion "{network.fusion}", width {network.width},
{details["parameters"]} parameters.

## Training data

{attribution} {len(exported.train)} patients trained this network, {len(exported.selection)}
others stopped its training and calibrated it; {events} of them all had the event. Scaling and the
choice of radiomics features are of the training patients alone.

## Training

Study `{s.name}`, method {method}, seed {exported.seed}: {details["epochs"][0]} epochs, the weights
of epoch {details["epoch"][0]}; calibrated log odds = {metadata.calibration.intercept:.3f} + log
odds / {metadata.calibration.temperature:.3f}.{averaged} Configuration:
`training/configs/prognosis`; results and environment: `training/results/{s.name}`.

## Figures

This network was trained on all patients of its study and tested on none. The figures are those of
the method in nested cross-validation ({s.folds} folds, {s.repeats} repeats; seeds
{list(s.methods[method].seeds)}): each patient tested by networks that did not know them; 95 %
intervals by bootstrap over patients.

{_figures(study)}
## Limits

{_limits(study)}"""


def _figures(study: NestedStudy) -> str:
    if not study.runs():
        return "No run of the cross-validation is finished yet.\n"
    text = table_of(study, prognosis_results(study))
    if study.settings.simulated is None:
        return text
    rows = "".join(
        f"| {names.replace('+', ' + ')} | {one['as measured']:.3f} | {one['latents']:.3f} |\n"
        for names, one in attainable_figures(study)["AUROC"].items()
    )
    return (
        f"{text}\nThe best possible predictor of the simulated truth reaches these AUROCs on the"
        " same patients:\n\n| modalities | with variables as measured | with each latent known"
        f" |\n|---|---|---|\n{rows}"
    )


def _limits(study: NestedStudy) -> str:
    lines = [
        f"The study is small (n = {len(study.cohort.cases)}): read the intervals, not the values.",
        "Contributions say what the network made of an input, not what causes the outcome.",
        "A patient unlike those of the training is answered all the same; notices say where a value"
        " lies outside what the training knew.",
    ]
    if study.cohort.simulated:
        lines.insert(
            0,
            "Simulated patients are far simpler than real ones, and the outcome follows a formula."
            " Nothing here says how the network behaves on real patients.",
        )
    return "".join(f"- {line}\n" for line in lines)
