"""What would make a stage fit: changes tried one after another, the first that really fits is told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from alloy.config import StageConfig, TrainingConfig, apply_overrides, parse
from alloy.errors import InputError
from alloy.pipeline import Recipe
from alloy.plan.launch import Launch, Sharding
from alloy.plan.recipe import StagePlan, plan_stage
from alloy.plan.shape import Shape
from alloy.rl_config import PolicyOptimisationConfig


@dataclass(frozen=True)
class Remedy:
    """A change under which a stage fits.

    Attributes:
        settings: `key.sub=value` of the stage's config.
        launch: the machines, with another sharding where that is what helps.
        plan: the stage under it.
    """

    settings: tuple[str, ...]
    launch: Launch
    plan: StagePlan

    def told(self, launch: Launch) -> str:
        """As it is typed."""
        words = [f"{self.plan.stage}.{setting}" for setting in self.settings]
        if self.launch.sharding != launch.sharding:
            words.append(f"--sharding {self.launch.sharding}")
        if self.launch.offload != launch.offload:
            words.append(f"--offload {self.launch.offload}")
        return " ".join(words)


def find_remedy(
    recipe: Recipe,
    plan: StagePlan,
    runs: Path,
    launch: Launch,
    made: Mapping[str, Shape | None],
) -> Remedy | None:
    """The first change in the order of what it costs under which a stage fits; None where none does.

    A smaller batch at once, gradient checkpointing, both; then weights divided among the devices, kept in the
    machine's memory, an adapter instead of all weights; shorter sequences last, which change what is learned.

    Args:
        made: the shapes of what every stage makes.
    """
    for settings, changed in _candidates(plan, launch):
        try:
            config = _with(plan.config, settings)
        except InputError:
            continue  # a value that this stage's config does not take
        tried = plan_stage(recipe, plan.stage, config, runs, changed, dict(made))
        if tried.fits(changed) and not _refused(tried):
            return Remedy(settings, changed, tried)
    return None


def _with(config: StageConfig, settings: tuple[str, ...]) -> StageConfig:
    values = config.model_dump()
    apply_overrides(values, settings)
    return parse(type(config), values, "remedy")


def _refused(plan: StagePlan) -> bool:
    return any(note.startswith("the stage refuses") for note in plan.notes)


def _candidates(plan: StagePlan, launch: Launch) -> Iterator[tuple[tuple[str, ...], Launch]]:
    config = plan.config
    if not isinstance(config, TrainingConfig):
        yield from (((setting,), launch) for setting in _smaller_rollouts(plan))
        return
    sampling = plan.memory.peak.name.startswith("sampling")
    batches = [*_smaller_batches(config), ()]
    if sampling:
        yield from (((setting,), launch) for setting in _smaller_rollouts(plan))
    yield from ((batch, launch) for batch in batches if batch)
    # `auto` has it already where that is what helps.
    checkpointing = () if config.train.gradient_checkpointing else ("train.gradient_checkpointing=true",)
    tightest: tuple[str, ...] = (*checkpointing, *_smallest(config))
    if checkpointing:
        yield checkpointing, launch
        yield from (((*checkpointing, *batch), launch) for batch in batches if batch)
    offloading = _offloading(config, launch)
    if offloading:
        yield (*tightest, *offloading), launch
    for changed in _divided(launch, config.optim.kind):
        yield (), changed
        yield checkpointing, changed
        yield from (((*checkpointing, *batch), changed) for batch in batches if batch)
        if offloading:
            yield (*tightest, *offloading), changed
        if sampling:
            yield from (((*tightest, setting), changed) for setting in _smaller_rollouts(plan))
    if config.lora is None and config.optim.kind == "adamw":
        for changed in (launch, *_divided(launch, "adamw")):
            yield ("lora.rank=16", *tightest), changed
    for setting in _shorter(config):
        for changed in (launch, *_divided(launch, config.optim.kind)):
            yield (*tightest, setting), changed


def _offloading(config: TrainingConfig, launch: Launch) -> tuple[str, ...]:
    """Activations in the machine's memory, for a stage that can."""
    if launch.cpu or getattr(config.train, "activation_offloading", True):
        return ()
    # Without checkpointing everything that a block keeps would have to move.
    by_need = config.train.gradient_checkpointing == "auto"
    return (*(("train.gradient_checkpointing=true",) if by_need else ()), "train.activation_offloading=true")


def _smaller_batches(config: TrainingConfig) -> Iterator[tuple[str, ...]]:
    """Half as many sequences at once, and half again; an update has as many as before."""
    train = config.train
    rows = train.per_device_batch_size
    for smaller in range(rows - 1, 0, -1):
        if rows % smaller:
            continue
        settings: tuple[str, ...] = (f"train.per_device_batch_size={smaller}",)
        if not isinstance(config, PolicyOptimisationConfig):
            accumulated = train.gradient_accumulation_steps * rows // smaller
            settings += (f"train.gradient_accumulation_steps={accumulated}",)
        yield settings


def _smallest(config: TrainingConfig) -> tuple[str, ...]:
    return next(reversed([(), *_smaller_batches(config)]))


def _smaller_rollouts(plan: StagePlan) -> Iterator[str]:
    """Fewer completions at once, for an engine whose memory follows from them."""
    rollout = getattr(plan.config, "rollout", None)
    sweep = getattr(plan.config, "sweep", None)
    rows, key = (rollout.batch_size, "rollout.batch_size") if rollout is not None else (0, "")
    if sweep is not None:
        rows, key = sweep.batch_size, "sweep.batch_size"
    while rows > 1:
        rows //= 2
        yield f"{key}={rows}"


def _divided(launch: Launch, optimizer: str) -> Iterator[Launch]:
    """More of the weights' states away from every device, step by step; Muon needs whole matrices."""
    if optimizer == "muon":
        return
    order: list[Sharding] = ["none", "zero2", "zero3"]
    at = order.index(launch.sharding) if launch.sharding in order else len(order)
    if launch.devices > 1:
        for sharding in order[at + 1 :]:
            yield replace(launch, sharding=sharding, offload="none")
    if launch.sharding != "fsdp" and launch.offload != "all":
        yield replace(launch, sharding="zero3", offload="optimizer")
        yield replace(launch, sharding="zero3", offload="all")


def _shorter(config: TrainingConfig) -> Iterator[str]:
    rollout = getattr(config, "rollout", None)
    if rollout is not None:
        tokens, key = rollout.max_completion_tokens, "rollout.max_completion_tokens"
    else:
        tokens, key = config.train.max_sequence_tokens, "train.max_sequence_tokens"
    while tokens > 128:
        tokens //= 2
        yield f"{key}={tokens}"
