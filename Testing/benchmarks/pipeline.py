"""REACTKD beside a straightforward MONAI pipeline, same CT, same network, same machine, same run.

``make bench`` prints time per stage, end to end cold (a new process, imports included) and warm
(later cases of a process), and peak memory, for a simulated 512x512x148 CT with its mask.

The peer is what one writes from MONAI's parts: LoadImaged, EnsureChannelFirstd, Orientationd,
Spacingd, ScaleIntensityRanged, a crop around the mask, NormalizeIntensityd, the same network in
eager torch, MONAI's GradCAM for the same class, the map brought to the CT's grid and saved with
SaveImage. It makes no regions, shares or graph. Both read the same files.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZE = (512, 512, 148)
REPEATS = 5


def big_case() -> Any:
    """A simulated CT of 512x512x148 voxels (0.78x0.78x1.5 mm) with its segmentation."""
    from REACTKDLib.geometry import Geometry
    from REACTKDLib.simulation import demo_parameters, simulate_case

    spacing = (0.78, 0.78, 1.5)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(SIZE, spacing, strict=True))
    grid = Geometry(SIZE, spacing, (origin[0], origin[1], origin[2]))
    return simulate_case(demo_parameters(), 20, pet=(), grid=grid)


def make_input(folder: Path) -> None:
    """:func:`big_case` as files."""
    from REACTKDLib.simulation import write_case

    write_case(big_case(), folder)


def run_reactkd(folder: Path, repeats: int) -> dict:
    began = time.perf_counter()
    from REACTKDLib.model_package import load_package
    from REACTKDLib.pipeline import RunOptions, run_files
    from REACTKDLib.read import StudyFiles

    imported = time.perf_counter() - began
    package = load_package()
    files = StudyFiles(
        ct=folder / "simulated_ct.nii.gz",
        segmentation=(folder / "simulated_segmentation.nii.gz",),
    )
    times, stages = [], {}
    for number in range(repeats):
        start = time.perf_counter()
        case = run_files(
            files,
            package,
            folder / f"reactkd_{number}",
            RunOptions(target=package.class_names[-1], device="cpu"),
            overwrite=True,
        )
        times.append(time.perf_counter() - start)
        stages = dict(case.provenance["stage_seconds"])
    stages["reading and writing"] = times[-1] - sum(stages.values())
    return {"import": imported, "times": times, "stages": stages, "peak_mib": _peak_mib()}


def run_peer(folder: Path, repeats: int) -> dict:
    began = time.perf_counter()
    import torch
    from monai.data import MetaTensor
    from monai.transforms import (
        Compose,
        CropForegroundd,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        SaveImage,
        ScaleIntensityRanged,
        Spacingd,
        SpatialResample,
    )
    from monai.visualize import GradCAM

    from REACTKDLib.infer import load_classifier
    from REACTKDLib.model_package import load_package

    imported = time.perf_counter() - began
    package = load_package()
    keys = ["ct", "mask"]
    prepare = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS"),
            Spacingd(keys, pixdim=package.grid.spacing_mm, mode=("bilinear", "nearest")),
            ScaleIntensityRanged("ct", -160, 240, 0, 1, clip=True),
            CropForegroundd(keys, source_key="mask", margin=4, k_divisible=4),
            NormalizeIntensityd("ct"),
        ]
    )

    class CtOnly(torch.nn.Module):
        """The same network as one module of one input, as GradCAM wants it."""

        def __init__(self, student: torch.nn.Module) -> None:
            super().__init__()
            self.student = student
            self.fused = torch.nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            fused = self.fused(self.student.fuse({"ct": x})[0])
            return self.student.head(fused.mean(dim=(2, 3, 4)))

    times, stages = [], {}
    load_classifier.__globals__["_load"].cache_clear()
    student = load_classifier(package, "cpu", "torch").network.student
    # GradCAM needs gradients at the feature map, not at the weights; this costs the peer nothing.
    network = CtOnly(student.requires_grad_(True))
    cam = GradCAM(network, target_layers="fused", postprocessing=lambda x: x)
    for number in range(repeats):
        start = time.perf_counter()
        data = prepare(
            {
                "ct": folder / "simulated_ct.nii.gz",
                "mask": folder / "simulated_segmentation.nii.gz",
            }
        )
        prepared = time.perf_counter()
        x = data["ct"].permute(0, 3, 2, 1)[None].as_tensor()  # the network's axes are (k, j, i)
        heat = cam(x, class_idx=len(package.classes) - 1)
        explained = time.perf_counter()
        on_model = MetaTensor(heat[0].permute(0, 3, 2, 1), affine=data["ct"].affine)
        original = LoadImaged("ct")({"ct": folder / "simulated_ct.nii.gz"})["ct"]
        on_ct = SpatialResample()(on_model, dst_affine=original.affine, spatial_size=original.shape)
        SaveImage(folder / f"peer_{number}", separate_folder=False, print_log=False)(on_ct)
        stages = {
            "reading and preprocessing": prepared - start,
            "network and GradCAM": explained - prepared,
            "map on the CT, writing": time.perf_counter() - explained,
        }
        times.append(time.perf_counter() - start)
    return {"import": imported, "times": times, "stages": stages, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _child(which: str, folder: Path, repeats: int) -> dict:
    """One side in a process of its own; ``cold`` is its whole life, interpreter start included."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--side", which, "--folder", str(folder)]
    output = subprocess.run(
        [*command, "--repeats", str(repeats)], check=True, capture_output=True, encoding="utf-8"
    ).stdout
    return {**json.loads(output.strip().splitlines()[-1]), "wall": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=("reactkd", "peer"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    if options.side:
        side = run_reactkd if options.side == "reactkd" else run_peer
        print(json.dumps(side(options.folder, options.repeats)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(f"Simulating a CT of {SIZE} voxels ...")
        make_input(folder)
        cold: dict[str, list[float]] = {"reactkd": [], "peer": []}
        warm: dict[str, list[float]] = {"reactkd": [], "peer": []}
        last: dict[str, dict] = {}
        # In turns, so that a slow minute of the machine falls on both.
        for _ in range(3):
            for which in ("reactkd", "peer"):
                cold[which].append(_child(which, folder, 1)["wall"])
            for which in ("reactkd", "peer"):
                last[which] = _child(which, folder, options.repeats)
                warm[which] += last[which]["times"][1:]
    for which, name in (("reactkd", "REACTKD"), ("peer", "MONAI pipeline")):
        print(f"\n{name}: seconds")
        for stage, seconds in last[which]["stages"].items():
            print(f"  {stage:28s} {seconds:7.2f}")
        print(f"  {'end to end, warm (median)':28s} {statistics.median(warm[which]):7.2f}")
        print(f"  {'end to end, cold (median)':28s} {statistics.median(cold[which]):7.2f}")
        print(f"  {'of which imports':28s} {last[which]['import']:7.2f}")
        print(f"  {'peak memory, MiB':28s} {last[which]['peak_mib']:7.0f}")
    for kind, times in (("warm", warm), ("cold", cold)):
        ratio = statistics.median(times["peer"]) / statistics.median(times["reactkd"])
        print(f"MONAI pipeline / REACTKD, end to end {kind}: {ratio:.1f}")


if __name__ == "__main__":
    main()
