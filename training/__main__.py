"""Commands of the training folder: ``python -m training COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from REACTKDLib.errors import ReactKDError

if TYPE_CHECKING:
    from .study import Study

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ReactKDError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    supervise = commands.add_parser(
        "supervise", help="simulate a cohort, train the student on its labels, write its package"
    )
    supervise.add_argument("--config", type=Path, required=True, help="JSON configuration")
    supervise.add_argument(
        "--work", type=Path, required=True, help="folder for tensors and checkpoints"
    )
    supervise.add_argument("--package", type=Path, required=True, help="model package to write")
    supervise.add_argument("--workers", type=int, default=2, help="processes that simulate")
    supervise.set_defaults(run=_supervise)

    for name, run, text in (
        ("prepare", _prepare, "simulate and prepare the cases of a study"),
        ("train-teachers", _train_teachers, "train the teachers of every fold"),
        ("distil", _distil, "train and measure the students, as many as fit in the time"),
        ("evaluate", _evaluate, "write results.json from the students that are finished"),
        ("reproduce", _reproduce, "all of these, in order"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, required=True, help="study configuration")
        command.add_argument(
            "--work", type=Path, required=True, help="folder for tensors, teachers, checkpoints"
        )
        command.add_argument(
            "--results", type=Path, help="folder of the study (default: training/results/<name>)"
        )
        command.add_argument("--workers", type=int, default=2, help="processes that simulate")
        command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
        command.add_argument("--method", action="append", default=[], help="only this (repeatable)")
        command.add_argument("--minutes", type=float, help="begin no student after this time")
        command.set_defaults(run=run)

    manifest = commands.add_parser("manifest", help="turn a public cohort's tree into a manifest")
    manifest.add_argument("cohort", help="hcc-tace-seg, lits17, msd-task03, waw-tace, idc, ...")
    manifest.add_argument("tree", type=Path, help="folder of the downloaded cohort")
    manifest.add_argument("output", type=Path, help="manifest to write (.csv or .json)")
    manifest.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the cohort"
    )
    manifest.set_defaults(run=_manifest)
    return parser


def _supervise(options: argparse.Namespace) -> None:
    from .configuration import read_configuration
    from .reference_run import run

    options.work.mkdir(parents=True, exist_ok=True)
    configuration = read_configuration(options.config)
    print(run(configuration, options.work, options.package, options.workers).card)


def _study(options: argparse.Namespace) -> Study:
    from REACTKDLib.errors import OptionError
    from REACTKDLib.infer import choose_device

    from .engine import join_processes
    from .study import Study
    from .study_configuration import read_study

    configuration = read_study(options.config)
    if unknown := sorted(set(options.method) - set(configuration.settings.methods)):
        raise OptionError(
            f"{options.config.name} has no methods {unknown}.",
            f"Choose from {list(configuration.settings.methods)}.",
        )
    join_processes()
    results = options.results or RESULTS / configuration.settings.name
    device = choose_device(options.device)
    return Study(configuration, options.work, results, device, options.workers)


def _prepare(options: argparse.Namespace) -> None:
    study = _study(options)
    print(f"{len(study.internal)} internal and {len(study.external)} external cases are prepared.")


def _train_teachers(options: argparse.Namespace) -> None:
    study = _study(options)
    for fold in range(study.settings.folds):
        for name in study.settings.teachers:
            study.teacher(name, fold)


def _distil(options: argparse.Namespace) -> None:
    from .study import run_units

    study = _study(options)
    units = list(study.units(options.method))
    missing = run_units(study, units, options.minutes)
    print(f"{len(units) - missing} of {len(units)} students are finished.")


def _evaluate(options: argparse.Namespace) -> None:
    from .study_report import write_study

    write_study(_study(options))


def _reproduce(options: argparse.Namespace) -> None:
    _prepare(options)
    _distil(options)
    _evaluate(options)


def _manifest(options: argparse.Namespace) -> None:
    from REACTKDLib.errors import OptionError

    from .public_cohorts import build_manifest

    if wrong := [text for text in options.option if "=" not in text]:
        raise OptionError(f"--option {wrong[0]} has no value.", "Write NAME=VALUE.")
    chosen = dict(text.split("=", 1) for text in options.option)
    built = build_manifest(options.cohort, options.tree, options.output, chosen)
    print(f"{built.path}: {built.cases} cases; {len(built.left_out)} left out.")
    for text in built.left_out:
        print(f"  {text}")


if __name__ == "__main__":
    sys.exit(main())
