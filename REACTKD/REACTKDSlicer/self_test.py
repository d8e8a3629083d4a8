"""The module's self test, run by Slicer's Reload and Test: a simulated patient from end to end."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from REACTKDLib.model_package import shipped_packages

from .dependencies import missing_requirements
from .logic import package_of, stored_package_name, validation
from .sample_case import add_study, simulated_study


def run_self_test(logic: Any, say: Callable[[str], None]) -> None:
    """Run the shipped model on a simulated patient in the current scene; ``logic`` is REACTKDLogic.

    Installs nothing: without the Python packages of a run, it says so and checks the inputs only.

    Raises
    ------
    AssertionError : something is not as it should be.
    """
    say(_("Simulating a patient"))
    nodes = add_study(simulated_study())
    parameters = logic.getParameterNode()
    parameters.model_package = stored_package_name(shipped_packages()[0])
    package = package_of(parameters.model_package)
    parameters.ct, parameters.segmentation = None, nodes.segmentation
    assert not validation(parameters, package)[0], "a run without CT was not refused"
    parameters.ct = nodes.ct
    ready, reason = validation(parameters, package)
    assert ready, reason
    missing = missing_requirements(importlib.util.find_spec)
    if missing:
        say(
            _("Not installed, so not run: {names}").format(
                names=", ".join(r.module for r in missing)
            )
        )
        return
    say(_("Running the model"))
    shown = logic.run(parameters)
    total = sum(shown.result.probabilities.values())
    assert abs(total - 1) < 1e-6, f"probabilities sum to {total}"
    assert shown.nodes.attention.GetScene() is not None, "the attention is not in the scene"
    say(_("Passed"))
