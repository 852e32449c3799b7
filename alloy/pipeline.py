"""A recipe's stages as a graph: what is done, what is next.

    configs/<recipe>/pipeline.yaml   stages:
                                       sft-1: {package: sft, needs: base}
                                       rlhf:  {package: rlhf, needs: {parent: dpo, reward_model: reward-model}}
    configs/<recipe>/<stage>.yaml    one config a stage

`needs` fills the fields that name parents, so the order of a recipe is stated once.
"""

import difflib
import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from alloy.artifact import Artifact, open_run
from alloy.config import Config, StageConfig, apply_overrides, load, parse, read_yaml
from alloy.errors import InputError, StageError
from alloy.stage import Stage, say

State = Literal["finished", "stale", "interrupted", "missing", "waiting"]


class Entry(Config):
    """One stage of a recipe."""

    package: str
    """Of the stage, e.g. `sft`, `rlhf.reward_model`."""
    needs: str | dict[str, str | list[str]] | list[str] = Field(default_factory=dict)
    """A stage name (the `parent`), a list (`models`), or either by the config field that takes it."""

    def stages(self) -> list[str]:
        if isinstance(self.needs, str):
            return [self.needs]
        if isinstance(self.needs, list):
            return self.needs
        return [
            stage for named in self.needs.values() for stage in ([named] if isinstance(named, str) else named)
        ]


class RecipeConfig(Config):
    """The content of a pipeline.yaml."""

    stages: dict[str, Entry]
    """By name; `<name>.yaml` beside this file has the stage's config."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's folder and its stages, each after what it needs."""

    folder: Path
    stages: dict[str, Entry]

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class StageStatus:
    """Where a stage of a recipe stands."""

    stage: str
    state: State
    why: str = ""
    artifact: Artifact | None = None


def find_recipe(name: str) -> Path:
    """The folder of a recipe, from its name or its path."""
    for folder in (Path(name), Path("configs") / name):
        if (folder / "pipeline.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in Path("configs").glob("*/pipeline.yaml"))
    near = difflib.get_close_matches(Path(name).name, known, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known) or 'none'}."
    raise InputError(
        f"{name!r} is no recipe: neither {name}/pipeline.yaml nor configs/{name}/pipeline.yaml. {hint}"
    )


def load_recipe(name: str) -> Recipe:
    """Read pipeline.yaml and order its stages.

    Raises:
        InputError: an unknown recipe or stage, or stages that need each other in a circle.
    """
    folder = find_recipe(name)
    path = folder / "pipeline.yaml"
    stages = load(RecipeConfig, path).stages
    for stage, entry in stages.items():
        for need in entry.stages():
            if need not in stages:
                raise InputError(
                    f"{path}: {stage} needs {need!r}, which is no stage here. Known: {', '.join(stages)}."
                )
    try:
        order = list(
            TopologicalSorter({stage: entry.stages() for stage, entry in stages.items()}).static_order()
        )
    except CycleError as error:
        raise InputError(
            f"{path}: these stages need each other in a circle: {' -> '.join(error.args[1])}."
        ) from None
    # The file's own order where the graph leaves a choice: what a person reads is what runs.
    ordered: dict[str, Entry] = {}
    while len(ordered) < len(order):
        ready = next(
            s for s in stages if s not in ordered and all(need in ordered for need in stages[s].stages())
        )
        ordered[ready] = stages[ready]
    return Recipe(folder, ordered)


def load_stage_config(
    package: str, path: Path, overrides: Sequence[str] = (), runs: Path | None = None
) -> StageConfig:
    """A stage's config with its output folder and its parents filled in from the recipe it lies in.

    Args:
        runs: the folder of this recipe's run folders; runs/<recipe> when not given.
    """
    values, places = read_yaml(path)
    apply_overrides(values, overrides)
    runs = runs or Path("runs") / path.resolve().parent.name
    if values.get("output") is None:
        values["output"] = str(runs / path.stem)
    cls = import_stage(package).CONFIG
    if (path.parent / "pipeline.yaml").is_file():
        _fill_parents(cls, values, load_recipe(str(path.parent)).stages.get(path.stem), runs)
    return parse(cls, values, str(path), places)


def _fill_parents(cls: type[StageConfig], values: dict[str, Any], entry: Entry | None, runs: Path) -> None:
    if entry is None or values.get("model") is not None:
        return
    needs: dict[str, Any] = {}
    if isinstance(entry.needs, str):
        needs = {"parent": str(runs / entry.needs)}
    elif isinstance(entry.needs, dict):
        needs = {
            role: str(runs / named)
            if isinstance(named, str)
            else {stage: str(runs / stage) for stage in named}
            for role, named in entry.needs.items()
        }
    else:
        needs = {"models": {stage: str(runs / stage) for stage in entry.needs}}
    for role, folder in needs.items():
        if role not in cls.PARENTS:
            raise InputError(
                f"needs: {role!r} is no parent of this stage. Known: {', '.join(cls.PARENTS) or 'none'}."
            )
        if values.get(role) is None:
            values[role] = folder


