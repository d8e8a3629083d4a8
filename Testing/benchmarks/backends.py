"""What runs the network: times and agreement of the backends, in one process, in turns.

``make bench`` prints, for the network alone on the grid of the benchmark's CT: eager torch (a plain
``network(input)``, as anyone would write it), the package's own torch path, OpenVINO and ONNX
Runtime; with the default number of threads and with one thread pinned to one core; for CT alone and
for all modalities. In turns, so that a slow minute of the machine falls on all; medians, and the
ratio of each turn's eager torch to the backend. Then whole new processes (``reactkd predict``),
where the imports count, and the later cases of a process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import big_case, make_input

BACKENDS = [
    "torch",
    *(b for b in ("openvino", "onnxruntime") if importlib.util.find_spec(b) is not None),
]
TURNS = 5


def network_alone(turns: int) -> list[dict[str, Any]]:
    """Seconds of every turn and the largest difference of the logits from eager torch, per set of
    modalities."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from REACTKDLib.infer import load_classifier
    from REACTKDLib.model_package import load_package
    from REACTKDLib.networks.student import Student
    from REACTKDLib.normalise import normalise, to_feature_grid
    from REACTKDLib.roi import locate_roi

    package = load_package()
    eager = Student(package.modality_names, len(package.classes), package.network)
    tensors = load_file(package.weights_path)
    eager.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("statistics/")})
    eager.eval().requires_grad_(False)

    study = big_case().study()
    model_input = normalise(study, locate_roi(study, package), package)
    weights = to_feature_grid(model_input.weights.astype(float), package.network.total_stride)
    weights = (weights / weights.sum()).astype(np.float32)
    found = []
    for names in (("ct",), package.modality_names):
        # The benchmark's case has no PET: noise in its place takes the same time.
        rng = np.random.default_rng(0)
        volumes = {
            name: model_input.volumes.get(name, rng.normal(size=model_input.roi.shape))
            for name in names
        }
        volumes = {name: np.float32(array) for name, array in volumes.items()}
        tensors = {n: torch.tensor(array)[None, None] for n, array in volumes.items()}
        roi = torch.tensor(np.array(model_input.roi))[None, None]
        cells = torch.tensor(weights)[None, None]

        def in_eager_torch(tensors=tensors, roi=roi, cells=cells) -> np.ndarray:
            with torch.inference_mode():
                return eager(tensors, roi, cells).logits[0].numpy()

        runs: dict[str, Callable[[], np.ndarray]] = {"eager torch": in_eager_torch}
        for backend in BACKENDS:
            network = load_classifier(package, "cpu", backend).network
            runs[backend] = lambda network=network, volumes=volumes: (
                network(volumes, model_input.roi, weights).logits
            )
        logits = {name: run() for name, run in runs.items()}  # compiles, too
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(turns):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
        errors = {n: float(np.abs(v - logits["eager torch"]).max()) for n, v in logits.items()}
        found.append(
            {
                "modalities": "+".join(names),
                "grid": list(model_input.roi.shape),
                "times": times,
                "errors": errors,
            }
        )
    return found


def later_cases(folder: Path, backend: str, repeats: int) -> dict[str, Any]:
    """Seconds of the cases of one process, the first included, imports not."""
    from REACTKDLib.model_package import load_package
    from REACTKDLib.pipeline import RunOptions, run_files
    from REACTKDLib.read import StudyFiles

    package, times = load_package(), []
    files = StudyFiles(
        ct=folder / "simulated_ct.nii.gz",
        segmentation=(folder / "simulated_segmentation.nii.gz",),
    )
    for number in range(repeats):
        start = time.perf_counter()
        output = folder / f"{backend}_{number}"
        options = RunOptions(package.class_names[-1], device="cpu", backend=backend)
        run_files(files, package, output, options, overwrite=True)
        times.append(time.perf_counter() - start)
    return {"times": times}


def _child(arguments: list[str], pinned: bool = False) -> tuple[Any, float]:
    """The answer of a process of its own, and its whole life in seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if pinned else dict(os.environ)
    began = time.perf_counter()
    command = [sys.executable, "-W", "ignore", __file__, *arguments, *(["--pin"] if pinned else [])]
    output = subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", env=environment
    ).stdout
    return json.loads(output.strip().splitlines()[-1]), time.perf_counter() - began


def _say_network(found: dict[str, Any], threads: str) -> None:
    print(f"\nNetwork alone, {found['modalities']}, grid {found['grid']}, {threads}: seconds")
    eager = found["times"]["eager torch"]
    for name, seconds in found["times"].items():
        ratios = [e / s for e, s in zip(eager, seconds, strict=True)]
        print(
            f"  {name:14s} {statistics.median(seconds):7.3f}   eager torch / this"
            f" {statistics.median(ratios):5.1f}   logits differ by {found['errors'][name]:.0e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("network", "cases"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--pin", action="store_true")
    options = parser.parse_args()
    if options.pin and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.part == "network":
        print(json.dumps(network_alone(options.turns)))
        return
    if options.part == "cases":
        print(json.dumps(later_cases(options.folder, options.backend, options.turns)))
        return
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"Backends on {os.cpu_count()} cores{load} before the first run")
    turns = ["--turns", str(options.turns)]
    for pinned, threads in ((False, "default threads"), (True, "one thread on one core")):
        for found in _child(["--part", "network", *turns], pinned)[0]:
            _say_network(found, threads)
    with tempfile.TemporaryDirectory() as scratch:
        make_input(Path(scratch))
        cases = ["--part", "cases", "--folder", scratch]
        cold: dict[str, list[float]] = {b: [] for b in BACKENDS}
        warm: dict[str, list[float]] = {b: [] for b in BACKENDS}
        for _ in range(3):
            for backend in BACKENDS:
                chosen = [*cases, "--backend", backend]
                cold[backend].append(_child([*chosen, "--turns", "1"])[1])
                warm[backend] += _child([*chosen, "--turns", "3"])[0]["times"][1:]
    print("\nWhole case, CT alone, 512x512x148: seconds   new process   later cases")
    for backend in BACKENDS:
        print(
            f"  {backend:14s} {'':30s} {statistics.median(cold[backend]):7.2f}"
            f" {statistics.median(warm[backend]):13.2f}"
        )


if __name__ == "__main__":
    main()
