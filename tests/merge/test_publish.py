"""What a merge leaves behind when it is stopped, and how it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from merge_models import WriteModel, files

import merge.publish
from alloy.errors import InputError
from merge.linear import merge_checkpoints

ROOT = Path(merge.publish.__file__).parent.parent


class Killed(BaseException):
    """Like a kill: nothing in the code under test handles it."""


def test_an_interrupted_merge_goes_on_and_ends_at_the_same_bytes(
    write_model: WriteModel, tmp_path: Path
) -> None:
    parents = write_model("one"), write_model("three")
    straight = merge_checkpoints(*parents, 0.3, tmp_path / "straight", max_shard_bytes=48)
    assert len(straight.shards) == 4
    for stop_after in range(1, straight.bytes, 13):
        out = tmp_path / f"out-{stop_after}"
        written = 0

        def stop(count: int, total: int, limit: int = stop_after) -> None:
            nonlocal written
            written += count
            if written > limit:
                raise Killed

        with pytest.raises(Killed):
            merge_checkpoints(*parents, 0.3, out, max_shard_bytes=48, progress=stop)
        assert not out.exists()
        progress = out.with_name(f"{out.name}.partial") / "progress.json"
        finished = sorted(json.loads(progress.read_text())["shards"]) if progress.exists() else []
        report = merge_checkpoints(*parents, 0.3, out, max_shard_bytes=48)
        assert report.resumed == finished
        assert files(out) == files(tmp_path / "straight")


def test_a_finished_shard_that_was_damaged_is_written_again(write_model: WriteModel, tmp_path: Path) -> None:
    parents = write_model("one"), write_model("three")
    merge_checkpoints(*parents, 0.3, tmp_path / "straight", max_shard_bytes=48)

    def stop_late(written: int, total: int) -> None:
        if (tmp_path / "out.partial" / "model-00002-of-00004.safetensors").exists():
            raise Killed

    with pytest.raises(Killed):
        merge_checkpoints(*parents, 0.3, tmp_path / "out", max_shard_bytes=48, progress=stop_late)
    shard = tmp_path / "out.partial" / "model-00001-of-00004.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    report = merge_checkpoints(*parents, 0.3, tmp_path / "out", max_shard_bytes=48)
    assert report.resumed == ["model-00002-of-00004.safetensors"]
    assert files(tmp_path / "out") == files(tmp_path / "straight")


def test_what_another_merge_left_is_not_taken(write_model: WriteModel, tmp_path: Path) -> None:
    parents = write_model("one"), write_model("three")

    def stop_late(written: int, total: int) -> None:
        if (tmp_path / "out.partial" / "progress.json").exists():
            raise Killed

    with pytest.raises(Killed):
        merge_checkpoints(*parents, 0.3, tmp_path / "out", max_shard_bytes=48, progress=stop_late)
    report = merge_checkpoints(*parents, 0.4, tmp_path / "out", max_shard_bytes=48)
    merge_checkpoints(*parents, 0.4, tmp_path / "straight", max_shard_bytes=48)
    assert report.resumed == []
    assert files(tmp_path / "out") == files(tmp_path / "straight")


def test_the_same_merge_again_does_nothing(write_model: WriteModel, tmp_path: Path) -> None:
    parents = write_model("a"), write_model("b")
    first = merge_checkpoints(*parents, 0.3, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = merge_checkpoints(*parents, 0.3, tmp_path / "out")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert again.shards == first.shards


def test_another_model_is_not_overwritten_unasked(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = write_model("a"), write_model("b")
    with pytest.raises(InputError, match=r"b is there already and holds something else\. Remove it"):
        merge_checkpoints(a, b, 0.5, b)
    merge_checkpoints(a, b, 0.5, tmp_path / "out")
    with pytest.raises(InputError, match="out is there already and holds something else"):
        merge_checkpoints(a, b, 0.6, tmp_path / "out")
    report = merge_checkpoints(a, b, 0.6, tmp_path / "out", replace=True)
    assert report.setting == json.loads((tmp_path / "out" / "merge.json").read_text())["alpha"] == 0.6


KILLED = """
import os, random, signal, sys, threading
from pathlib import Path
from merge.linear import merge_checkpoints

a, b, root = sys.argv[1:]
moments = random.Random(7)
for number in range(10):
    share, delay = moments.random(), moments.choice([0.0, 0.0, 0.002, 0.01])
    child = os.fork()
    if child == 0:
        seen = 0

        def kill():
            os.kill(os.getpid(), signal.SIGKILL)

        def progress(written, total):
            global seen
            before, seen = seen, seen + written
            if before <= share * total < seen:
                threading.Timer(delay, kill).start() if delay else kill()

        merge_checkpoints(a, b, 0.3, Path(root) / f"out-{number}", max_shard_bytes=900_000, progress=progress)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_at_ten_random_moments_and_run_again_it_ends_at_the_same_bytes(
    write_model: WriteModel, tmp_path: Path
) -> None:
    rng = torch.Generator().manual_seed(0)
    parents = []
    for name in ("one", "three"):
        shapes = {f"model.layers.{n}.mlp.up_proj.weight": (400, 1000) for n in range(6)}
        tensors = {key: torch.randn(shape, generator=rng).bfloat16() for key, shape in shapes.items()}
        parents.append(write_model(name, tensors))
    merge_checkpoints(*parents, 0.3, tmp_path / "straight", max_shard_bytes=900_000)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [*map(str, parents), str(tmp_path)]
    told = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    ends = [int(line) for line in told.stdout.split()]
    assert len(ends) == 10
    # Those that are killed from within at once die for certain; a timer may come too late.
    assert ends.count(-9) >= 4
    assert set(ends) <= {0, -9}
    straight, resumed = files(tmp_path / "straight"), []
    for number in range(10):
        out = tmp_path / f"out-{number}"
        # Half a merge never looks like a whole one.
        assert not out.exists() or files(out) == straight
        resumed.append(len(merge_checkpoints(*parents, 0.3, out, max_shard_bytes=900_000).resumed))
        assert files(out) == straight
        assert not out.with_name(f"{out.name}.partial").exists()
    assert (min(resumed), max(resumed) >= 3) == (0, True)
