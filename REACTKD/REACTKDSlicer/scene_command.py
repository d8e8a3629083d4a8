"""``python -m REACTKDSlicer.scene_command RESULT --ct CT --output DIR``: a scene and pictures.

RESULT is that of ``reactkd predict`` or ``reactkd prognosis``. Writes ``scene.mrb``, which Slicer
opens, and ``axial.png``, ``coronal.png``, ``sagittal.png``, ``3d.png`` and ``overview.png``. An
earlier scene in DIR is replaced; a folder that holds anything else is refused. The exit codes are
those of the ``reactkd`` command; the last line on standard error says what went wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OutputError, ReactKDError
from REACTKDLib.prognosis.types import PrognosisResult
from REACTKDLib.types import CaseResult, Volume

from .context import SceneContext

SCENE_FILE = "scene.mrb"
PICTURES = ("axial", "coronal", "sagittal", "3d", "overview")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="REACTKDSlicer.scene_command", description=__doc__)
    parser.add_argument("result", type=Path, help="result folder")
    parser.add_argument("--ct", type=Path, required=True, help="the CT of the result")
    parser.add_argument("--series", metavar="UID", help="DICOM series, if the folder has several")
    parser.add_argument("--output", type=Path, required=True, help="folder for scene and pictures")
    options = parser.parse_args(arguments)
    try:
        _refuse_foreign_files(options.output)
        from REACTKDLib.prognosis.result import is_prognosis, read_prognosis
        from REACTKDLib.read import read_ct
        from REACTKDLib.report import read_result

        read = read_prognosis if is_prognosis(options.result) else read_result
        result: CaseResult | PrognosisResult = read(options.result)
        ct = read_ct(options.ct, series_uid=options.series)
        write_scene(result, ct, options.output)
    except ReactKDError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def write_scene(result: CaseResult | PrognosisResult, ct: Volume, folder: Path) -> None:
    """Write scene and pictures of ``result`` into ``folder``, all or nothing.

    Raises
    ------
    EnvironmentProblem : slicer-core or off-screen OpenGL is missing.
    InputError : ``ct`` is not the CT of ``result``, or a prognosis has no map of a CT.
    OutputError : ``folder`` cannot be written, or holds other files.
    """
    from REACTKDLib.report import atomic_folder

    from .drawing import write_png
    from .offscreen import offscreen_context, offscreen_views
    from .pictures import draw_pictures, draw_prognosis_pictures
    from .prognosis_nodes import show_prognosis_folder
    from .scene_nodes import show_case

    folder = folder.absolute()
    _refuse_foreign_files(folder)
    context = offscreen_context()
    with offscreen_views(context) as views, atomic_folder(folder) as partial:
        if isinstance(result, PrognosisResult):
            shown = show_prognosis_folder(context, result, ct)
            pictures = draw_prognosis_pictures(context, views, result, shown)
        else:
            pictures = draw_pictures(context, views, result, show_case(context, result, ct))
        for name in PICTURES:
            write_png(pictures[name], partial / f"{name}.png")
        # After the pictures, so that the scene opens with their views.
        save_scene(context, partial / SCENE_FILE)


def save_scene(context: SceneContext, path: Path) -> None:
    """Save the scene with all its data as a scene bundle (.mrb).

    Raises
    ------
    OutputError : the bundle cannot be written.
    """
    import slicer

    messages: Any = slicer.vtkMRMLMessageCollection()
    if not context.scene.WriteToMRB(str(path), None, messages):
        reason = messages.GetAllMessagesAsString().strip() or "no reason given"
        raise OutputError(
            f"The scene cannot be saved as {path}: {reason}.",
            "Free space on the disk, or give another folder.",
        )


def _refuse_foreign_files(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Give another folder.")
    own = {SCENE_FILE, *(f"{name}.png" for name in PICTURES)}
    foreign = sorted({path.name for path in folder.iterdir()} - own)
    if foreign:
        raise OutputError(
            f"{folder} holds files that are not a scene's: {', '.join(foreign[:5])}.",
            "Move them away, or give another folder.",
        )


if __name__ == "__main__":
    sys.exit(main())
