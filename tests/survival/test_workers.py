"""Processes that are killed while data is prepared: a worker, and the one that started them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from living_processes import environment_of, gone, living

from alloy.data.config import DataConfig, SourceConfig
from alloy.data.examples import Leaf, Work, open_store
from alloy.errors import StageError

ROOT = Path(__file__).parents[2]
MARK = "ALLOY_TEST_WORKERS"
ROWS = 5000


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Rows for a few seconds of two workers."""
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for number in range(ROWS):
            words = " ".join(map(str, range(number, number + 40)))
            stream.write(json.dumps({"prompt": f"{number}? {words}", "completion": words}) + "\n")
    return DataConfig(sources=[SourceConfig(path=path)], workers=2)


def test_a_worker_that_is_killed_is_told_and_nothing_half_written_is_left(
    config: DataConfig, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    (source,), cache, killed = config.sources, tmp_path / "cache", threading.Event()
    work = Work(Leaf(source), config, tiny_tokenizer, 0)
    folder = cache / work.fingerprint()
    started: set[int] = set()

    def kill() -> None:
        # In the middle: rows are there already.
        while not killed.is_set():
            started.update(child.pid or 0 for child in multiprocessing.active_children())
            if started and any(path.stat().st_size for path in cache.glob("*.tmp/tokens.bin")):
                os.kill(min(started), signal.SIGKILL)
                killed.set()
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(StageError) as told:
            open_store(Leaf(source), config, tiny_tokenizer, 0, cache)
        assert killed.is_set()
        assert len(started) == 2
    finally:
        killed.set()
        thread.join()
    assert str(told.value) == (
        f"{source.name}: a process that read it was killed, most likely for memory. Set data.workers lower, then run "
        "the same command again: nothing of it was kept."
    )
    assert [path.name for path in cache.iterdir()] == [f"{folder.name}.lock"]
    until = time.monotonic() + 10
    while any(map(environment_of, started)):
        assert time.monotonic() < until, "the other worker is still there"
        time.sleep(0.01)
    assert open_store(Leaf(source), config, tiny_tokenizer, 0, cache).counts["rows"] == ROWS


PREPARE = """
import sys
from pathlib import Path
from alloy.data.config import DataConfig
from alloy.data.examples import Leaf, open_store
from alloy.policy import load_tokenizer
config = DataConfig.model_validate_json(sys.argv[1])
open_store(Leaf(config.sources[0]), config, load_tokenizer(sys.argv[2]), 0, Path(sys.argv[3]))
"""


def test_no_worker_outlives_a_run_that_is_killed(
    config: DataConfig, tiny_model_folder: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, config.model_dump_json(), str(tiny_model_folder), str(tmp_path / "c")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), MARK: str(tmp_path)},
    )  # fmt: skip
    try:
        began = time.monotonic()
        while len(living(MARK, str(tmp_path))) < 3:  # it, and two workers
            assert process.poll() is None
            assert time.monotonic() - began < 200
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert gone(MARK, str(tmp_path))
