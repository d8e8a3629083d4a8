"""The command line: ``reactkd predict | prognosis | batch | series | info | demo | scene | report |
dicom | push | export``.

Exit codes: 0 done; 1 unexpected error; 2 wrong option; 3 unusable input; 4 unusable model package;
5 output exists, cannot be written or was not stored by a PACS; 6 a library, device or download is
not available; 7 a batch is complete and some of its cases failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .batch_command import add_batch_options, run_batch_command
from .cli_dicom import add_deidentify_options, add_dicom_commands, chosen_pseudonyms
from .cli_log import JsonLog, Log, TerminalLog
from .cli_model import add_model_commands, any_package_of, package_of, role_segments
from .cli_prognosis import add_prognosis_command, rules_of
from .cli_scene import add_scene_commands, draw, need_scene_libraries
from .errors import ClinicalValueError, OptionError, ReactKDError
from .model_package import ModelPackage
from .types import RESEARCH_USE, CaseResult

if TYPE_CHECKING:
    from .demo import DemoCase

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    log = JsonLog() if options.log_json else TerminalLog()
    try:
        return options.run(options, log) or 0
    except ClinicalValueError as error:
        log.error(
            type(error).__name__, error.message, error.advice, error.exit_code, fields=error.fields
        )
        return error.exit_code
    except ReactKDError as error:
        log.error(type(error).__name__, error.message, error.advice, error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        log.error(
            "Interrupted", "Stopped on request; nothing half-written is left.", "", _INTERRUPTED
        )
        return _INTERRUPTED
    except Exception as error:  # the last resort: a sentence for people, the trace on request
        if options.debug:
            traceback.print_exc()
        text = f"Unexpected {type(error).__name__}: {error}."
        log.error("Unexpected", text, "Run again with --debug and report the output.", 1)
        return 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log-json", action="store_true", help="print one JSON object per line")
    common.add_argument("--debug", action="store_true", help="print the trace of unexpected errors")
    parser = argparse.ArgumentParser(
        prog="reactkd",
        description=f"What a liver tumour classifier saw in a CT. {RESEARCH_USE}",
        epilog="Exit codes: 0 done, 1 unexpected, 2 option, 3 input, 4 model package, 5 output,"
        " 6 missing library, device or download, 7 some cases of a batch failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"reactkd {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE=SEGMENT",
        help="which segment (name or label) has a role, e.g. liver=5; repeatable",
    )
    shared.add_argument("--model", help="model package: a folder, or the name of a shipped one")
    shared.add_argument("--device", default="auto", help="auto, cpu or cuda")
    shared.add_argument(
        "--backend",
        default="auto",
        help="what runs the network: auto (on the CPU the fastest installed), torch, openvino or"
        " onnxruntime",
    )
    shared.add_argument("--scheme", default="anatomical", help="regions: anatomical or paper")
    shared.add_argument("--target", help="class to explain; default: the most probable")
    commands = parser.add_subparsers(dest="command", required=True)

    predict = commands.add_parser(
        "predict", parents=[shared, common], help="classify and explain one CT"
    )
    predict.set_defaults(run=_predict)
    predict.add_argument(
        "--ct", type=Path, required=True, help="NIfTI, NRRD, MetaImage or DICOM folder"
    )
    predict.add_argument(
        "--segmentation",
        type=Path,
        nargs="+",
        required=True,
        help="labelmap, .seg.nrrd, DICOM SEG or RTSTRUCT, or one file per structure",
    )
    predict.add_argument("--output", type=Path, required=True, help="new folder for the result")
    predict.add_argument("--pet-fdg", type=Path, help="FDG-PET: SUV, or DICOM folder")
    predict.add_argument("--pet-acetate", type=Path, help="acetate-PET: SUV, or DICOM folder")
    predict.add_argument(
        "--pet-value",
        action="append",
        default=[],
        metavar="[TRACER.]KEY=VALUE",
        help="what a PET header lacks: weight_kg, dose_mbq, half_life_s, injection, series",
    )
    _add_series_options(predict)
    predict.add_argument("--case-id", help="name of the case in the result")
    predict.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    predict.add_argument(
        "--dicom-output", type=Path, metavar="DIR", help="new folder for the result as DICOM"
    )
    add_deidentify_options(predict)

    add_prognosis_command(commands, common)

    series = commands.add_parser(
        "series", parents=[common], help="list the series of a DICOM folder and which is read"
    )
    series.set_defaults(run=_series)
    series.add_argument("folder", type=Path, help="DICOM folder")
    _add_series_options(series)

    batch = commands.add_parser(
        "batch", parents=[shared, common], help="classify and explain many CTs, resumably"
    )
    batch.set_defaults(run=_batch)
    add_batch_options(batch)

    demo = commands.add_parser("demo", parents=[common], help="run on a simulated or a real CT")
    demo.set_defaults(run=_demo)
    demo.add_argument("--output", type=Path, required=True, help="new folder")
    demo.add_argument(
        "--real", action="store_true", help="fetch two real CTs (38 MB, once) instead of simulating"
    )

    add_scene_commands(commands, common)
    add_dicom_commands(commands, common)
    add_model_commands(commands, common)

    return parser


def _add_series_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", metavar="UID", help="CT series of a DICOM folder")
    parser.add_argument(
        "--phase", help="contrast phase of the CT series: native, arterial, portal or late"
    )


def _batch(options: argparse.Namespace, log: Log) -> int:
    package = any_package_of(options.model)
    rules = package.role_rules if isinstance(package, ModelPackage) else rules_of(package.metadata)
    return run_batch_command(options, package, role_segments(options.role, rules), log)


def _predict(options: argparse.Namespace, log: Log) -> None:
    package = package_of(options.model)
    roles = role_segments(options.role, package.role_rules)
    # Imported late, so that `reactkd info` and a wrong option need neither SimpleITK nor torch.
    from .dicom_input.pet import parse_pet_values
    from .pipeline import RunOptions, run_files
    from .read import StudyFiles

    pseudonyms = chosen_pseudonyms(options)
    if options.dicom_output is not None:
        from .dicom_output import check_dicom_output, write_dicom_output

        if not options.ct.is_dir():
            raise OptionError(
                "--dicom-output needs a CT that is a DICOM folder.",
                "Objects for a PACS refer to the images of the CT.",
            )
        if options.dicom_output.absolute() == options.output.absolute():
            raise OptionError(
                f"--output and --dicom-output are the same folder, {options.output}.",
                "Give each a folder of its own.",
            )
        check_dicom_output(options.dicom_output, overwrite=options.overwrite)

    pet = {"pet_fdg": options.pet_fdg, "pet_acetate": options.pet_acetate}
    pet = {tracer: path for tracer, path in pet.items() if path is not None}
    files = StudyFiles(
        ct=options.ct,
        segmentation=tuple(options.segmentation),
        pet=pet,
        roles=roles,
        series_uid=options.series,
        case_id=options.case_id,
        phase=options.phase,
        pet_values=parse_pet_values(options.pet_value, tuple(pet)),
    )
    case = run_files(
        files,
        package,
        options.output,
        RunOptions(options.target, options.scheme, options.device, options.backend),
        overwrite=options.overwrite,
        progress=log.progress,
        pseudonyms=pseudonyms,
    )
    _say_result(case, options.output, log)
    if options.dicom_output is not None:
        written = write_dicom_output(
            case,
            options.ct,
            options.dicom_output,
            series_uid=options.series,
            pseudonyms=pseudonyms,
            overwrite=options.overwrite,
        )
        log.say(f"DICOM objects: {written}", dicom_output=str(written))


def _say_result(case: CaseResult, output: Path, log: Log) -> None:
    lines = [f"{case.case_id}: {case.task_title}. {RESEARCH_USE}"]
    lines += [f"  {case.probabilities[c.name]:6.1%}  {c.title}" for c in case.classes]
    lines.append(f"Regions that speak most for '{case.class_title(case.target)}' (logit units):")
    lines += [f"  {share.share:+.3f}  {region.name}" for region, share in case.ranked[:4]]
    lines += [f"{notice.severity}: {notice.text}" for notice in case.notices]
    lines.append(f"Result: {output}")
    log.say("\n".join(lines), output=str(output), probabilities=dict(case.probabilities))


def _series(options: argparse.Namespace, log: Log) -> None:
    from .series_listing import list_folder

    text, records = list_folder(options.folder, series_uid=options.series, phase=options.phase)
    log.say(text, series=records)


def _demo(options: argparse.Namespace, log: Log) -> None:
    package = package_of(None)
    need_scene_libraries()
    from .demo import demo_cases
    from .pipeline import run_files
    from .report import read_result

    if options.real:
        from .example_data import PACKAGE, SIZE_MB, VERSION

        log.say(f"Fetching {PACKAGE} {VERSION} through pip ({SIZE_MB} MB), unless it is cached.")
    else:
        log.say("Simulating a case. Everything shown is simulated.")
    for case in demo_cases(options.output, real=options.real):
        run_files(case.files, package, case.output, progress=log.progress)
        _say_result(read_result(case.output), case.output, log)
        draw(case.output, case.files.ct, None, log)
        if case.prognosis is not None:
            _demo_prognosis(case, log)


def _demo_prognosis(case: DemoCase, log: Log) -> None:
    """The prognosis of a demo's case, as its user would ask for it."""
    segmentation = map(str, case.files.segmentation)
    words = ["prognosis", "--ct", str(case.files.ct), "--segmentation", *segmentation]
    words += ["--clinical", str(case.clinical), "--output", str(case.prognosis)]
    words += ["--case-id", str(case.files.case_id)]
    options = _parser().parse_args(words)
    options.run(options, log)


if __name__ == "__main__":
    sys.exit(main())
