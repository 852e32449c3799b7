"""A recipe's plan: every stage's shape along the graph, its work, and what that takes."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alloy.base import BaseConfig
from alloy.config import StageConfig
from alloy.errors import InputError
from alloy.lora_targets import bypassed
from alloy.pipeline import Recipe, stage_config
from alloy.plan.compute import Compute, compute_of
from alloy.plan.disk import Disk, disk_of
from alloy.plan.divided import why_refused
from alloy.plan.launch import Launch
from alloy.plan.memory import memory_of
from alloy.plan.need import by_need
from alloy.plan.phase import Memory
from alloy.plan.shape import Shape
from alloy.plan.source import base_shape, read_shape
from alloy.plan.work import Work

_OWN = {"alloy.evaluate": "alloy.plan.evaluation"}
"""Stages of `alloy` itself, which the planner describes."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage would do.

    Attributes:
        shape: of the model that it works on, with the head that it has there; None where it has none.
        shapes: of the models held beside it, by role.
        planned: False where its package does not say what it does.
    """

    stage: str
    package: str
    config: StageConfig
    shape: Shape | None
    work: Work = field(default_factory=Work)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    compute: Compute = field(default_factory=Compute)
    disk: Disk = field(default_factory=Disk)
    planned: bool = True

    def fits(self, launch: Launch) -> bool:
        """Whether its peak is within what a device has, less the reserve; True where nobody said what it has."""
        return launch.usable is None or self.memory.peak.bytes <= launch.usable

    @property
    def checkpoints(self) -> bool:
        """Whether activations are computed twice."""
        return bool(self.work.training and self.work.training.checkpointing)

    @property
    def notes(self) -> tuple[str, ...]:
        found = [self.shape.note] if self.shape and self.shape.note else []
        if not self.planned:
            found.append(f"{self.package} does not describe its work: it has no plan module")
        lora = self.work.training.lora if self.work.training else None
        if self.shape and self.shape.hybrid and lora and (why := bypassed(lora)):
            found.append(f"the stage refuses to start: {why}")
        return (*found, *self.work.notes)


def plan_recipe(recipe: Recipe, runs: Path, launch: Launch, overrides: Sequence[str] = ()) -> list[StagePlan]:
    """Every stage of a recipe, in order.

    A stage without a model of its own takes its parent's shape, whether the parent has run or not.

    Raises:
        InputError: a config that is wrong, or a model that is nowhere or cannot be planned.
    """
    made: dict[str, Shape | None] = {}
    return [
        plan_stage(recipe, stage, stage_config(recipe, stage, runs, overrides), runs, launch, made)
        for stage in recipe.stages
    ]


def plan_stage(
    recipe: Recipe,
    stage: str,
    config: StageConfig,
    runs: Path,
    launch: Launch,
    made: dict[str, Shape | None],
) -> StagePlan:
    """One stage.

    Args:
        made: shapes of the models that stages before it make; its own is added.
    """
    package = recipe.stages[stage].package
    if isinstance(config, BaseConfig):
        base, work = base_shape(config, recipe.folder), Work(start="")
        made[stage] = base
        return StagePlan(stage, package, config, base, work, disk=disk_of(config, work, base, launch))
    described = _described(package)
    roles = Roles(config, recipe.folder, runs, made)
    if described is None:
        made[stage] = roles.shape("parent", optional=True)
        return StagePlan(stage, package, config, made[stage], planned=False)
    work = described(config, launch)
    if work.training and work.training.optimizer == "muon" and launch.sharded:
        refused = f"the stage refuses to start: Muon needs whole matrices, {launch.sharding} divides them"
        work = replace(work, notes=(f"{refused}. Set optim.kind=adamw", *work.notes))
    shape = roles.shape(work.start)
    if why := why_refused(package, config, shape, launch):
        work = replace(work, notes=(f"the stage refuses to start: {why}", *work.notes))
    made[stage] = None if shape is None or work.makes == "nothing" else shape
    if shape is None:
        return StagePlan(stage, package, config, None, work)
    if work.makes == "scorer":
        shape = made[stage] = shape.as_scorer()
    held = {held.role: roles.shape(held.parent) or shape for held in work.held}
    work = by_need(work, shape, launch, held)
    return StagePlan(
        stage,
        package,
        config,
        shape,
        work,
        held,
        memory_of(work, shape, launch, held),
        compute_of(work, shape, launch, held),
        disk_of(config, work, shape, launch),
    )


def _described(package: str) -> Callable[[Any, Launch], Work] | None:
    """A stage package's own description of its work: `work` in PACKAGE.plan, or in MODULE_plan beside a module."""
    for name in (_OWN.get(package), f"{package}.plan", f"{package}_plan"):
        try:
            found = name is not None and importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # a module has no submodules
            continue
        if found and name is not None:
            return getattr(importlib.import_module(name), "work", None)
    return None


class Roles:
    """The models that a config names, as shapes: of a stage of the recipe, or of a folder or Hub name."""

    def __init__(
        self, config: StageConfig, folder: Path, runs: Path, made: Mapping[str, Shape | None]
    ) -> None:
        self.config, self.folder = config, folder
        self.by_folder = {str(runs / stage): shape for stage, shape in made.items()}

    def shape(self, role: str, *, optional: bool = False) -> Shape | None:
        """The largest one's where a field names several.

        Raises:
            InputError: the field is not set, or names nothing that can be planned.
        """
        named = getattr(self.config, role, None)
        if role == "parent" and named is None:
            named = getattr(self.config, "model", None)
        names = list(named.values()) if isinstance(named, Mapping) else [named] if named else []
        if not names and optional:
            return None
        if not names:
            raise InputError(
                f"{role} is not set: a stage is planned on its model. Set {role}, or name its stage under needs."
            )
        found = [self._one(str(name)) for name in names]
        return max((s for s in found if s is not None), key=lambda shape: shape.parameters, default=None)

    def _one(self, name: str) -> Shape | None:
        if name in self.by_folder:
            return self.by_folder[name]
        return read_shape(name, self.folder)
