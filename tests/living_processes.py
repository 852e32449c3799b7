"""The processes of this machine, by what was set in the environment that they were started with."""

import os
import time
from pathlib import Path


def environment_of(pid: int) -> dict[str, str]:
    """Empty where the process has gone, or is another user's."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)


def status_of(pid: int, name: str) -> int:
    """A number of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def living(name: str, value: str) -> list[int]:
    """Those that have this variable: a process, and all that it started. One that is dead has no environment."""
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in found if pid != os.getpid() and environment_of(pid).get(name) == value]


def gone(name: str, value: str, seconds: float = 10.0) -> bool:
    """Whether none of them lives any more, within a time."""
    until = time.monotonic() + seconds
    while living(name, value):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