def import_stage(package: str) -> Stage:
    try:
        module = importlib.import_module(package)
        missing = "" if hasattr(module, "CONFIG") and hasattr(module, "run") else "it has no CONFIG or no run"
    except (ImportError, ValueError, TypeError) as error:
        missing = str(error)
    if missing:
        raise InputError(
            f"package: {package!r} is no stage ({missing}). Known: alloy.base, sft, grpo, dpo, rlhf, "
            "rlhf.reward_model, merge, alloy.evaluate."
        )
    return module


def stage_overrides(recipe: Recipe, stage: str, overrides: Sequence[str]) -> list[str]:
    """Those of a recipe's overrides that are this stage's: `<stage>.key=value`, and `seed=N` for all.

    Raises:
        InputError: an override that is no stage's.
    """
    mine = []
    for override in overrides:
        name, dot, rest = override.partition(".")
        if override.startswith("seed="):
            mine.append(override)
        elif not dot or name not in recipe.stages:
            raise InputError(
                f"{override!r}: write STAGE.key=value, or seed=N for all. Stages: {', '.join(recipe.stages)}."
            )
        elif name == stage:
            mine.append(rest)
    return mine


def stage_config(recipe: Recipe, stage: str, runs: Path, overrides: Sequence[str] = ()) -> StageConfig:
    path = recipe.folder / f"{stage}.yaml"
    mine = stage_overrides(recipe, stage, overrides)
    return load_stage_config(recipe.stages[stage].package, path, mine, runs)


def status(recipe: Recipe, runs: Path, overrides: Sequence[str] = ()) -> list[StageStatus]:
    """Where every stage stands; a stage after an unfinished one waits for it."""
    found: dict[str, StageStatus] = {}
    for stage, entry in recipe.stages.items():
        config = stage_config(recipe, stage, runs, overrides)
        open_needs = [need for need in entry.stages() if found[need].state != "finished"]
        folder = Path(config.output or "")
        if open_needs:
            state: State = "stale" if (folder / "artifact.json").is_file() else "waiting"
            found[stage] = StageStatus(stage, state, f"{', '.join(open_needs)} not finished")
            continue
        run, _ = open_run(config)
        done, changes = run.finished(), run.stale()
        if done:
            found[stage] = StageStatus(stage, "finished", artifact=done)
        elif changes:
            found[stage] = StageStatus(stage, "stale", "changed: " + "; ".join(changes))
        elif (folder / "inputs.json").is_file():
            found[stage] = StageStatus(stage, "interrupted", "goes on from its last checkpoint")
        else:
            found[stage] = StageStatus(stage, "missing")
    return list(found.values())


def select(recipe: Recipe, wanted: Sequence[str]) -> list[str]:
    """The named stages and all they need, in order."""
    needed: set[str] = set()
    queue = list(wanted)
    while queue:
        stage = queue.pop()
        if stage not in recipe.stages:
            raise InputError(f"{stage!r} is no stage of {recipe.name}. Stages: {', '.join(recipe.stages)}.")
        if stage not in needed:
            needed.add(stage)
            queue += recipe.stages[stage].stages()
    return [stage for stage in recipe.stages if stage in needed]


def run_recipe(
    recipe: Recipe,
    runs: Path,
    *,
    wanted: Sequence[str] = (),
    overrides: Sequence[str] = (),
    force: bool = False,
) -> list[Artifact]:
    """Run a recipe's stages in this process, skipping what is finished.

    Args:
        wanted: stages to run, with what they need; all when empty.
        force: run the wanted ones again even when finished.
    """
    stages = select(recipe, wanted or list(recipe.stages))
    # Every config is read before the first stage starts: a typo in the last one costs nothing.
    configs = {stage: stage_config(recipe, stage, runs, overrides) for stage in stages}
    for stage, config in configs.items():
        if force or not (Path(config.output or "") / "artifact.json").is_file():
            try:
                config.check_tasks()
            except InputError as error:
                raise InputError(f"{stage}: {error}") from None
    artifacts: list[Artifact] = []
    began = time.time()
    for number, stage in enumerate(stages, 1):
        say(f"[{number}/{len(stages)}] {stage}")
        again = force and (not wanted or stage in wanted)
        try:
            artifacts.append(import_stage(recipe.stages[stage].package).run(configs[stage], force=again))
        except InputError as error:
            # A later stage's bad data may be found after earlier stages ran: then it is not exit 2's "nothing was
            # started".
            ran = any((done.folder / "artifact.json").stat().st_mtime >= began for done in artifacts)
            raise (StageError if ran else InputError)(f"{stage}: {error}") from error
        except StageError as error:
            raise StageError(f"{stage}: {error}") from error
        _release_memory()
    return artifacts


def _release_memory() -> None:
    import gc

    gc.collect()
