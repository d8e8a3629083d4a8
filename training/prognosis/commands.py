"""``python -m training prognosis-...``: run, evaluate, reproduce."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cohort import PrognosisCohort
    from .nested import NestedStudy, PrognosisUnit
    from .settings import PrognosisConfiguration

__all__ = ["add_commands", "cohort_of", "open_study"]

RESULTS = Path(__file__).parents[1] / "results"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of the prognosis to those of the training folder."""
    of_study = argparse.ArgumentParser(add_help=False)
    of_study.add_argument("--config", type=Path, required=True, help="study configuration")
    of_study.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder for images, radiomics and log odds",
    )
    of_study.add_argument(
        "--results", type=Path, help="folder of the study (default: training/results/<name>)"
    )
    of_study.add_argument("--workers", type=int, default=2, help="processes that read and measure")
    for name, run, text in (
        ("prognosis-run", _run, "nested cross-validation of a prognosis study, resumable"),
        ("prognosis-evaluate", _evaluate, "write results.json and report.html of what is finished"),
        ("prognosis-reproduce", _reproduce, "both, in order"),
        ("prognosis-export", _export, "train a network on everybody, write a model package"),
    ):
        command = commands.add_parser(name, help=text, parents=[of_study])
        command.set_defaults(run=run)
        if name != "prognosis-evaluate":
            command.add_argument(
                "--device",
                default="cpu",
                choices=("auto", "cpu", "cuda"),
                help="that trains networks; the CPU gives the same on every machine of a kind",
            )
        if name in ("prognosis-run", "prognosis-reproduce"):
            command.add_argument(
                "--part",
                type=part,
                default=(0, 1),
                metavar="K/N",
                help="only the K-th of N equal parts of the work, K from 1, for N processes",
            )
            command.add_argument(
                "--method", action="append", default=[], help="only this (repeatable)"
            )
            command.add_argument("--minutes", type=float, help="begin no training after this time")
        if name in ("prognosis-evaluate", "prognosis-reproduce"):
            command.add_argument(
                "--readme", type=Path, help="Markdown file whose table is made anew"
            )
        if name == "prognosis-export":
            command.add_argument("--method", default="TMI-CLNet", help="method of the network")
            command.add_argument("--seed", type=int, default=0, help="of that training")
            command.add_argument("--package", type=Path, required=True, help="package to write")
            command.add_argument(
                "--attribution",
                required=True,
                help="source and licence of the training data, a sentence",
            )


def part(text: str) -> tuple[int, int]:
    """``K/N`` as (first, step) of a slice."""
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N")
    return int(number) - 1, int(parts)


def cohort_of(
    configuration: PrognosisConfiguration, work: Path, workers: int = 2
) -> PrognosisCohort:
    """The patients of a configuration; images and radiomics are kept in ``work``.

    Raises
    ------
    ReactKDError : as the reader of the kind of cohort.
    """
    s, folder = configuration.settings, configuration.folder
    if s.hcc_table is not None:
        from .hcc_table import read_hcc_table

        return read_hcc_table(folder / s.hcc_table)
    from REACTKDLib.prognosis.schema import load_schema

    from .listed import listed_cohort, simulated_cohort

    if s.simulated is not None:
        return simulated_cohort(s.simulated, folder, work, workers)
    assert s.listed is not None  # a configuration has one of the three
    named = s.listed.clinical
    schema = None
    if named is not None:
        beside = folder / named
        schema = load_schema(beside if beside.suffix == ".json" else named)
    return listed_cohort(s.listed, folder, work, schema, s.seed, workers)


def open_study(options: argparse.Namespace) -> NestedStudy:
    """The study that the options of a command name."""
    from .nested import NestedStudy
    from .settings import read_prognosis_study

    configuration = read_prognosis_study(options.config)
    cohort = cohort_of(configuration, options.work, options.workers)
    results = options.results or RESULTS / configuration.settings.name
    device = getattr(options, "device", "cpu")
    if device == "auto":
        from REACTKDLib.backends import choose_device

        device = choose_device(device)
    return NestedStudy(configuration, cohort, options.work, results, device)


def _run(options: argparse.Namespace) -> None:
    study = open_study(options)
    first, step = options.part
    units = list(study.units(options.method))[first::step]
    if first == 0:
        study.write_folds()
    missing = run_units(study, units, options.minutes)
    print(f"{len(units) - missing} of {len(units)} trainings are finished.")


def run_units(
    study: NestedStudy, units: Sequence[PrognosisUnit], minutes: float | None = None
) -> int:
    """Run units in order; none begins after so many minutes. The number that is left."""
    began = time.monotonic()
    for done, unit in enumerate(units):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            return len(units) - done
        study.run(unit)
    return 0


def _evaluate(options: argparse.Namespace) -> None:
    from ..readme_table import update_readme
    from .report import table_of, write_prognosis_study

    study = open_study(options)
    results = write_prognosis_study(study)
    if options.readme is not None:
        update_readme(options.readme, study.settings.name, table_of(study, results))


def _reproduce(options: argparse.Namespace) -> None:
    _run(options)
    _evaluate(options)


def _export(options: argparse.Namespace) -> None:
    from .export import export_prognosis

    study = open_study(options)
    written = export_prognosis(
        study, options.method, options.package, options.attribution, options.seed
    )
    print(written.card)
