"""Processes that ``torchrun`` started and that train one network together: process 0 writes.

Without ``torchrun`` there is one process, and all of this does nothing.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

#: The others wait for process 0 while it prepares cases, which may take hours.
_PATIENCE = datetime.timedelta(days=1)
#: Whether process 0 works while the others wait.
_alone = False


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def join_processes(device: torch.device) -> torch.device:
    """Join the other processes; returns this process's own device of the kind of ``device``."""
    if "RANK" not in os.environ:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE
        )
    return device


def agreed(answer: bool) -> bool:
    """What process 0 answers: whether a file is there, or time is up, may look different to each,
    and processes that part here would wait for each other for ever."""
    if world_size() == 1 or _alone:
        return answer
    answers = [answer]
    distributed.broadcast_object_list(answers, src=0)
    return answers[0]


def first_writes(write: Callable[[], object]) -> None:
    """``write()`` in process 0; the others go on when it is done.

    What it calls may come to :func:`agreed` or to here: it is answered without the others, who
    wait already.
    """
    global _alone
    if world_size() == 1 or _alone:
        write()
        return
    if rank() == 0:
        _alone = True
        try:
            write()
        finally:
            _alone = False
    distributed.barrier()


def make_once(path: Path, make: Callable[[], object]) -> None:
    """``make()`` the file ``path`` in process 0, unless it is there; all go on when it is."""
    if not agreed(path.exists()):
        first_writes(make)
