"""The command line: ``reactkd predict | batch | series | info | demo | scene | report | dicom |
push | export``.

Exit codes: 0 done; 1 unexpected error; 2 wrong option; 3 unusable input; 4 unusable model package;
5 output exists, cannot be written or was not stored by a PACS; 6 a library, device or download is
not available; 7 a batch is complete and some of its cases failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .batch_command import add_batch_options, run_batch_command
from .cli_dicom import add_deidentify_options, add_dicom_commands, chosen_pseudonyms
from .errors import EnvironmentProblem, InputError, OptionError, ReactKDError
from .model_package import (
    ModalitySetStatistics,
    ModelPackage,
    load_package,
    shipped_packages,
)
from .report import PROVENANCE, SCENE
from .types import RESEARCH_USE, CaseResult

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    log = _JsonLog() if options.log_json else _TerminalLog()
    try:
        return options.run(options, log) or 0
    except ReactKDError as error:
        log.error(type(error).__name__, error.message, error.advice, error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("Interrupted", "Stopped on request; nothing was written.", "", _INTERRUPTED)
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

    info = commands.add_parser("info", parents=[common], help="show a model package")
    info.set_defaults(run=_info)
    info.add_argument("model", nargs="?", help="a folder, or the name of a shipped one")

    demo = commands.add_parser("demo", parents=[common], help="run on a simulated or a real CT")
    demo.set_defaults(run=_demo)
    demo.add_argument("--output", type=Path, required=True, help="new folder")
    demo.add_argument(
        "--real", action="store_true", help="fetch two real CTs (38 MB, once) instead of simulating"
    )

    scene = commands.add_parser("scene", parents=[common], help="make a Slicer scene and pictures")
    scene.set_defaults(run=_scene)
    scene.add_argument("result", type=Path, help="result folder")
    scene.add_argument("--ct", type=Path, help="the CT, if it is not where it was")
    scene.add_argument("--series", metavar="UID", help="DICOM series, if the folder has several")
    scene.add_argument("--overwrite", action="store_true", help="replace an earlier scene")

    report = commands.add_parser(
        "report", parents=[common], help="write a result as one HTML page, to read or print"
    )
    report.set_defaults(run=_report)
    report.add_argument("result", type=Path, help="result folder; with pictures if it has a scene")
    report.add_argument("--output", type=Path, required=True, help="new file, .html")
    report.add_argument("--overwrite", action="store_true", help="replace an earlier file")

    add_dicom_commands(commands, common)

    export = commands.add_parser(
        "export", parents=[common], help="write a model for other programs"
    )
    export.set_defaults(run=_export)
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX graph, .onnx")
    form.add_argument("--monai-bundle", type=Path, metavar="DIR", help="a MONAI bundle")
    export.add_argument("--model", help="model package: a folder, or the name of a shipped one")
    export.add_argument(
        "--modalities", metavar="SET", help="e.g. ct+pet_fdg; default: those that are required"
    )
    export.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser


def _add_series_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", metavar="UID", help="CT series of a DICOM folder")
    parser.add_argument(
        "--phase", help="contrast phase of the CT series: native, arterial, portal or late"
    )


class _TerminalLog:
    """Progress bar and sentences for a person."""

    def __init__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        self._bar: Any = None

    def progress(self, stage: str, done: float) -> None:
        from tqdm import tqdm

        if self._bar is None:
            # disable=None: no bar where standard error is a file or a pipe.
            self._bar = tqdm(
                total=100, leave=False, disable=None, bar_format="{l_bar}{bar}| {elapsed}"
            )
        self._bar.set_description(stage)
        self._bar.update(round(100 * done) - self._bar.n)
        if done >= 1.0:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, text: str, **fields: Any) -> None:
        print(text, flush=True)

    def error(self, kind: str, message: str, advice: str, exit_code: int) -> None:
        self._close()
        print(f"reactkd: {message}\n{advice}".rstrip(), file=sys.stderr)


class _JsonLog:
    """One JSON object per line on standard output, for programs."""

    def progress(self, stage: str, done: float) -> None:
        self._print(event="progress", stage=stage, done=done)

    def say(self, text: str, **fields: Any) -> None:
        self._print(event="message", text=text, **fields)

    def error(self, kind: str, message: str, advice: str, exit_code: int) -> None:
        self._print(event="error", error=kind, message=message, advice=advice, exit_code=exit_code)

    def event(self, **fields: Any) -> None:
        self._print(**fields)

    @staticmethod
    def _print(**fields: Any) -> None:
        print(json.dumps(fields, ensure_ascii=False), flush=True)


_Log = _TerminalLog | _JsonLog


def _roles(options: argparse.Namespace, package: ModelPackage) -> dict[str, tuple[str, ...]]:
    """The segments that ``--role`` names, by role."""
    roles: dict[str, tuple[str, ...]] = {}
    known = [rule.name for rule in package.role_rules]
    for text in options.role:
        role, separator, segment = text.partition("=")
        if not separator or role not in known:
            raise OptionError(
                f"--role {text!r} is not ROLE=SEGMENT.", f"Roles of this model: {', '.join(known)}."
            )
        roles[role] = (*roles.get(role, ()), segment)
    return roles


def _batch(options: argparse.Namespace, log: _Log) -> int:
    package = _package(options.model)
    return run_batch_command(options, package, _roles(options, package), log)


def _predict(options: argparse.Namespace, log: _Log) -> None:
    package = _package(options.model)
    roles = _roles(options, package)
    # Imported late, so that `reactkd info` and a wrong option need neither SimpleITK nor torch.
    from .pipeline import RunOptions, run_files
    from .read import StudyFiles
    from .read_dicom_pet import parse_pet_values

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


def _say_result(case: CaseResult, output: Path, log: _Log) -> None:
    lines = [f"{case.case_id}: {case.task_title}. {RESEARCH_USE}"]
    lines += [f"  {case.probabilities[c.name]:6.1%}  {c.title}" for c in case.classes]
    lines.append(f"Regions that speak most for '{case.class_title(case.target)}' (logit units):")
    lines += [f"  {share.share:+.3f}  {region.name}" for region, share in case.ranked[:4]]
    lines += [f"{notice.severity}: {notice.text}" for notice in case.notices]
    lines.append(f"Result: {output}")
    log.say("\n".join(lines), output=str(output), probabilities=dict(case.probabilities))


def _series(options: argparse.Namespace, log: _Log) -> None:
    from .series_listing import list_folder

    text, records = list_folder(options.folder, series_uid=options.series, phase=options.phase)
    log.say(text, series=records)


def _package(model: str | None) -> ModelPackage:
    """A package by folder, by the name of a shipped one, or the default."""
    if model is not None and not Path(model).exists():
        for shipped in shipped_packages():
            if shipped.name == model:
                return load_package(shipped)
    return load_package(model)


def _info(options: argparse.Namespace, log: _Log) -> None:
    package = _package(options.model)
    lines = [
        f"{package.name} {package.version}: {package.title}",
        package.intended_use,
        f"classes: {', '.join(package.class_names)}",
        "roles: " + ", ".join(f"{r.name}{' (required)' * r.required}" for r in package.role_rules),
        "modalities: "
        + ", ".join(f"{m.name}{' (required)' * m.required}" for m in package.modalities),
        *(f"calibration of {key}: {_calibration(s)}" for key, s in package.statistics.items()),
        f"weights SHA-256: {package.weights_sha256}",
        f"folder: {package.path}",
        "",
        package.card,
    ]
    log.say("\n".join(lines), name=package.name, version=package.version, path=str(package.path))


def _calibration(statistics: ModalitySetStatistics) -> str:
    text = f"temperature {statistics.temperature:.2f}"
    if statistics.prediction_set_coverage is None or statistics.prediction_set_limit is None:
        return text
    least = 1 - statistics.prediction_set_limit
    return (
        f"{text}; prediction sets of {statistics.prediction_set_coverage:.0%} coverage hold the"
        f" classes from a probability of {least:.2f} on"
    )


def _demo(options: argparse.Namespace, log: _Log) -> None:
    package = _package(None)
    _need_scene_libraries()
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
        _draw(case.output, case.files.ct, None, log)


def _scene(options: argparse.Namespace, log: _Log) -> None:
    _need_scene_libraries()
    ct, series = (options.ct, None) if options.ct else _recorded_ct(options.result)
    if (options.result / SCENE).exists() and not options.overwrite:
        raise OptionError(f"{options.result / SCENE} exists.", "Give --overwrite to replace it.")
    _draw(options.result, ct, options.series or series, log)


def _recorded_ct(result: Path) -> tuple[Path, str | None]:
    """Where the result's provenance says that the CT was, and which series of a DICOM folder."""
    try:
        provenance = json.loads((result / PROVENANCE).read_text(encoding="utf-8"))
        inputs = provenance["inputs"]
        path = next(Path(entry["path"]) for entry in inputs if entry["role"] == "ct")
        series = provenance.get("series", {}).get("ct", {}).get("uid")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(
            f"{result} does not say where its CT was.", "Give it with --ct."
        ) from error
    if not path.exists():
        raise InputError(f"The CT is no longer at {path}.", "Give it with --ct.")
    return path, series


