"""The project's commands as a user runs them, each in a process of its own."""

import subprocess
import sys

import pytest


def alloy(*arguments: str, module: str = "alloy", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{arguments}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done
