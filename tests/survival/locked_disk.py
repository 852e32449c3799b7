"""Commands on a file system that fills up, or is locked, while they are at work: what each said and left.

    python tests/survival/locked_disk.py RUNS DISK TOLD

RUNS holds what a whole run of micro left; DISK is a tmpfs of this process alone. TOLD gets one JSON object a line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from stages import run_stage, weights

import alloy.__main__
import merge.__main__
from alloy.checkpoints import broken, checkpoints
from alloy.command import main
from alloy.training import RunCallback

RUNS, DISK, TOLD = (Path(argument) for argument in sys.argv[1:])
LEFT_BYTES = 20_000


def fill() -> None:
    ballast = os.open(DISK / "ballast", os.O_WRONLY | os.O_CREAT)
    found = os.statvfs(DISK)
    os.posix_fallocate(ballast, 0, found.f_bavail * found.f_frsize - LEFT_BYTES)
    os.close(ballast)


def free() -> None:
    (DISK / "ballast").unlink()


def mount(how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(DISK)], check=True)


TROUBLES: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "full": (fill, free),
    "locked": (lambda: mount("ro"), lambda: mount("rw")),
}


@contextmanager
def at(moment: str, step: int, trouble: Callable[[], None]) -> Iterator[None]:
    """Trouble at a moment of training."""
    before = getattr(RunCallback, moment)

    def hooked(self: Any, args: Any, state: Any, control: Any, **given: Any) -> Any:
        if state.global_step == step:
            trouble()
        return before(self, args, state, control, **given)

    setattr(RunCallback, moment, hooked)
    try:
        yield
    finally:
        setattr(RunCallback, moment, before)


def said(work: Callable[[], int]) -> dict[str, Any]:
    with redirect_stderr(StringIO()) as told:
        status = main(lambda _: work(), [])
    return {"status": status, "told": told.getvalue()}


def train(folder: Path) -> int:
    return int(run_stage("sft-1", RUNS, folder, "train.save_steps=1") is None)


def trained(kind: str, moment: str, step: int) -> Iterator[dict[str, Any]]:
    """Training that meets the trouble, and the same command after it."""
    trouble, ease = TROUBLES[kind]
    folder = DISK / kind / f"{moment}-{step}"
    with at(moment, step, trouble):
        yield {"what": moment, "kind": kind, **said(lambda: train(folder))}
    kept = checkpoints(folder / "checkpoints")
    yield {
        "what": f"{moment} left",
        "kind": kind,
        "checkpoints": [path.name for path in kept],
        "broken": [broken(path) for path in kept],
        "finished": (folder / "artifact.json").exists(),
    }
    ease()
    yield {
        "what": f"{moment} again",
        "kind": kind,
        **said(lambda: train(folder)),
        "same": weights(folder, "sft-1") == weights(RUNS / "sft-1", "sft-1"),
    }


def commands(kind: str) -> dict[str, tuple[Callable[[list[str]], int], list[str], Path]]:
    model, out = str(RUNS / "sft-3"), DISK / kind
    few = ["suites.math.items=2", "suites.math.max_completion_tokens=4"]
    return {
        "report": (alloy.__main__.run, ["report", str(DISK / "micro")], DISK / "micro" / "report.html"),
        "merge": (
            merge.__main__.run,
            ["--reasoning", model, "--chat", str(RUNS / "rlhf"), "--alpha", "0.5", "--out", str(out / "merged")],
            out / "merged",
        ),
        "evaluate": (
            alloy.__main__.run,
            ["evaluate", model, "--suites", "math", "--out", str(out / "measured"), *few],
            out / "measured" / "artifact.json",
        ),
    }  # fmt: skip


def commanded(kind: str) -> Iterator[dict[str, Any]]:
    """Each command under the trouble, and again without it."""
    trouble, ease = TROUBLES[kind]
    for name, (run, given, made) in commands(kind).items():
        trouble()
        first = said(lambda: run(given))  # noqa: B023
        yield {"what": name, "kind": kind, **first, "made": made.exists()}
        ease()
        again = said(lambda: run(given))  # noqa: B023
        yield {"what": f"{name} again", "kind": kind, **again, "made": made.exists()}
        if name == "report":
            made.unlink()


def every() -> Iterator[dict[str, Any]]:
    subprocess.run(["cp", "-r", str(RUNS), str(DISK / "micro")], check=True)
    for kind in TROUBLES:
        (DISK / kind).mkdir()
        yield from trained(kind, "on_step_end", 2)
        yield from trained(kind, "on_train_end", 12)
        yield from commanded(kind)


if __name__ == "__main__":
    with TOLD.open("w") as stream:
        stream.writelines(json.dumps(found) + "\n" for found in every())
