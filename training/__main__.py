"""Commands of the training folder: ``python -m training supervise --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from REACTKDLib.errors import ReactKDError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
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
    options = parser.parse_args(arguments)

    from .configuration import read_configuration
    from .reference_run import run

    try:
        options.work.mkdir(parents=True, exist_ok=True)
        package = run(
            read_configuration(options.config), options.work, options.package, options.workers
        )
    except ReactKDError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(package.card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