def _need_scene_libraries() -> None:
    for module in ("slicer", "REACTKDSlicer"):
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(
                f"The scene needs the Python package {module}, which is not installed.",
                "Install it: pip install 'reactkd[scene]'.",
            )


def _draw(result: Path, ct: Path, series: str | None, log: _Log) -> None:
    """Make the scene in a process of its own: Slicer's libraries choose their OpenGL at import."""
    log.say("Drawing the scene ...")
    command = [sys.executable, "-m", "REACTKDSlicer.scene_command", str(result)]
    command += ["--ct", str(ct), "--output", str(result / SCENE)]
    if series is not None:
        command += ["--series", series]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        reason = finished.stderr.strip().splitlines() or ["no reason given"]
        raise EnvironmentProblem(
            f"The scene could not be drawn: {reason[-1]}", "The result is complete."
        )
    log.say(f"Scene and pictures: {result / SCENE}", scene=str(result / SCENE))


def _report(options: argparse.Namespace, log: _Log) -> None:
    if options.output.suffix.lower() not in (".html", ".htm"):
        raise OptionError(
            f"The report is HTML, but --output is {options.output.name!r}.",
            "Give a name that ends in .html; a browser prints it as PDF.",
        )
    from .case_report import pictures_of_scene, write_case_report
    from .report import read_result

    case = read_result(options.result)
    write_case_report(
        options.output,
        case,
        pictures_of_scene(options.result / SCENE),
        _modality_titles(case),
        overwrite=options.overwrite,
    )
    log.say(f"Report: {options.output}", output=str(options.output))


def _export(options: argparse.Namespace, log: _Log) -> None:
    from .export import choose_modalities, export_monai_bundle, export_onnx

    package = _package(options.model)
    modalities = choose_modalities(package, options.modalities)
    if options.onnx is not None:
        output = options.onnx
        export_onnx(package, output, modalities, overwrite=options.overwrite)
    else:
        output = options.monai_bundle
        export_monai_bundle(package, output, modalities, overwrite=options.overwrite)
    log.say(f"{package.name} for {', '.join(modalities)}: {output}", output=str(output))


def _modality_titles(case: CaseResult) -> dict[str, str]:
    """Titles of the modalities, where the model of a result is here."""
    name = case.provenance.get("model", {}).get("name")
    for folder in shipped_packages():
        if folder.name == name:
            return {m.name: m.title for m in load_package(folder).modalities}
    return {}


if __name__ == "__main__":
    sys.exit(main())
