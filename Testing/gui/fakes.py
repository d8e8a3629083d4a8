"""A model package and a runner for tests of the panel: fast, without torch, with known answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from REACTKDLib.errors import ReactKDError
from REACTKDLib.exchange import receive_study, send_case, send_prognosis
from REACTKDLib.model_package import (
    CARD,
    FORMAT_VERSION,
    METADATA,
    WEIGHTS,
    ModelPackage,
    load_package,
    write_checksums,
)
from REACTKDLib.pipeline import Progress, RunOptions
from REACTKDLib.types import (
    CaseResult,
    Notice,
    PredictionSet,
    Region,
    RegionGraph,
    RegionShare,
    Study,
    Volume,
)
from REACTKDLib.worker import Job, PrognosisJob

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "REACTKD" / "REACTKD.py"

PROBABILITIES = {"well": 0.11, "moderate": 0.17, "poor": 0.72}
SHARES = {"liver": -0.25, "lesion": 1.5}


def write_fake_package(folder: Path) -> Path:
    """A package that reads like the shipped one, with weights that no network could load."""
    specification = json.loads(
        (REPOSITORY / "training" / "configs" / "hcc_grade3.json").read_text(encoding="utf-8")
    )["spec"]
    modality_sets = ("ct", "ct+pet_fdg", "ct+pet_acetate", "ct+pet_acetate+pet_fdg")
    metadata = {
        "version": "0.0.1",
        "intended_use": "tests",
        "reactkd": {
            "format_version": FORMAT_VERSION,
            **specification,
            "training_ranges": {
                "median_hu": [0, 200],
                "volume_ml": [1, 3000],
                "largest_spacing_mm": [0.5, 10],
            },
            "statistics": {k: {"temperature": 1.0, "distance_limit": 3.0} for k in modality_sets},
        },
    }
    contents = {METADATA: json.dumps(metadata), WEIGHTS: "no weights", CARD: "A fake."}
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_checksums(folder)
    return folder


class FakeWorker:
    """In the place of the worker process: the answers of a :class:`FakeRunner`, at once or, with
    ``holds``, when the test calls :meth:`finish`."""

    def __init__(self, runner: FakeRunner) -> None:
        self.runner, self.holds = runner, False
        self.jobs: list[Job | PrognosisJob] = []
        self.closed = 0
        self._waiting: tuple[Job | PrognosisJob, Any] | None = None

    @property
    def busy(self) -> bool:
        return self._waiting is not None

    def run(self, job: Job | PrognosisJob, listener: Any) -> None:
        assert not self.busy
        self.jobs.append(job)
        self._waiting = (job, listener)
        if not self.holds:
            self.finish()

    def finish(self) -> None:
        """Answer the job that waits."""
        job, listener = self._waiting
        try:
            if isinstance(job, PrognosisJob):
                self._prognose(job, listener)
                self._waiting = None
                listener.done()
                return
            study, package = receive_study(Path(job.study)), load_package(Path(job.package))
            options = RunOptions(job.target or None, job.scheme, job.device)
            case = self.runner(study, package, options, listener.progress)
            if job.original:  # whatever is changed, a fifth of all shares is left
                case = what_if_of(case)
            send_case(case, Path(job.output))
        except ReactKDError as error:
            self._waiting = None
            listener.failed(error)
        else:
            self._waiting = None
            listener.done()

    def _prognose(self, job: PrognosisJob, listener: Any) -> None:
        """As the runner: an answer at once, or its error."""
        from prognosis_fakes import fake_prognosis

        study = receive_study(Path(job.study)) if job.study else None
        listener.progress("network", 0.5)
        if self.runner.error is not None:
            raise self.runner.error
        case = None
        if study is not None:
            quiet = FakeRunner()
            case = quiet(study, load_package(), RunOptions(), lambda stage, done: None)
        send_prognosis(fake_prognosis(job, case), Path(job.output))

    def cancel(self) -> None:
        self._waiting = None

    def close(self) -> None:
        self._waiting = None
        self.closed += 1

    def log(self) -> str:
        return f"{len(self.jobs)} jobs"


def what_if_of(case: CaseResult) -> CaseResult:
    """Another answer on the same regions: a fifth of every share is left."""
    shares = tuple(dataclasses.replace(s, share=s.share / 5) for s in case.shares)
    probabilities = {"well": 0.3, "moderate": 0.3, "poor": 0.4}
    return dataclasses.replace(case, shares=shares, probabilities=probabilities)


class FakeRunner:
    """Answers at once: one region per role, on the CT's grid. Keeps what it was given."""

    def __init__(self) -> None:
        self.studies: list[Study] = []
        self.options: list[RunOptions] = []
        self.error: Exception | None = None
        self.prediction_set: PredictionSet | None = None

    def __call__(
        self, study: Study, package: ModelPackage, options: RunOptions, progress: Progress
    ) -> CaseResult:
        self.studies.append(study)
        self.options.append(options)
        progress("network", 0.5)
        if self.error is not None:
            raise self.error
        geometry = study.ct.geometry
        labels = np.zeros(geometry.array_shape, np.uint8)
        third = geometry.size[2] // 3 or 1
        labels[:third], labels[third : 2 * third] = 1, 2
        regions = tuple(
            Region(
                role, f"The {role}", kind, label, 10.0 * label, (1.0 * label, 2.0, 3.0), 60.0, 9.0
            )
            for label, (role, kind) in enumerate((("liver", "parenchyma"), ("lesion", "lesion")), 1)
        )
        shares = tuple(
            RegionShare(r.id, SHARES[r.id], 0.01, dict.fromkeys(PROBABILITIES, 0.1), 0.5)
            for r in regions
        )
        attention = np.where(labels == 2, np.float32(3.0), np.float32(-0.5))
        features = np.eye(2)
        return CaseResult(
            case_id=study.case_id,
            task_title=package.title,
            classes=package.classes,
            probabilities=PROBABILITIES,
            logits=dict.fromkeys(PROBABILITIES, 0.0),
            bias=dict.fromkeys(PROBABILITIES, 0.0),
            target=options.target or "poor",
            scheme=options.scheme,
            regions=regions,
            shares=shares,
            outside_share=0.05,
            outside_logit_shares=dict.fromkeys(PROBABILITIES, 0.0),
            contrast=1.3,
            reference_contrast=0.0,
            graph=RegionGraph(("liver", "lesion"), features, ()),
            attention=Volume(attention, geometry, "attention"),
            region_labels=Volume(labels, geometry, "regions"),
            modalities=tuple(study.volumes),
            simulated_model=True,
            notices=(
                Notice("missing_modality", "info", "Not given: acetate-PET."),
                Notice("simulated_model", "warning", "Trained on simulated images only."),
            ),
            prediction_set=self.prediction_set,
        )
