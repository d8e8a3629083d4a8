"""Commands of the training folder: ``python -m training COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from REACTKDLib.errors import ReactKDError

if TYPE_CHECKING:
    from .study import Study, Unit

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

    simulate = commands.add_parser(
        "simulate", help="simulate cases as files, with a manifest and their truth"
    )
    simulate.add_argument("--output", type=Path, required=True, help="new folder")
    simulate.add_argument("--profile", default="internal", choices=("internal", "external"))
    simulate.add_argument("--count", type=int, default=10, help="number of cases")
    simulate.add_argument("--first", type=int, default=0, help="index of the first case")
    simulate.add_argument("--seed", type=int, default=20260, help="of the cohort")
    simulate.add_argument("--workers", type=int, default=2, help="processes that simulate")
    simulate.set_defaults(run=_simulate)

    of_study = argparse.ArgumentParser(add_help=False)
    of_study.add_argument("--config", type=Path, required=True, help="study configuration")
    of_study.add_argument(
        "--work", type=Path, required=True, help="folder for tensors, teachers, checkpoints"
    )
    of_study.add_argument(
        "--results", type=Path, help="folder of the study (default: training/results/<name>)"
    )
    of_study.add_argument("--workers", type=int, default=2, help="processes that simulate")
    of_study.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    commands_of_study = {}
    for name, run, text in (
        ("prepare", _prepare, "simulate and prepare the cases of a study"),
        ("pretrain", _pretrain, "pretrain the students' CT encoder, where the study says so"),
        ("train-teachers", _train_teachers, "train the teachers of every fold"),
        ("distil", _distil, "train and measure the students, as many as fit in the time"),
        ("evaluate", _evaluate, "write results.json from the students that are finished"),
        ("reproduce", _reproduce, "all of these, in order"),
        ("compare", _compare, "differences between two methods of a study"),
        ("export", _export, "write a study's student as a model package"),
    ):
        command = commands.add_parser(name, help=text, parents=[of_study])
        command.set_defaults(run=run)
        commands_of_study[name] = command
    for name in ("train-teachers", "distil"):
        commands_of_study[name].add_argument(
            "--part",
            type=_part,
            default=(0, 1),
            metavar="K/N",
            help="only the K-th of N equal parts of the work, K from 1, for N processes",
        )
    for name in ("distil", "reproduce"):
        command = commands_of_study[name]
        command.add_argument("--method", action="append", default=[], help="only this (repeatable)")
        command.add_argument("--minutes", type=float, help="begin no student after this time")
    for name in ("evaluate", "reproduce"):
        commands_of_study[name].add_argument(
            "--readme", type=Path, help="Markdown file whose table is made anew"
        )
    compare, export = commands_of_study["compare"], commands_of_study["export"]
    compare.add_argument("--method", default="REACT-KD", help="the one method")
    compare.add_argument("--reference", default="no distillation", help="the other method")
    export.add_argument("--method", default="REACT-KD", help="method of the student")
    export.add_argument("--package", type=Path, required=True, help="model package to write")
    export.add_argument(
        "--attribution", required=True, help="source and licence of the training data, a sentence"
    )

    manifest = commands.add_parser("manifest", help="turn a public cohort's tree into a manifest")
    manifest.add_argument("cohort", help="hcc-tace-seg, lits17, msd-task03, waw-tace, idc, ...")
    manifest.add_argument("tree", type=Path, help="folder of the downloaded cohort")
    manifest.add_argument("output", type=Path, help="manifest to write (.csv or .json)")
    manifest.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the cohort"
    )
    manifest.set_defaults(run=_manifest)

    from .prognosis.commands import add_commands

    add_commands(commands)
    return parser


def _part(text: str) -> tuple[int, int]:
    """``K/N`` as (first, step) of a slice."""
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N")
    return int(number) - 1, int(parts)


def _simulate(options: argparse.Namespace) -> None:
    from .simulated_files import write_cohort

    indices = range(options.first, options.first + options.count)
    print(write_cohort(options.output, options.profile, indices, options.seed, options.workers))


def _study(options: argparse.Namespace) -> Study:
    import torch

    from REACTKDLib.backends import choose_device
    from REACTKDLib.errors import OptionError

    from .processes import join_processes
    from .study import Study
    from .study_configuration import read_study

    configuration = read_study(options.config)
    asked = getattr(options, "method", [])
    asked = [asked] if isinstance(asked, str) else asked
    if unknown := sorted(set(asked) - set(configuration.settings.seeds)):
        raise OptionError(
            f"{options.config.name} has no methods {unknown}.",
            f"Choose from {list(configuration.settings.seeds)}.",
        )
    results = options.results or RESULTS / configuration.settings.name
    device = join_processes(torch.device(choose_device(options.device)))
    return Study(configuration, options.work, results, device, options.workers)


def _prepare(options: argparse.Namespace) -> None:
    study = _study(options)
    print(f"{len(study.internal)} internal and {len(study.external)} external cases are prepared.")


def _pretrain(options: argparse.Namespace) -> None:
    study = _study(options)
    found = dict.fromkeys(study.encoder(fold) for fold in study.settings.fold_numbers)
    print("\n".join(str(path) for path in found if path) or "The study pretrains no encoder.")


def _train_teachers(options: argparse.Namespace) -> None:
    study = _study(options)
    first, step = options.part
    names = study.settings.teachers
    for name, fold in [(n, f) for f in study.settings.fold_numbers for n in names][first::step]:
        study.answers(name, fold)


def _distil(options: argparse.Namespace) -> None:
    study = _study(options)
    first, step = options.part
    _run_units(study, list(study.units(options.method))[first::step], options.minutes)


def _run_units(study: Study, units: Sequence[Unit], minutes: float | None) -> None:
    from .study import run_units

    missing = run_units(study, units, minutes)
    print(f"{len(units) - missing} of {len(units)} students are finished.")


def _evaluate(options: argparse.Namespace) -> None:
    from .processes import first_writes
    from .readme_table import update_readme
    from .study_report import write_study
    from .study_tables import readme_table

    study = _study(options)

    def write() -> None:
        results = write_study(study)
        if options.readme is not None:
            update_readme(options.readme, study.settings.name, readme_table(results))

    first_writes(write)


def _reproduce(options: argparse.Namespace) -> None:
    _prepare(options)
    study = _study(options)
    _run_units(study, list(study.units(options.method)), options.minutes)
    _evaluate(options)


def _compare(options: argparse.Namespace) -> None:
    from .compare import compare

    study = _study(options)
    print(compare(study, options.method, options.reference))


def _export(options: argparse.Namespace) -> None:
    from .export_student import export_student

    study = _study(options)
    written = export_student(study, options.method, options.package, options.attribution)
    print(written.card)


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
