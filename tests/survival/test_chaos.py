"""A handful of the kills of `make chaos`: micro up to sft-2, in processes that die at random moments."""

import json
import subprocess
import sys


def test_killed_at_random_moments_micro_ends_at_the_same_weights() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--kills", "5", "--until", "sft-2", "--seed", "3"],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["kills"], told["broken"], told["unlike"]) == (5, 0, 0)
    assert "broken artifacts 0; equal weights yes" in done.stdout
