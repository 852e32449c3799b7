"""Where the stages of these tests start: micro's first stages, run once."""

from pathlib import Path

import pytest
from command_line import alloy


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """micro as far as `sft-3` and `reward-model`."""
    runs = tmp_path_factory.mktemp("started") / "micro"
    alloy("run", "micro", "--runs", str(runs), "--stage", "reward-model")
    return runs
