"""A run that is told to end (SIGTERM: a preemption, a time limit) saves what it has and says how to go on.

In training the signal waits for the next step's end, where all processes agree, write a checkpoint and end.
If no step ends within the grace, and outside training, the run ends at once: what was saved is whole.
"""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alloy.artifact import is_main_process, world_size
from alloy.divisions import parts
from alloy.errors import InputError

GRACE = "ALLOY_GRACE_SECONDS"
"""The environment variable with the seconds from SIGTERM to the end at once; what follows it, a SIGKILL as a rule,
is the cluster's and no run's, so it is no setting of a stage."""
_DEFAULT_GRACE = 20.0
_TO_UNWIND = 5.0
"""Seconds that an end at once may take before the process is left as it is."""


class Preempted(KeyboardInterrupt):
    """SIGTERM came. Like an interrupt, no handler of errors takes it for one. Exit status 1."""


class _State:
    training = False
    """Whether a step's end will ask."""
    told = False
    impatient = False
    ended = False


_state = _State()


@contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM ends what runs inside as the module says; nothing changes in a thread that is not the main one.

    Raises:
        InputError: the grace in the environment is no number of seconds.
        Preempted: the signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    grace, owner, over = _grace(), os.getpid(), threading.Event()
    _state.__dict__.clear()

    def on_signal(number: int, frame: Any) -> None:
        if os.getpid() != owner:
            # A process that was forked from this one ends as any other.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        first, _state.told = not _state.told, True
        if first:
            threading.Thread(target=_lose_patience, args=(grace, over), daemon=True).start()
        # A second signal is no hurry: a launcher and a cluster often send one each.
        if (not _state.training or _state.impatient) and not _state.ended:
            _state.ended = True
            raise Preempted(told_at_once())

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, before)
        _state.__dict__.clear()


def _grace() -> float:
    given = os.environ.get(GRACE, str(_DEFAULT_GRACE))
    try:
        grace = float(given)
    except ValueError:
        grace = -1.0
    if not 0 <= grace < 1e6:
        raise InputError(f"{GRACE} = {given!r}: seconds from SIGTERM to the end, 0 or more, e.g. 20.")
    return grace


def _lose_patience(grace: float, over: threading.Event) -> None:
    """End a run that no step's end stops; a thread that waits in a library never sees the signal."""
    if _state.training and over.wait(grace):
        return
    _state.impatient = True
    os.kill(os.getpid(), signal.SIGTERM)
    if over.wait(_TO_UNWIND):
        return
    if is_main_process():
        os.write(2, f"{told_at_once()}\n".encode())
    os._exit(1)


@contextmanager
def in_training() -> Iterator[None]:
    """Inside, a signal waits for the next step's end."""
    if _state.told:
        raise Preempted(told_at_once())
    _state.training = True
    try:
        yield
    finally:
        _state.training = False


def told_to_end(device: Any) -> bool:
    """Whether a process of the launch was told to end. Every process asks, and all get the same answer."""
    if world_size() == 1:
        return _state.told
    import torch

    told = torch.tensor([float(_state.told)], device=device)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return bool(told.item())


def told_with_checkpoint(step: int) -> str:
    _state.ended = True
    return f"stopped by SIGTERM: step {step} is saved. {_go_on()}"


def told_without_checkpoint() -> str:
    _state.ended = True
    return f"stopped by SIGTERM: nothing of it is saved. {_go_on()}"


def told_at_once() -> str:
    return f"stopped by SIGTERM: what was saved before is kept. {_go_on()}"


def _go_on() -> str:
    if parts() > 1:
        return "With sp_size no run goes on from a checkpoint: the same launch begins again."
    if world_size() > 1:
        return "Start the same launch again to go on from there."
    return f"To go on from there: {shlex.join(sys.orig_argv)}"
