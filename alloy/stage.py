"""What the rooms of the stages share: doing the work once, and the command line of one stage.

A stage package offers `CONFIG`, the class of its config, and `run(config, force=False) -> Artifact`.
Importing it imports neither torch nor TRL; the work itself lives in a module that is imported when
there is work to do.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from alloy.artifact import Artifact, Parent, Run, is_main_process, open_run, world_size
from alloy.command import Parser, print_json, quiet_libraries
from alloy.config import StageConfig, dump
from alloy.divisions import check_divisions

Train = Callable[[Any, Run, dict[str, Parent]], Artifact]


class Stage(Protocol):
    """A stage package."""

    CONFIG: type[StageConfig]

    def run(self, config: StageConfig, force: bool = False) -> Artifact: ...


def execute(config: StageConfig, module: str, force: bool = False) -> Artifact:
    """Do a stage's work unless this very work is done; `module` holds `train(config, run, parents)`.

    `train` calls `run.begin()` once it has read its data: until then nothing in the folder is touched.
    """
    check_divisions(module)
    run, parents = open_run(config)
    done = run.finished()
    if done and not force:
        say(f"{run.recipe}/{run.stage}: finished, nothing to do.")
        return done
    quiet_libraries()
    train: Train = importlib.import_module(module).train
    changes = run.stale()
    if changes:
        say(f"{run.recipe}/{run.stage}: runs again, because this changed: {'; '.join(changes)}")
    run.force = force
    artifact = train(config, run, parents)
    say(f"{run.recipe}/{run.stage}: finished in {artifact.seconds:.0f} s -> {run.folder}")
    return artifact


def say(message: str) -> None:
    if is_main_process():
        print(message, flush=True)


def stage_main(package: str, arguments: list[str]) -> int:
    """`python -m <package> CONFIG [--dry-run] [--force] [--json] [key.sub=value ...]`."""
    from alloy.pipeline import load_stage_config

    parser = Parser(prog=f"python -m {package}", description=f"Run one {package} stage from its YAML config.")
    parser.add_argument("config", type=Path, help="the stage's YAML file, e.g. configs/micro/sft-1.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings that replace the file's"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--force", action="store_true", help="run again even when finished")
    parser.add_argument("--json", action="store_true", help="print the artifact as one JSON object")
    given = parser.parse_intermixed_args(arguments)
    config = load_stage_config(package, given.config, given.overrides)
    if given.dry_run:
        print(dump(config), end="")
        return 0
    stage: Stage = importlib.import_module(package)
    # What a stage says goes beside the JSON, not into it.
    with redirect_stdout(sys.stderr) if given.json else nullcontext():
        artifact = stage.run(config, force=given.force)
    if given.json and is_main_process():
        print_json(artifact.model_dump(mode="json"))
    if world_size() > 1:
        _leave_process_group()
    return 0


def _leave_process_group() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
