"""The commands that show a result: ``scene`` and ``report``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .cli_log import Log
from .errors import EnvironmentProblem, InputError, OptionError
from .model_package import load_package, shipped_packages
from .report import PROVENANCE, SCENE
from .types import CaseResult


def add_scene_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``scene`` and ``report``."""
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


def _scene(options: argparse.Namespace, log: Log) -> None:
    from .prognosis.result import case_to_draw, is_prognosis, read_prognosis

    need_scene_libraries()
    if is_prognosis(options.result):
        case_to_draw(read_prognosis(options.result))
    ct, series = (options.ct, None) if options.ct else _recorded_ct(options.result)
    if (options.result / SCENE).exists() and not options.overwrite:
        raise OptionError(f"{options.result / SCENE} exists.", "Give --overwrite to replace it.")
    draw(options.result, ct, options.series or series, log)


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


def need_scene_libraries() -> None:
    """Raises EnvironmentProblem where a scene cannot be made."""
    for module in ("slicer", "REACTKDSlicer"):
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(
                f"The scene needs the Python package {module}, which is not installed.",
                "Install it: pip install 'reactkd[scene]'.",
            )


def draw(result: Path, ct: Path, series: str | None, log: Log) -> None:
    """Make the scene in a process of its own: Slicer's libraries choose their OpenGL at import."""
    log.say("Drawing the scene ...")
    command = [sys.executable, "-m", "REACTKDSlicer.scene_command", str(result)]
    command += ["--ct", str(ct), "--output", str(result / SCENE)]
    if series is not None:
        command += ["--series", series]
    finished = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if finished.returncode != 0:
        reason = finished.stderr.strip().splitlines() or ["no reason given"]
        raise EnvironmentProblem(
            f"The scene could not be drawn: {reason[-1]}", "The result is complete."
        )
    log.say(f"Scene and pictures: {result / SCENE}", scene=str(result / SCENE))


def _report(options: argparse.Namespace, log: Log) -> None:
    if options.output.suffix.lower() not in (".html", ".htm"):
        raise OptionError(
            f"The report is HTML, but --output is {options.output.name!r}.",
            "Give a name that ends in .html; a browser prints it as PDF.",
        )
    from .case_report import pictures_of_scene, write_case_report
    from .prognosis.result import is_prognosis, read_prognosis
    from .report import read_result

    if is_prognosis(options.result):
        from .prognosis.report_page import write_prognosis_report

        write_prognosis_report(
            options.output,
            read_prognosis(options.result),
            pictures_of_scene(options.result / SCENE),
            overwrite=options.overwrite,
        )
        log.say(f"Report: {options.output}", output=str(options.output))
        return
    case = read_result(options.result)
    write_case_report(
        options.output,
        case,
        pictures_of_scene(options.result / SCENE),
        _modality_titles(case),
        overwrite=options.overwrite,
    )
    log.say(f"Report: {options.output}", output=str(options.output))


def _modality_titles(case: CaseResult) -> dict[str, str]:
    """Titles of the modalities, where the model of a result is here."""
    name = case.provenance.get("model", {}).get("name")
    for folder in shipped_packages():
        if folder.name == name:
            return {m.name: m.title for m in load_package(folder).modalities}
    return {}
