"""The batch script in Slicer without a window, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from batch_work import table
from REACTKDSlicer.reactkd_batch import arguments_of

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "REACTKD" / "REACTKDSlicer" / "reactkd_batch.py"

#: Slicer runs the script as ``__main__``; leaving is all that the stand-in for exit does. REACTKD
#: is on the path for the harness alone: the script has to find it.
SLICER = """
import os, runpy, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
script, blocked = sys.argv[1:3]
repository = os.path.dirname(os.path.dirname(os.path.dirname(script)))
own = [repository, os.path.join(repository, "REACTKD"), os.path.join(repository, "Testing")]
sys.path += own
from harness import installed
with installed():
    sys.path[:] = [p for p in sys.path if p not in own]
    import importlib.util, slicer
    def leave(code):
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    slicer.util.exit = leave
    find, missing = importlib.util.find_spec, blocked.split(",")
    importlib.util.find_spec = lambda name, *rest: None if name in missing else find(name, *rest)
    sys.argv = [script, "--", *sys.argv[3:]]
    runpy.run_path(script, run_name="__main__")
raise SystemExit("slicer.util.exit was not called")
"""


@pytest.fixture
def in_slicer(tmp_path, phantom_files, random_package):
    """Runs the script on two cases, one broken; returns exit code and output."""
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    mask = phantom_files["segmentation"]
    rows = ["case,ct,segmentation", f"a,{phantom_files['ct']},{mask}", f"b,broken.nii.gz,{mask}"]
    (tmp_path / "m.csv").write_text("\n".join(rows), encoding="utf-8")

    def run(*options: str, blocked: str = "") -> tuple[int, str]:
        command = [sys.executable, "-c", SLICER, str(SCRIPT), blocked]
        command += [str(tmp_path / "m.csv"), "--model", str(random_package.path), *options]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_batch_on_a_worker_of_slicers_python(in_slicer, tmp_path):
    pytest.importorskip("distributed")
    code, text = in_slicer("--output", "out", "--workers", "1", "--timeout", "120")
    assert code == 7, text
    assert "1 cases done, 0 finished before, 1 failed" in text
    assert [row["case"] for row in table(tmp_path / "out" / "summary.csv")] == ["a"]
    assert [row["case"] for row in table(tmp_path / "out" / "failures.csv")] == ["b"]


def test_without_dask_and_pyarrow_one_process_does_it(in_slicer, tmp_path):
    code, text = in_slicer("--output", "out", "--workers", "1", blocked="distributed,pyarrow")
    assert code == 7, text
    assert "pyarrow is not installed" in text
    assert "slicer.util.pip_install('dask[distributed] pyarrow')" in text
    assert (tmp_path / "out" / "cases" / "a" / "result.json").is_file()


@pytest.mark.parametrize(
    ("workers", "blocked", "says"),
    [("2", "distributed", "slicer.util.pip_install('dask"), ("0", "torch", "extension PyTorch")],
)
def test_missing_packages_are_named(in_slicer, tmp_path, workers, blocked, says):
    code, text = in_slicer("--output", "out", "--workers", workers, blocked=blocked)
    assert code == 6, text
    assert says in " ".join(text.split())
    assert not (tmp_path / "out").exists()


def test_arguments_come_after_two_dashes_or_the_script():
    assert arguments_of(["s.py", "--x", "--", "m.csv", "--resume"]) == ["m.csv", "--resume"]
    assert arguments_of(["s.py", "m.csv"]) == ["m.csv"]
    assert arguments_of(["s.py"]) == []
