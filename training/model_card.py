"""The model card, from the figures of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .configuration import TrainingConfiguration
from .evaluation.bootstrap import Estimate
from .evaluation.calibration import TEMPERATURE_RANGE
from .export import TrainedModalitySet


def model_card(
    configuration: TrainingConfiguration,
    figures: Mapping[str, Any],
    estimates: Mapping[str, Estimate],
    modality_sets: Mapping[str, TrainedModalitySet],
    intended_use: str,
) -> str:
    """Markdown text: use, data, training, figures with n and intervals, limits."""
    spec, sizes, how = configuration.spec, configuration.cohort, configuration.optimisation
    rows = "\n".join(
        f"| {name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |"
        for name, e in estimates.items()
    )
    calibration = "\n".join(
        f"| {key} | {m.calibration.temperature:.2f} | {m.calibration.distance_limit:.2f} |"
        for key, m in modality_sets.items()
    )
    inputs = ", ".join(
        m.title + (" (required)" if m.required else " (optional)") for m in spec.modalities
    )
    roles = ", ".join(r.name + (" (required)" if r.required else "") for r in spec.role_rules)
    low, high = TEMPERATURE_RANGE
    at_bound = [
        key
        for key, m in modality_sets.items()
        if not 1.01 * low < m.calibration.temperature < 0.99 * high
    ]
    uncalibrated = (
        f"- The temperature of {', '.join(at_bound)} is at the bound of its fit: with these\n"
        "  modalities the probabilities are not calibrated.\n"
        if at_bound
        else ""
    )
    minutes, environment = figures["minutes"], figures["environment"]
    best = max(figures["history"], key=lambda row: (row["selection_auc"], row["epoch"]))
    return f"""# {spec.name}

**Trained on SIMULATED images only. {intended_use}**

## What it does

{spec.title}: {", ".join(c.title for c in spec.classes)}.
Inputs: {inputs}, and a segmentation with the roles {roles}.

## Training data

Simulated patients made by `REACTKDLib.simulation` with the distributions of `training.cohort`,
profile `{sizes.profile}`, seed {configuration.seed}: {sizes.train} to train, {sizes.selection} to
choose the epoch and fit the temperatures, {sizes.test} to test; {sizes.external_test} of the
profile `external` (other scanner, CT only) to test. No real patient. Labels are the grade as
simulated pathology reports it, with its noise near the cuts.

## Training

First {how.crop_steps} steps of {how.batch_size} crops around lesions, in which the head grades
cells: lesion cells the case's class, others undecided. Then whole cases: cross entropy of the
case's label (smoothing {how.label_smoothing}) and of the cells (weight {how.dense_weight}).
No distillation.
{how.epochs} epochs, epoch {best["epoch"]:.0f} kept for its selection AUC; AdamW, learning rates
{how.learning_rate} and {how.fine_learning_rate}. Each training case shows one set of modalities,
drawn with the probabilities {how.modality_sets}.
Training took {minutes["training"]} minutes on {environment["threads"]} threads
({environment["device"]}). Again: `make model`

## Figures (simulated test cases)

Macro AUC (mean of the one-against-rest AUCs), 95 % interval by bootstrap over patients.

| test | macro AUC | 95 % interval | n |
|---|---|---|---|
{rows}

| modalities | temperature | feature distance limit |
|---|---|---|
{calibration}

## Limits

- Simulated anatomy, lesions and noise are far simpler than a patient's. Nothing here says how the
  network behaves on real CT; results on real CT show the software, not the disease.
- Intensities are z-scored over the region of interest (organ, lesions and a margin of
  {spec.grid.margin_mm:g} mm); what lies outside cannot vote.
- Without a lesion in the segmentation the answer rests on the parenchyma alone and says so.
  Training had no such case: attention then falls on any part of the organ.
- CBAM's spatial attention is close to 0 or 1 in many cells: read it as a switch, not as a measure.
- The average pooling gives lesions (and {spec.pooling.lesion_margin_mm:g} mm around them)
  {spec.pooling.lesion_weight:.0%} of its weight and the rest of the region of interest what
  remains, so the answer depends on what the segmentation calls a lesion.
{uncalibrated}"""
