"""What RLHF did for held-out prompts, thinking on and off: the score that was trained on, the truth, the lengths."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from alloy.artifact import is_main_process, write_atomically
from alloy.environments.registry import Environments
from alloy.environments.task import Task
from alloy.evaluate.statistics import Interval, paired_difference
from alloy.judges.reward_model import Scorer
from alloy.processes import gathered, share
from alloy.rewards import tokens_of
from alloy.rl import PolicyTrainer
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out
from alloy.rollout.engine import Engine, Sampling
from alloy.stage import say
from rlhf.config import RlhfConfig

Measures = dict[str, list[float | None]]


def gain_tasks(config: RlhfConfig, environments: Environments) -> list[Task]:
    """`validation_prompts` of every environment.

    Raises:
        InputError: one of them has fewer.
    """
    return [
        task
        for label, given in config.environments.items()
        for task in environments.tasks(
            label, "validation", config.validation_prompts, config.seed, given.system
        )
    ]


class HeldOut:
    """Held-out prompts, answered as in training with thinking on and off.

    Args:
        tasks: `gain_tasks`.
        scorer: the reward model that is trained on; None where a judge is, which compares and has no score for one
            answer alone.
        folder: where what the parent did is kept: a run that goes on has its weights no more.
    """

    def __init__(
        self,
        config: RlhfConfig,
        environments: Environments,
        tasks: list[Task],
        scorer: Scorer | None,
        tokenizer: Any,
        folder: Path,
    ) -> None:
        self.config, self.environments, self.tasks = config, environments, tasks
        self.scorer, self.tokenizer = scorer, tokenizer
        self.path = folder / "parent-held-out.json"

    def measure_parent(self, trainer: PolicyTrainer) -> None:
        """Before the first step, or never: a run that goes on has measured it."""
        if self.path.is_file():
            return
        with trainer.engine() as engine:
            found = self.measure(engine)
        if is_main_process():
            write_atomically(self.path, json.dumps(found))

    def gains(self, trainer: PolicyTrainer) -> dict[str, float]:
        """What the step that is kept gained on the parent, its weights put into the trainer's model."""
        before: Measures = json.loads(self.path.read_text())
        after = before
        if trainer.kept:
            trainer.take_kept()
            with trainer.engine() as engine:
                after = self.measure(engine)
        return gains(before, after)

    def measure(self, engine: Engine) -> Measures:
        """By name one number a task, in their order. Every process does its share and gets all."""
        rollout = self.config.rollout
        sampling = Sampling(rollout.max_completion_tokens, rollout.temperature, rollout.top_p)
        plan = RolloutPlan(sampling, rollout.max_turns, rollout.thinking_budget)
        found: Measures = {}
        for mode, on in (("on", True), ("off", False)):
            tasks = share(self.tasks)
            rollouts = roll_out(tasks, [on] * len(tasks), engine, self.tokenizer, self.environments, plan, 0)
            if self.scorer is not None:
                found[f"reward_model/thinking_{mode}"] = self.scorer.score(
                    [r.task.messages for r in rollouts], [r.answer for r in rollouts]
                )
            found[f"quality/thinking_{mode}"] = [_quality(r) for r in rollouts]
            for part in ("thinking", "answer") if on else ("answer",):
                found[f"{part}_tokens/thinking_{mode}"] = [
                    float(tokens_of(r, part, self.tokenizer)) for r in rollouts
                ]
        return {name: gathered(values) for name, values in found.items()}


class MeasureParent(TrainerCallback):
    """Measures the parent on held-out prompts when training begins, with the trainer's own engine."""

    def __init__(self, held_out: HeldOut, trainer: PolicyTrainer) -> None:
        self.held_out, self.trainer = held_out, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.held_out.measure_parent(self.trainer)


def _quality(rollout: Rollout) -> float | None:
    """The verdict; None where the verifier failed, 0 where the answer has no end."""
    reward = rollout.verdict.reward if rollout.verdict else None
    return None if reward is None else float(reward) if rollout.finished else 0.0


def gains(before: Measures, after: Measures) -> dict[str, float]:
    """Means after training, and their paired differences to before with intervals, told on the way."""
    metrics: dict[str, float] = {}
    for name, every in after.items():
        both = [(a, b) for a, b in zip(every, before[name], strict=True) if a is not None and b is not None]
        if not both:
            continue
        now, earlier = [a for a, _ in both], [b for _, b in both]
        gain: Interval = paired_difference(now, earlier)
        metrics |= {f"held_out/{name}": fmean(now), f"held_out/{name}/gain": gain.value,
                    f"held_out/{name}/gain/low": gain.low, f"held_out/{name}/gain/high": gain.high}  # fmt: skip
        say(
            f"  held out, {name}: {fmean(earlier):.3f} -> {fmean(now):.3f}, gain [{gain.low:.3f}, {gain.high:.3f}]"
        )
    return metrics
