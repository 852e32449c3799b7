"""Micro, killed at random moments again and again, beside a run that nobody disturbed.

    python -m tests.chaos --kills 100

SIGKILL takes the whole process group. After every kill, what looks finished is read and hashed; at the end of a
round every artifact has to have the weights and the metrics of the undisturbed run's. Exit status 1 if not.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from alloy.__main__ import run
from alloy.artifact import fingerprint_model, read_artifact
from alloy.checkpoints import broken, checkpoints
from alloy.command import main, quiet_libraries
from alloy.errors import InputError
from alloy.parent_death import end_with
from alloy.pipeline import load_recipe, select

RECIPE = "configs/micro"
TRAINED = ("sft-1", "sft-2", "sft-3", "grpo", "dpo", "reward-model", "rlhf")
IMPORTED = {"base": "alloy.build_base", "sft-1": "sft.train", "grpo": "grpo.train", "dpo": "dpo.train",
            "reward-model": "rlhf.train_reward_model", "rlhf": "rlhf.train", "merge": "merge.train",
            "evaluate": "alloy.evaluate.harness"}  # fmt: skip
PER_STAGE = 2
"""Kills of a stage in a round."""
CLOCKS = ("second", "time", "per_s", "memory")
"""What the names of measurements have in them that differ from run to run."""


@dataclass
class Tally:
    """What became of the kills.

    Attributes:
        after: by stage, what a kill left there: `checkpoint`, `anew` (nothing to go on from) or `finished`.
        broken: what looked finished and was not.
        unlike: artifacts that differ from those of the undisturbed run.
    """

    after: dict[str, Counter[str]]
    broken: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    rounds: int = 0

    @property
    def kills(self) -> int:
        return sum(sum(counts.values()) for counts in self.after.values())


def start(runs: Path, until: str, log: Path) -> int:
    """The recipe in a forked process, a group of its own, so that the libraries are imported once."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    # It ends with the process that would kill it.
    end_with(parent)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ["ALLOY_CACHE"] = str(runs.parent / "cache")
    stages = select(load_recipe(RECIPE), [until])
    saving = [f"{stage}.train.save_steps=1" for stage in stages if stage in TRAINED]
    os._exit(main(run, ["run", RECIPE, "--runs", str(runs), "--stage", until, *saving]))


def reached(log: Path) -> str | None:
    """The stage that a run is at, from what it says."""
    lines = log.read_text().splitlines() if log.is_file() else []
    found = [line.split("] ", 1)[1] for line in lines if line.startswith("[") and "] " in line]
    return found[-1] if found else None


def ended(pid: int, log: Path) -> bool:
    """Whether a run has ended; one that failed ends the test."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done and os.waitstatus_to_exitcode(status):
        sys.exit(f"a run failed by itself:\n{log.read_text()}")
    return bool(done)


def undisturbed(runs: Path, until: str, log: Path) -> dict[str, float]:
    """Run to the end: the seconds of each stage."""
    pid = start(runs, until, log)
    began: dict[str, float] = {}
    while not ended(pid, log):
        if stage := reached(log):
            began.setdefault(stage, time.monotonic())
        time.sleep(0.01)
    ends = [*list(began.values())[1:], time.monotonic()]
    return {stage: end - at for (stage, at), end in zip(began.items(), ends, strict=True)}


def kill_one(runs: Path, until: str, log: Path, target: str, delay: float) -> str | None:
    """Kill a run so many seconds after it has come to a stage: the stage that it was at; None where it ended."""
    log.unlink(missing_ok=True)
    pid = start(runs, until, log)
    moment = None
    while not ended(pid, log):
        if moment is None and reached(log) == target:
            moment = time.monotonic() + delay
        if moment is not None and time.monotonic() >= moment:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return reached(log)
        time.sleep(0.005)
    return None


def left(folder: Path) -> str:
    """What the next run of a stage has to go on from."""
    if (folder / "artifact.json").is_file():
        return "finished"
    parts = [folder, *folder.glob("iteration-*")]
    whole = [path for part in parts for path in checkpoints(part / "checkpoints") if not broken(path)]
    return "checkpoint" if whole or any((part / "artifact.json").is_file() for part in parts) else "anew"


def looks_whole(runs: Path) -> list[str]:
    """What looks finished and is broken: artifacts, model folders, checkpoints."""
    found = []
    for path in runs.rglob("artifact.json"):
        try:
            artifact = read_artifact(path.parent)
            recorded = artifact.fingerprints.get("weights")
            if recorded and fingerprint_model(artifact.model) != recorded:
                found.append(f"{artifact.model} is not what its artifact says")
        except (InputError, OSError) as error:
            found.append(str(error))
    found += [f"{path}: {broken(path)}" for path in runs.rglob("checkpoints/checkpoint-*") if broken(path)]
    return found


def without_clocks(measured: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in measured.items() if not any(clock in name for clock in CLOCKS)}


def outcome(folder: Path) -> dict[str, Any]:
    """What has to be the same of an artifact."""
    artifact = read_artifact(folder)
    return {"weights": artifact.fingerprints.get("weights"), "metrics": without_clocks(artifact.metrics)}


def differences(calm: Path, runs: Path) -> list[str]:
    found = []
    for path in runs.rglob("artifact.json"):
        name = path.parent.relative_to(runs)
        ours, theirs = outcome(path.parent), outcome(calm / name)
        found += [f"{name}: other {what}" for what in ours if ours[what] != theirs[what]]
    return found


def apart(function: Callable[..., list[str]], *given: Path) -> list[str]:
    """Called in a process of its own: hashing starts threads, and a fork of a process that has them may hang."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *given).result()


