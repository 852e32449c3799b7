"""Checkpoints on disk: whole, pruned, passed over where broken; a full disk and a locked one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alloy.artifact import open_run
from alloy.checkpoints import _publish, broken, checkpoints, last_checkpoint, prune
from alloy.disk import disk_trouble
from sft import CONFIG

ROOT = Path(__file__).parents[2]


def write(folder: Path, step: int) -> Path:
    """A checkpoint with a file in a folder, as sharded ones have."""
    written, final = folder / ".partial" / f"checkpoint-{step}", folder / f"checkpoint-{step}"
    (written / "part").mkdir(parents=True)
    (written / "part" / "weights").write_bytes(bytes(1000 + step))
    _publish(written, final)
    return final


def open_sft(folder: Path) -> Any:
    values = {
        "output": str(folder / "r" / "sft"),
        "model": "hub/name",
        "data": {"sources": [{"environment": "chat", "rows": 4}], "reasoning_off": {"share": 0}},
        "optim": {"learning_rate": 1e-3},
        "train": {"max_steps": 2},
    }
    run, _ = open_run(CONFIG.model_validate(values))
    run.folder.mkdir(parents=True)
    return run


def test_a_checkpoint_appears_whole_and_tells_its_files(tmp_path: Path) -> None:
    final = write(tmp_path, 7)
    assert broken(final) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    (final / "part" / "weights").write_bytes(bytes(12))
    assert broken(final) == "part/weights has 12 of 1,007 bytes"
    (final / "part" / "weights").unlink()
    assert broken(final) == "part/weights is not there"
    (final / "files.json").write_text("{")
    assert broken(final) == "files.json cannot be read"
    (final / "files.json").unlink()
    assert broken(final) == "files.json is not there"


def test_old_ones_are_pruned_by_count_and_step_not_by_name(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write(tmp_path, step)
    prune(tmp_path, None)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-9", "checkpoint-10"]
    prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_a_broken_newest_one_is_passed_over_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_sft(tmp_path)
    for step in (2, 4, 6):
        write(run.checkpoints, step)
        run.log(step, {"loss": 1.0})
    (run.checkpoints / "checkpoint-6" / "part" / "weights").write_bytes(b"")
    assert last_checkpoint(run) == str(run.checkpoints / "checkpoint-4")
    told = capsys.readouterr().err
    assert "checkpoint-6 is broken (part/weights has 0 of 1,006 bytes) and is passed over" in told
    # It does not count among those that are kept, and what was logged after the good one goes.
    assert [path.name for path in checkpoints(run.checkpoints)] == ["checkpoint-2", "checkpoint-4"]
    assert '"step": 6' not in (run.folder / "metrics.jsonl").read_text()


def test_without_a_whole_one_it_begins_anew(tmp_path: Path) -> None:
    run = open_sft(tmp_path)
    (run.checkpoints / "checkpoint-3").mkdir(parents=True)
    (run.checkpoints / ".partial" / "checkpoint-5").mkdir(parents=True)
    assert last_checkpoint(run) is None


WRITERS = {
    "json": "from alloy.artifact import write_atomically; write_atomically(folder / 'x.json', 'x' * 3_000_000)",
    "safetensors": "from safetensors.torch import save_file; save_file({'w': torch.zeros(750_000)}, folder / 'x')",
    "torch": "torch.save(torch.zeros(750_000), folder / 'x')",
    "arrow": "from datasets import Dataset; Dataset.from_dict({'a': list(range(400_000))}).save_to_disk(folder / 'd')",
}
TINY = (
    "import sys, pathlib; import torch; folder = pathlib.Path(sys.argv[1]); "
    "from alloy.command import main; "
    "sys.exit(main(lambda _: exec(sys.argv[2]) or 0))"
)


def in_mount(folder: Path, options: str, code: str) -> subprocess.CompletedProcess[str]:
    """Python in a mount namespace of its own, in which the folder is another file system."""
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} none "$0" && exec "$@"', str(folder)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    return subprocess.run(
        [*mount, sys.executable, "-c", TINY, str(folder), code],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_full_disk_is_one_message_whoever_writes(tmp_path: Path) -> None:
    """Each library's own error, on a real file system of a mebibyte."""
    each = "\n".join(
        f"try:\n    {writer}\nexcept BaseException as error:\n    print({name!r}, disk_trouble(error), sep='|')"
        for name, writer in WRITERS.items()
    )
    code = f"from alloy.disk import disk_trouble\n{each}\nraise OSError(28, 'No space left on device')"
    done = in_mount(tmp_path, "size=1m", code)
    told = dict(line.split("|", 1) for line in done.stdout.splitlines())
    assert told.keys() == WRITERS.keys()
    for name, message in told.items():
        assert message.startswith("no space left on the disk of "), (name, message)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "failed: no space left on the disk of the run folder. Free some, run again: it goes on from the last "
        "checkpoint. train.keep_checkpoints=1 needs the least.\n"
    )


def test_a_read_only_folder_is_told_with_the_remedy(tmp_path: Path) -> None:
    done = in_mount(tmp_path, "ro", "(folder / 'runs').mkdir()")
    assert done.returncode == 1
    assert done.stderr == (
        f"failed: {tmp_path}/runs cannot be written or read (Read-only file system). Give this user the right to, "
        "or set output (with `alloy run`: --runs) to another folder, then run again.\n"
    )


def test_what_the_disk_has_no_part_in_keeps_its_own_message() -> None:
    assert disk_trouble(ValueError("no")) is None
    assert disk_trouble(FileNotFoundError(2, "No such file", "x")) is None
