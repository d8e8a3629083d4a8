"""A process that stays alive and runs one case after another, so that only the first one waits for
libraries and weights.

``main`` reads one JSON object a line from standard input (a :class:`Job`, or a
:class:`PrognosisJob`, with its ``id``) and
answers on standard output, one object a line: first ``{"event": "ready", "pid": ...}``, then of
each job ``progress`` (``stage``, ``done``), and ``done`` or ``error`` (``error``, the class,
``message``, ``advice``). Whatever else the process prints goes to standard error: a log of stages,
model, device and seconds, which names no file and no patient. When standard
input ends, its parent is gone or done with it: the process ends at once, in the midst of a job too.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .errors import ReactKDError
from .typed_json import build

if TYPE_CHECKING:
    from .prognosis.types import PrognosisResult
    from .types import CaseResult


@dataclass(frozen=True)
class Job:
    """One run. ``study`` is a folder of :func:`~.exchange.send_study`, ``package`` the folder of a
    model package, ``output`` an empty folder for :func:`~.exchange.send_case`; ``target`` ("" for
    the most probable class), ``scheme`` and ``device`` as in ``RunOptions``; but "cuda" that cannot
    be used is answered by the CPU, with a notice.

    With ``original``, the folder of an earlier result of this study, it is a what-if: ``hidden``,
    ``photons`` (0 for the dose as it is) and ``seed`` as in ``WhatIf``.
    """

    study: str
    package: str
    output: str
    target: str = ""
    scheme: str = "anatomical"
    device: str = "auto"
    original: str = ""
    hidden: tuple[str, ...] = ()
    photons: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class PrognosisJob:
    """One prognosis. ``package`` is the folder of a model package of prognosis, ``output`` an empty
    folder for :func:`~.exchange.send_prognosis`, ``study`` as of :class:`Job`, "" for none.

    ``clinical`` : whether there is a record; its ``values`` were checked with the package's schema
    (:class:`~.prognosis.types.ClinicalRecord`), as was ``text``. ``device`` as of :class:`Job`;
    ``scheme`` and ``cache`` ("" for none) as in ``PrognosisOptions``.
    """

    package: str
    output: str
    study: str = ""
    clinical: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    case_id: str = ""
    device: str = "auto"
    scheme: str = "anatomical"
    cache: str = ""


def job_line(number: int, job: Job | PrognosisJob) -> str:
    """The line that asks for a job; the answers carry ``number`` as ``id``."""
    kind = "prognosis" if isinstance(job, PrognosisJob) else "job"
    fields = (
        {**vars(job), "values": dict(job.values)} if isinstance(job, PrognosisJob) else asdict(job)
    )
    return json.dumps({"id": number, kind: fields}) + "\n"


def main() -> None:
    """Work until standard input ends."""
    # Libraries print to descriptor 1 when they please; answers must not be mixed with that.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, lines), daemon=True).start()
    _tell(answers, event="ready", pid=os.getpid())
    while True:
        _answer(json.loads(lines.get()), answers)


def _listen(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    os._exit(0)  # nobody waits for an answer any more


def _answer(request: dict[str, Any], answers: IO[str]) -> None:
    number, began = request["id"], time.perf_counter()

    def log(text: str) -> None:
        seconds = time.perf_counter() - began
        print(f"job {number}, {seconds:.2f} s: {text}", file=sys.stderr, flush=True)

    def progress(stage: str, done: float) -> None:
        log(stage)
        _tell(answers, id=number, event="progress", stage=stage, done=done)

    try:
        progress("starting", 0.0)
        case: CaseResult | PrognosisResult
        if "prognosis" in request:
            case = _run_prognosis(build(PrognosisJob, request["prognosis"], "job"), progress)
        else:
            case = _run(build(Job, request["job"], "job"), progress)
        model: Any = case.provenance["model"]
        log(f"done by {model['name']} {model['version']} on {case.provenance['device']}")
    except ReactKDError as error:
        log(f"ended by {type(error).__name__}")
        _tell(
            answers,
            id=number,
            event="error",
            error=type(error).__name__,
            message=error.message,
            advice=error.advice,
        )
    except Exception as error:  # the parent must hear of it whatever it is
        traceback.print_exc()
        _tell(
            answers,
            id=number,
            event="error",
            error="ReactKDError",
            message=f"Unexpected {type(error).__name__}: {error}.",
            advice="The log has the details; report them.",
        )
    else:
        _tell(answers, id=number, event="done")


def _run(job: Job, progress: Any) -> CaseResult:
    # Heavy imports, after the process has said that it is there.
    from .backends import cuda_problem
    from .exchange import receive_case, receive_study, send_case
    from .infer import cuda_failed
    from .model_package import load_package
    from .pipeline import RunOptions, run_case
    from .types import WhatIf
    from .what_if import run_what_if

    study, package = receive_study(Path(job.study)), load_package(Path(job.package))
    # Someone waits at the panel: better an answer with a notice than none.
    problem = cuda_problem() if job.device == "cuda" else ""
    options = RunOptions(job.target or None, job.scheme, "cpu" if problem else job.device)
    if job.original:
        what_if = WhatIf(job.hidden, job.photons or None, job.seed)
        original = receive_case(Path(job.original))
        case = run_what_if(study, original, what_if, package, options, progress)
    else:
        case = run_case(study, package, options, progress)
    if problem:
        case = replace(case, notices=(*case.notices, cuda_failed(problem)))
    send_case(case, Path(job.output))
    return case


def _run_prognosis(job: PrognosisJob, progress: Any) -> PrognosisResult:
    from .backends import cuda_problem
    from .exchange import receive_study, send_prognosis
    from .infer import cuda_failed
    from .prognosis.package import load_prognosis_package
    from .prognosis.pipeline import PrognosisOptions, run_prognosis
    from .prognosis.types import ClinicalRecord

    package = load_prognosis_package(Path(job.package))
    study = receive_study(Path(job.study)) if job.study else None
    record = ClinicalRecord(job.values, job.text) if job.clinical else None
    problem = cuda_problem() if job.device == "cuda" else ""
    options = PrognosisOptions(
        device="cpu" if problem else job.device,
        scheme=job.scheme,
        cache=Path(job.cache) if job.cache else None,
    )
    result = run_prognosis(study, record, package, options, progress, job.case_id or None)
    if problem:
        result = replace(result, notices=(*result.notices, cuda_failed(problem)))
    send_prognosis(result, Path(job.output))
    return result


def _tell(answers: IO[str], **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
