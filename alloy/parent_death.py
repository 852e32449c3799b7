"""Processes that end with the one that started them, however that one ends.

A parent that is killed (SIGKILL, out of memory) cannot end its children. On Linux the kernel does it for those
that have asked; elsewhere they find out for themselves, or stay.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

_PR_SET_PDEATHSIG = 1

_wrapped = False
"""Whether what multiprocessing starts is told to end with this process."""


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have this process sent a signal when its parent ends, at once where it already has.

    The kernel looks at the parent's thread that started this process: it has to be one that stays.

    Args:
        parent: the process that started this one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def end_processes_with_this_one() -> None:
    """All that multiprocessing starts from here on, and what that starts, ends with the process that started it."""
    global _wrapped
    if _wrapped:
        return
    _wrapped, start = True, BaseProcess.start

    def start_wrapped(self: Any) -> None:
        if self._target is not None:
            self._target = partial(_run, os.getpid(), self._target)
        start(self)

    BaseProcess.start = start_wrapped  # type: ignore[method-assign]


def _run(parent: int, target: Callable[..., Any], *given: Any, **named: Any) -> Any:
    end_with(parent)
    # Of a process that was spawned: one that was forked has it already.
    end_processes_with_this_one()
    return target(*given, **named)
