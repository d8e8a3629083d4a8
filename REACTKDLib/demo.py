"""The demo: a simulated case made on the spot, or real CTs fetched on request."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import OutputError
from .example_data import LIVER_LABEL, fetch_example_cases
from .read import StudyFiles

_DEMO_SEED = 20

#: Clinical values of the simulated patient, as a hospital would send them; made up.
SIMULATED_CLINICAL = """name,value,unit
age,61,years
sex,male,
HBV,yes,
albumin,3.1,g/dl
bilirubin_total,38,umol/l
platelets,88,10^9/l
ALT,45,U/l
AST,62,U/l
creatinine,71,umol/l
grip_strength,27,kg
"""


@dataclass(frozen=True)
class DemoCase:
    """One case of the demo and where its results go; ``clinical`` : a file of clinical values, and
    ``prognosis`` : where the prognosis goes, both None where the case has none."""

    files: StudyFiles
    output: Path
    clinical: Path | None = None
    prognosis: Path | None = None


def real_case_files(python: str = sys.executable) -> tuple[StudyFiles, ...]:
    """The real cases, fetched once by the pip of the interpreter ``python``.

    Raises
    ------
    EnvironmentProblem : they cannot be fetched.
    """
    return tuple(
        StudyFiles(
            ct=case.ct,
            segmentation=(case.segmentation,),
            roles={"liver": (LIVER_LABEL,)},
            case_id=case.name,
        )
        for case in fetch_example_cases(python)
    )


def demo_cases(output: Path, *, real: bool) -> tuple[DemoCase, ...]:
    """Prepare the demo's inputs: simulate a case under ``output``, or fetch the real ones.

    Raises
    ------
    OutputError : ``output`` holds an earlier demo.
    EnvironmentProblem : the real cases cannot be fetched.
    """
    if output.exists() and any(output.iterdir()):
        raise OutputError(f"{output} exists and is not empty.", "Give a new folder.")
    if real:
        return tuple(DemoCase(files, output / str(files.case_id)) for files in real_case_files())
    from .simulation import demo_parameters, simulate_case, write_case

    folder = output / "simulated_case"
    write_case(simulate_case(demo_parameters(), _DEMO_SEED), folder)
    clinical = folder / "simulated_clinical.csv"
    clinical.write_text(SIMULATED_CLINICAL, encoding="utf-8")
    return (
        DemoCase(
            StudyFiles(
                ct=folder / "simulated_ct.nii.gz",
                segmentation=(folder / "simulated_segmentation.nii.gz",),
                pet={
                    "pet_fdg": folder / "simulated_pet_fdg.nii.gz",
                    "pet_acetate": folder / "simulated_pet_acetate.nii.gz",
                },
                case_id="simulated_case",
            ),
            output / "simulated_result",
            clinical,
            output / "simulated_prognosis",
        ),
    )
