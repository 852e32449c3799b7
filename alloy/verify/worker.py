"""The processes behind the pool: a nursery, and the workers that it forks.

The nursery is a fresh interpreter that has imported what the verifiers need and does nothing but
fork workers, so that a killed worker is replaced in milliseconds, and no worker ever holds the
caller's memory, its locks or torch. Both end with whoever started them: the nursery reads its
socket's end, and the workers are killed by the kernel with the nursery (on Linux; elsewhere an idle
worker reads the end of its own socket).
"""

import contextlib
import gc
import mmap
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from alloy.parent_death import end_with
from alloy.verify.registry import judge_row, prepare
from alloy.verify.verdict import Verdict

PROGRESS_BYTES = 16
FLUSH_SECONDS = 0.02
"""Verdicts are sent together, at most this long after the first of them."""
MEMORY_BYTES = 4 * 2**30
"""Of address space, for a worker: past it Python raises MemoryError, and the row is an error."""


class Progress:
    """The row that a worker is at (-1 before the first) and when it began it, in memory that both ends see.

    Each of the two is written in one store, the time first: a reader that sees the new number never
    sees the old time with it. (`struct.pack_into` would write zeros first, and a reader that saw them
    would take the row for hours late.)
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._values = memoryview(memory).cast("d")

    def write(self, number: int, began: float) -> None:
        self._values[1] = began
        self._values[0] = number

    def read(self) -> tuple[int, float]:
        number = int(self._values[0])
        return number, self._values[1]


def nursery(control: socket.socket) -> None:
    """Fork a worker for each message, whose two file descriptors are its socket and its progress."""
    # Children are reaped by the kernel. The group lets the pool end a worker with its own children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    prepared: set[str] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65_536, 2)
        if not message:
            return
        for name in message.decode().split():
            if name not in prepared:
                prepared.add(name)
                with contextlib.suppress(Exception):
                    prepare(name)
        gc.freeze()
        nursery_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            _become_worker(nursery_pid)
            work(Connection(descriptors[0]), Progress(mmap.mmap(descriptors[1], PROGRESS_BYTES)))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(struct.pack("q", pid))


def _become_worker(nursery_pid: int) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    end_with(nursery_pid)


def work(connection: Connection, progress: Progress) -> None:
    """Judge the chunks that come, until the pool closes the connection.

    A chunk is `(name, [(number, row), ...])`; what goes back is a list of `(number, verdict)`,
    and None at the end of each chunk.
    """
    ready: set[str] = set()
    while True:
        try:
            name, rows = connection.recv()
        except (EOFError, OSError):
            return
        if name not in ready:
            ready.add(name)
            with contextlib.suppress(Exception):
                prepare(name)
        _judge_chunk(connection, progress, name, rows)


def _judge_chunk(
    connection: Connection, progress: Progress, name: str, rows: Sequence[tuple[int, dict[str, Any]]]
) -> None:
    done: list[tuple[int, Verdict] | None] = []
    flushed = time.monotonic()
    for number, row in rows:
        now = time.monotonic()
        if now - flushed > FLUSH_SECONDS:
            connection.send(done)
            done, flushed = [], now
        progress.write(number, now)
        done.append((number, judge_row(name, row)))
    done.append(None)
    connection.send(done)


def main(arguments: list[str]) -> None:
    """`worker FD`: be the nursery of the pool at the other end of that socket."""
    # Ctrl-C is the caller's to handle; it ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(arguments[0])) as control:
        nursery(control)
