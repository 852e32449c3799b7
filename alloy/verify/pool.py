"""A pool of worker processes in which any verifier can be stopped."""

import json
import mmap
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from alloy.verify.registry import resolve
from alloy.verify.verdict import Verdict
from alloy.verify.worker import PROGRESS_BYTES, Progress

MAX_CHUNK = 64
"""Rows given to a worker at once."""
START_SECONDS = 120.0
"""For a worker to import what a verifier needs, before its first row."""
MAX_STARTS = 3
"""Workers that may die on a chunk before its first row is begun."""

Item = tuple[int, dict[str, Any]]


class PoolClosed(RuntimeError):
    """The pool was closed."""


class VerifierPool:
    """Judges rows in worker processes, each row within a wall-clock limit.

    A worker that overruns is killed with its children and replaced; its row's status is `timeout`.
    A worker that dies costs only the row it was at, whose status is `error`. The rows after it go
    on in another worker. The workers are started by the first `judge`, kept until `close`, and end
    with this process however it ends. They import neither torch nor transformers, nor the caller's
    main module.

    Args:
        workers: processes.
        timeout_seconds: wall clock, for each row on its own.
    """

    def __init__(self, workers: int, timeout_seconds: float) -> None:
        if workers < 1 or timeout_seconds <= 0:
            raise ValueError(
                f"workers = {workers}, timeout_seconds = {timeout_seconds}: both must be positive"
            )
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._idle: queue.Queue[_Worker] = queue.Queue()
        self._nursery: _Nursery | None = None
        self._started: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers. Later calls of `judge` raise PoolClosed."""
        with self._lock:
            self._closed = True
            for worker in self._started:
                worker.kill()
            self._started.clear()
            if self._nursery:
                self._nursery.close()
                self._nursery = None

    def judge(self, name: str, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
        """The verdicts on the rows, in their order.

        May be called from any thread; calls at the same time share the workers.

        Args:
            name: a verifier of the registry, or `package.module:function`.
        Raises:
            InputError: there is no such verifier.
            PoolClosed: the pool was closed before or meanwhile.
        """
        if not name.partition(":")[1]:
            resolve(name)
        return _Call(self, name, rows).run() if rows else []

    def take(self, name: str, block: bool) -> "_Worker | None":
        """An idle worker, all started at the first call; None when all are busy and not blocking."""
        with self._lock:
            self.raise_if_closed()
            if self._nursery is None:
                self._nursery = _Nursery()
            self._nursery.names.add(name)
            while len(self._started) < self.workers:
                worker = self._nursery.start()
                self._started.add(worker)
                self._idle.put(worker)
        while True:
            try:
                return self._idle.get(block=block, timeout=0.2 if block else None)
            except queue.Empty:
                self.raise_if_closed()
                if not block:
                    return None

    def raise_if_closed(self) -> None:
        if self._closed:
            raise PoolClosed("the verifier pool is closed")

    def give_back(self, worker: "_Worker") -> None:
        self._idle.put(worker)

    def replace(self, worker: "_Worker") -> None:
        """Kill a worker; `take` starts another."""
        with self._lock:
            worker.kill()
            self._started.discard(worker)


class _Nursery:
    """The parent's end of the process that forks workers."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        ours, theirs = socket.socketpair()
        # The caller's main module is not imported, and nothing of its memory is inherited.
        program = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from alloy.verify.worker import main; main(sys.argv[2:])"
        )
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, json.dumps([*sys.path]), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            )
        self.control = ours

    def start(self) -> "_Worker":
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as file, theirs:
            file.truncate(PROGRESS_BYTES)
            progress = Progress(mmap.mmap(file.fileno(), PROGRESS_BYTES))
            names = " ".join(sorted(self.names)).encode()
            socket.send_fds(self.control, [names], [theirs.fileno(), file.fileno()])
            answer = self.control.recv(8, socket.MSG_WAITALL)
        if len(answer) < 8:
            raise RuntimeError(f"the verifiers' nursery ended with status {self.process.wait()}")
        return _Worker(struct.unpack("q", answer)[0], Connection(ours.detach()), progress)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


