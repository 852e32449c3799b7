"""What the planner says that a process takes, beside the peak that it takes: the smallest of `bench.plan`'s sizes."""

import json
import subprocess
import sys

import pytest

from tests.distributed.launching import environment

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("sharding", ["none", "zero3"])
def test_a_process_takes_what_is_planned(sharding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.plan", "--sizes", "135M", "--sharding", sharding, "--json"],
        capture_output=True, text=True, timeout=280, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["largest_error"] < 0.15, found