def disturb(calm: Path, seconds: dict[str, float], until: str, folder: Path, kills: int, seed: int) -> Tally:
    """Rounds of runs that are killed, each to its end, until that many kills have landed."""
    draw = random.Random(seed)
    tally = Tally({stage: Counter() for stage in seconds})
    while tally.kills < kills:
        round_folder = folder / f"round-{tally.rounds}"
        runs, log = round_folder / "micro", round_folder / "log.txt"
        round_folder.mkdir()
        quota = Counter(dict.fromkeys(seconds, PER_STAGE))
        while tally.kills < kills:
            targets = [s for s in seconds if quota[s] > 0 and not (runs / s / "artifact.json").is_file()]
            if not targets:
                break
            stage = kill_one(runs, until, log, targets[0], draw.uniform(0, seconds[targets[0]]))
            if stage is None:
                break
            quota[stage] -= 1
            tally.after[stage][left(runs / stage)] += 1
            tally.broken += apart(looks_whole, runs)
            print(f"  kill {tally.kills}: {stage}, {left(runs / stage)}", file=sys.stderr, flush=True)
        undisturbed(runs, until, log)
        tally.broken += apart(looks_whole, runs)
        tally.unlike += [f"round {tally.rounds}: {told}" for told in apart(differences, calm, runs)]
        tally.rounds += 1
        if not tally.broken and not tally.unlike:
            shutil.rmtree(round_folder)
    return tally


def table(tally: Tally) -> str:
    head = ("stage", "kills", "from a checkpoint", "anew", "finished")
    rows = [
        (stage, str(sum(c.values())), str(c["checkpoint"]), str(c["anew"]), str(c["finished"]))
        for stage, c in tally.after.items()
    ]
    lines = [f"{row[0]:14}" + "".join(f"{cell:>19}" for cell in row[1:]) for row in (head, *rows)]
    equal = "no" if tally.unlike else "yes"
    told = f"{tally.kills} kills in {tally.rounds} rounds; broken artifacts {len(tally.broken)}; equal weights {equal}"
    return "\n".join([*lines, told, *tally.broken, *tally.unlike])


def chaos(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--until", default="evaluate", help="the last stage; with all that it needs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    quiet_libraries()
    needed = select(load_recipe(RECIPE), [given.until])
    for stage, module in IMPORTED.items():
        if stage in needed:
            importlib.import_module(module)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="alloy-chaos-"))
    (folder / "calm").mkdir()
    seconds = undisturbed(folder / "calm" / "micro", given.until, folder / "calm" / "log.txt")
    tally = disturb(folder / "calm" / "micro", seconds, given.until, folder, given.kills, given.seed)
    print(table(tally))
    print(f"{time.monotonic() - began:.0f} s")
    failed = bool(tally.broken or tally.unlike)
    if failed:
        print(f"the folders are kept in {folder}")
    else:
        shutil.rmtree(folder)
    print(json.dumps({"kills": tally.kills, "broken": len(tally.broken), "unlike": len(tally.unlike),
                      "after": {stage: dict(counts) for stage, counts in tally.after.items()}}))  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    # Before torch is imported: threads of its own would not live through a fork.
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main(chaos))