class _Worker:
    """The parent's end of a worker: what it was given and what it has not yet answered."""

    def __init__(self, pid: int, connection: Connection, progress: Progress) -> None:
        self.pid = pid
        self.connection = connection
        self.progress = progress
        self.pending: dict[int, dict[str, Any]] = {}
        self.starts = 0
        self.killed = False

    def give(self, name: str, chunk: list[Item]) -> None:
        self.pending = dict(chunk)
        self.progress.write(-1, time.monotonic())
        self.connection.send((name, chunk))

    def at(self) -> tuple[int, float]:
        """The row that it is at, -1 before the first, and for how many seconds."""
        number, began = self.progress.read()
        return number, time.monotonic() - began

    def kill(self) -> None:
        if self.killed:
            return
        self.killed = True
        for end in (os.killpg, os.kill):
            try:
                end(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        self.connection.close()


class _Call:
    """One call of `judge`: chunks to give out, workers at work, verdicts come back."""

    def __init__(self, pool: VerifierPool, name: str, rows: Sequence[dict[str, Any]]) -> None:
        self.pool = pool
        self.name = name
        self.verdicts: list[Verdict | None] = [None] * len(rows)
        size = max(1, min(MAX_CHUNK, len(rows) // (4 * pool.workers)))
        items = list(enumerate(rows))
        self.chunks = deque((items[start : start + size], 0) for start in range(0, len(items), size))
        self.busy: dict[Connection, _Worker] = {}

    def run(self) -> list[Verdict]:
        try:
            while self.chunks or self.busy:
                self._give_out()
                self._collect()
        except (OSError, ValueError):
            # Another thread closed the pool, and with it the connections waited for.
            self.pool.raise_if_closed()
            raise
        finally:
            # An interrupted call leaves nobody at work on rows that nobody waits for.
            for worker in self.busy.values():
                self.pool.replace(worker)
        return [verdict or Verdict(None, "error", "not judged") for verdict in self.verdicts]

    def _give_out(self) -> None:
        while self.chunks and (worker := self.pool.take(self.name, block=not self.busy)):
            chunk, starts = self.chunks.popleft()
            self.busy[worker.connection] = worker
            worker.starts = starts
            try:
                worker.give(self.name, chunk)
            except OSError:
                self._lost(worker, Verdict(None, "error", "the verifier's process died"))

    def _collect(self) -> None:
        patience = min((self._seconds_left(worker) for worker in self.busy.values()), default=0.0)
        # Workers of other calls may come free meanwhile: look at least ten times a second.
        ready = wait(list(self.busy), max(0.0, min(patience, 0.1)))
        for connection in ready:
            self._receive(self.busy[connection])  # type: ignore[index]
        for worker in list(self.busy.values()):
            if worker.connection not in ready and self._seconds_left(worker) <= 0:
                late = not worker.connection.poll()
                if late:
                    limit = f"no verdict within {self.pool.timeout_seconds:g} s"
                    self._lost(worker, Verdict(None, "timeout", limit))

    def _seconds_left(self, worker: _Worker) -> float:
        number, seconds = worker.at()
        return (self.pool.timeout_seconds if number >= 0 else START_SECONDS) - seconds

    def _receive(self, worker: _Worker) -> None:
        try:
            answers = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker, Verdict(None, "error", "the verifier's process died"))
            return
        for answer in answers:
            if answer is None:
                del self.busy[worker.connection]
                self.pool.give_back(worker)
            else:
                number, verdict = answer
                self.verdicts[number] = verdict
                worker.pending.pop(number, None)

    def _lost(self, worker: _Worker, verdict: Verdict) -> None:
        """Give the verdict to the row that the worker was at, and its other rows to another worker.

        Rows that it had judged and not yet sent are judged again.
        """
        self.pool.raise_if_closed()
        number, _ = worker.at()
        del self.busy[worker.connection]
        self.pool.replace(worker)
        if number in worker.pending:
            del worker.pending[number]
            self.verdicts[number] = verdict
            worker.starts = -1
        if worker.starts + 1 < MAX_STARTS:
            if worker.pending:
                self.chunks.appendleft((list(worker.pending.items()), worker.starts + 1))
        else:
            for number in worker.pending:
                self.verdicts[number] = verdict
