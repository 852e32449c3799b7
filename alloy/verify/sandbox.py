"""Running a Python program that nobody trusts.

Bubblewrap closes the program in where it is installed, namespaces of our own where the kernel gives
them to everyone, and resource limits everywhere. `isolation` says which it is on this machine, and
`not_isolated` says plainly what the program can still do then.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Isolation = Literal["bubblewrap", "namespaces", "limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: wall clock, of all its processes together.
        cpu_seconds: of each process.
        memory_bytes: address space of each process.
        processes: and threads, together.
        file_bytes: of a file, and of the temporary folder where it has one of its own.
        output_bytes: of standard output and of standard error; more ends it.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * 2**20
    processes: int = 8
    file_bytes: int = 16 * 2**20
    output_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        ended: by itself, by its time limit, or by its output limit.
        status: its exit status; 128 + the signal's number where one ended it.
    """

    ended: Literal["itself", "late", "too much output"]
    status: int
    stdout: bytes
    stderr: bytes


def run_python(source: str, stdin: bytes = b"", limits: Limits = Limits()) -> Outcome:
    """Run a program's source to its end, with an input, within the limits."""
    with Sandboxed(source, limits) as sandboxed:
        return sandboxed.communicate(stdin)


class Sandboxed:
    """A running program; leaving the context ends it with all that it started.

    Args:
        source: Python source, run as the main program with the standard library alone.
        descriptors: file descriptors that it inherits under their numbers.
        silent: what it prints is dropped.
    """

    def __init__(
        self, source: str, limits: Limits, descriptors: Sequence[int] = (), silent: bool = False
    ) -> None:
        output = subprocess.DEVNULL if silent else subprocess.PIPE
        self.limits = limits
        self._ends = time.monotonic() + limits.seconds
        self.process = subprocess.Popen(
            _command(isolation(), limits, ["-c", source]),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=tuple(descriptors),
            start_new_session=True,
            cwd="/",
            env={},
        )

    def __enter__(self) -> "Sandboxed":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it now. Nothing happens the second time."""
        if self.process.poll() is None:
            for end in (os.killpg, os.kill):
                try:
                    end(self.process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def tell(self, given: dict[str, Any]) -> None:
        """Give it a line of JSON on its standard input; what ended already is not told."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps(given).encode() + b"\n")

    def communicate(self, stdin: bytes = b"") -> Outcome:
        """Give it its input and wait for its end."""
        process, found = self.process, {"stdout": bytearray(), "stderr": bytearray()}
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        os.set_blocking(process.stdin.fileno(), False)
        ended: Literal["itself", "late", "too much output"] = "itself"
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, "stdout")
            selector.register(process.stderr, selectors.EVENT_READ, "stderr")
            rest = memoryview(stdin)
            if rest:
                selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
            else:
                process.stdin.close()
            while selector.get_map() and ended == "itself":
                left = self._ends - time.monotonic()
                if left <= 0:
                    ended = "late"
                    break
                for key, _ in selector.select(left):
                    if key.data == "stdin":
                        rest = _write_some(process.stdin.fileno(), rest)
                        if not rest:
                            selector.unregister(process.stdin)
                            process.stdin.close()
                        continue
                    piece = os.read(key.fd, 65_536)
                    found[key.data] += piece
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif len(found[key.data]) > self.limits.output_bytes:
                        ended = "too much output"
        if ended == "itself":
            try:
                process.wait(max(0.0, self._ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                ended = "late"  # it closed its output and goes on
        self.kill()
        status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Outcome(ended, status, bytes(found["stdout"]), bytes(found["stderr"]))


def _write_some(descriptor: int, rest: memoryview) -> memoryview:
    try:
        return rest[os.write(descriptor, rest[:65_536]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]  # it reads no further


@cache
def isolation() -> Isolation:
    """What closes programs in on this machine: tried once."""
    tries: tuple[Isolation, ...] = ("bubblewrap", "namespaces")
    for kind in tries:
        # Root within bubblewrap stays root outside, and root's processes are not counted.
        if kind == "bubblewrap" and (os.geteuid() == 0 or not shutil.which("bwrap")):
            continue
        tried = subprocess.run(
            _command(kind, Limits(), ["-c", "print('ready')"]),
            capture_output=True,
            check=False,
            timeout=30,
            cwd="/",
            env={},
        )
        if tried.returncode == 0 and tried.stdout == b"ready\n":
            return kind
    return "limits"


def not_isolated(kind: Isolation) -> list[str]:
    """What a hostile program can still do, in words for people."""
    always = ["use the limits of memory and time to the full", "attack the kernel itself"]
    if kind != "limits":
        return always
    return [
        "open network connections",
        "read every file that its user can read",
        "write wherever its user can write, up to the file size limit a file",
        "signal other processes of its user, the one that judges it among them",
        *always,
    ]


def _command(kind: Isolation, limits: Limits, arguments: list[str]) -> list[str]:
    launch = (Path(__file__).parent / "sandbox_launch.py").read_text(encoding="utf-8")
    settings = {"namespaces": kind == "namespaces", "readable": _readable(), "limits": asdict(limits)}
    python = os.path.realpath(sys.executable)
    seen = python if kind == "limits" else _where_seen(python)
    # -I and -S: nothing of the environment, the user or the site packages is looked at.
    isolated = ["-I", "-S", "-c"]
    first = seen if kind == "bubblewrap" else python
    launched = [first, *isolated, launch, json.dumps(settings), "--", seen, "-I", "-S", *arguments]
    if kind != "bubblewrap":
        return launched
    binds = [word for pair in _readable() for word in _bubblewrap_bind(*pair)]
    return [
        str(shutil.which("bwrap")), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
        *binds, "--proc", "/proc", "--dev", "/dev", "--size", str(limits.file_bytes), "--tmpfs", "/tmp",
        "--chdir", "/tmp", "--remount-ro", "/", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", *launched,
    ]  # fmt: skip


def _bubblewrap_bind(folder: str, seen: str) -> list[str]:
    if os.path.islink(folder):
        return ["--symlink", os.readlink(folder), seen]
    return ["--ro-bind", folder, seen]


_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_OWN = "/python"
"""Where an interpreter is seen that does not come with the system; it may lie in a home."""


@cache
def _readable() -> list[tuple[str, str]]:
    """The folders that a Python program needs, and where it sees them."""
    own = os.path.realpath(sys.base_prefix)
    folders = [(folder, folder) for folder in _SYSTEM if os.path.isdir(folder)]
    return folders if own.startswith("/usr") else [*folders, (own, _OWN)]


def _where_seen(path: str) -> str:
    own = os.path.realpath(sys.base_prefix)
    return path if own.startswith("/usr") else _OWN + path.removeprefix(own)
