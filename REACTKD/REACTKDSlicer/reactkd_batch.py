"""``reactkd batch`` inside Slicer, without a window:

``Slicer --no-splash --no-main-window --python-script .../reactkd_batch.py -- ARGUMENTS``

Arguments and exit codes are those of ``reactkd batch``. Nothing is asked and nothing is installed.
The script stands in a package, because Slicer takes every file beside ``REACTKD.py`` for a module.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

# Run as a script, it has to find its own package; in the source tree, REACTKDLib stands one level
# above that.
_MODULES = Path(__file__).resolve().parents[1]
for _folder in (_MODULES, _MODULES.parent):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

_MISSING = 6


def arguments_of(argv: Sequence[str]) -> list[str]:
    """The arguments for the batch: those after ``--``, or after the script's name."""
    rest = list(argv[1:])
    return rest[rest.index("--") + 1 :] if "--" in rest else rest


def run(arguments: Sequence[str]) -> int:
    """Run a batch; returns the exit code, whatever happens."""
    if importlib.util.find_spec("torch") is None:
        print(
            "reactkd: PyTorch is not installed in this Slicer.\nInstall it with the module PyTorch"
            " (extension PyTorch), or press Apply once in the module REACT-KD.",
            file=sys.stderr,
        )
        return _MISSING
    try:
        from REACTKDLib.cli import main
        from REACTKDSlicer.worker_process import python_executable

        # Workers are processes without Slicer's application; its own executable would start that.
        multiprocessing.set_executable(str(python_executable()))
        return main(["batch", *arguments])
    except SystemExit as left:  # a wrong option, or --help
        return left.code if isinstance(left.code, int) else 2
    except BaseException:  # without an exit code Slicer would wait for ever
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    import slicer

    slicer.util.exit(run(arguments_of(sys.argv)))
