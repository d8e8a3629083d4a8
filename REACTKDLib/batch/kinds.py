"""What a batch must know of a kind of model packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OptionError
from ..model_package import ModelPackage
from ..prognosis.clinical_input import knows
from ..prognosis.package import PrognosisPackage
from .manifest import CLINICAL, IMAGES, Form
from .prognosis_cases import prognosis_summary, run_prognosis_case
from .tables import Summary, classification_summary
from .task import Process, run_pipeline

if TYPE_CHECKING:
    from ..pipeline import RunOptions


@dataclass(frozen=True)
class Kind:
    """``form`` of the manifest; ``process`` writes the result of a case; ``summary`` of results;
    ``check`` refuses options that the kind does not have, which raises OptionError or
    EnvironmentProblem; ``dicom`` : whether its results can be written as DICOM objects."""

    form: Form
    process: Process
    summary: Summary
    check: Callable[[RunOptions], None]
    dicom: bool


def kind_of(package: ModelPackage | PrognosisPackage) -> Kind:
    """The kind of a package."""
    if isinstance(package, PrognosisPackage):
        schema = package.metadata.clinical_schema
        form = Form(
            required=("case",),
            optional=("ct", "segmentation", "series", CLINICAL),
            variable=lambda name: schema is not None and knows(schema, name),
        )
        return Kind(form, run_prognosis_case, prognosis_summary(), _check_prognosis, False)

    def check(options: RunOptions) -> None:
        from ..pipeline import check_options

        check_options(options, package)

    return Kind(IMAGES, run_pipeline, classification_summary(package.class_names), check, True)


def _check_prognosis(options: RunOptions) -> None:
    from ..prognosis.pipeline import PrognosisOptions, check_options

    for name, given in (("target", options.target), ("backend", options.backend)):
        if given not in (None, "auto"):
            raise OptionError(f"--{name} is not for prognosis.", "Leave it out.")
    check_options(PrognosisOptions(device=options.device, scheme=options.scheme))
