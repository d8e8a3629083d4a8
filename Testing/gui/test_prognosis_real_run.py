"""A prognosis in the panel through the real worker process, with a small random package."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import MODULE
from harness.waiting import wait_until
from test_clinical_table import type_into


@pytest.fixture
def panel(slicer_harness, random_prognosis):
    widget = slicer_harness.load_module(MODULE)
    widget.parent.enter()
    widget.panel.ensure = lambda needed: False
    widget.panel.parameters.prognosis_package = str(random_prognosis.path)
    yield widget.panel
    widget.cleanup()


def compute(panel):
    panel.ui.prognosisButton.click()
    wait_until(lambda: not panel.prognosis.running, 900.0)
    shown = panel.prognosis.view.shown
    assert shown is not None, panel.ui.prognosisStatusLabel.text
    return shown.result


def test_a_patient_goes_through_the_worker(panel, ct_study):
    """With all three modalities, then with the values alone; then a cancelled one."""
    import slicer
    from REACTKDSlicer.sample_case import add_study

    nodes = add_study(ct_study)
    ui = panel.ui
    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    type_into(panel, "albumin", "4.1 g/dl")
    type_into(panel, "age", "61")
    whole = compute(panel)
    assert whole.modalities == ("ct", "clinical", "radiomics")
    total = whole.base_logit + sum(c.logit for c in whole.modality_contributions)
    assert total == pytest.approx(whole.logit, abs=1e-3)
    assert {c.name: c.value for c in whole.contributions}["albumin"] == "41 g/l"
    attention = panel.prognosis.view.shown.nodes.attention
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(attention), whole.ct_case.attention.array
    )
    assert "simulated" in ui.prognosisNoticesLabel.text.lower()
    assert ui.prognosisHeadlineLabel.text.endswith("(simulated model)")

    ui.prognosisImageCheckBox.checked = False
    alone = compute(panel)
    assert alone.modalities == ("clinical",)
    assert alone.ct_case is None
    assert alone.base_logit == pytest.approx(whole.base_logit, abs=1e-4)

    ui.prognosisImageCheckBox.checked = True
    type_into(panel, "age", "71")
    ui.prognosisButton.click()
    wait_until(lambda: ui.prognosisProgressBar.value > 0)
    ui.prognosisButton.click()
    assert ui.prognosisStatusLabel.text == "Cancelled; the scene is as it was."
    assert not panel.runs.busy
