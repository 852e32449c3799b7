"""RLHF from top to bottom: parent, reward model, rollouts with and without thinking, updates, artifact."""

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from alloy.artifact import Artifact, Parent, Run
from alloy.environments.registry import Environments
from alloy.evaluate.statistics import Interval, paired_difference
from alloy.policy import device_name, load_model, load_tokenizer
from alloy.rewards import Score, Scores
from alloy.rl import PolicyTrainer, first_metrics
from alloy.rl_arguments import check_launch
from alloy.rl_sampling import draw_tasks, make_environments
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out
from alloy.rollout.engine import Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.stage import say
from alloy.training import last_checkpoint
from rlhf.config import RlhfConfig
from rlhf.scoring import RewardModel


def train(config: RlhfConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    check_launch(config)
    environments = make_environments(config)
    tasks = draw_tasks(config, environments)
    reward_model = RewardModel(parents["reward_model"].path)
    run.begin()
    tokenizer = load_tokenizer(parent.path)
    model = load_model(parent.path)
    held_out = HeldOut(config, environments, reward_model, tokenizer)
    before = held_out.measure(model)
    trainer = PolicyTrainer(
        model=model,
        tokenizer=tokenizer,
        config=config,
        run=run,
        parent=parent.lineage.fingerprint,
        tasks=tasks,
        held_out=draw_tasks(config, environments, "validation"),
        environments=environments,
        score=answer_scores(reward_model, config),
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    trainer.save_kept(run.folder / "model", parent.path)
    metrics = _gains(before, held_out.measure(load_model(run.folder / "model"))) | trainer.selection.metrics()
    metrics["reward/first"], metrics["reward/last"] = first_metrics(trainer.state.log_history, "reward")
    return run.finish(
        "policy", metrics, tokens=int(trainer.state.num_input_tokens_seen), device=device_name()
    )


def answer_scores(reward_model: RewardModel, config: RlhfConfig) -> Score:
    """The reward of a rollout is the reward model's score of its answer."""

    def score(rollouts: Sequence[Rollout]) -> Scores:
        answers = [_seen(rollout, config.hide_thinking) for rollout in rollouts]
        scores = reward_model.score([r.task.messages for r in rollouts], answers)
        finished = [s for s, r in zip(scores, rollouts, strict=True) if r.finished] or scores
        penalty = fmean(finished) + config.unfinished_reward * (pstdev(finished) or 1.0)
        rewards: list[float | None] = [
            s if r.finished else penalty for s, r in zip(scores, rollouts, strict=True)
        ]
        return Scores(rewards, rewards)

    return score


def _seen(rollout: Rollout, hide_thinking: bool) -> str:
    if hide_thinking:
        return rollout.answer
    thoughts = [str(turn["thinking"]) for turn in rollout.messages if turn.get("thinking")]
    return "\n".join([*thoughts, rollout.answer])


Measures = dict[str, list[float]]


class HeldOut:
    """Held-out prompts, answered as in training with thinking on and off: the reward model's score and the truth."""

    def __init__(
        self, config: RlhfConfig, environments: Environments, reward_model: RewardModel, tokenizer: Any
    ) -> None:
        self.config, self.environments = config, environments
        self.reward_model, self.tokenizer = reward_model, tokenizer
        self.tasks = [
            task
            for name in config.environments
            for task in environments.tasks(name, "validation", config.validation_prompts, config.seed)
        ]

    def measure(self, model: Any) -> Measures:
        rollout = self.config.rollout
        engine = TransformersEngine(model, self.tokenizer, rollout.batch_size, rollout.grace_tokens)
        plan = RolloutPlan(Sampling(rollout.max_completion_tokens, rollout.temperature))
        found: Measures = {}
        for mode, on in (("on", True), ("off", False)):
            thinking = [on] * len(self.tasks)
            rollouts = roll_out(self.tasks, thinking, engine, self.tokenizer, self.environments, plan, 0)
            scores = self.reward_model.score(
                [r.task.messages for r in rollouts], [r.answer for r in rollouts]
            )
            found[f"reward_model/thinking_{mode}"] = scores
            found[f"quality/thinking_{mode}"] = [_quality(r) for r in rollouts]
        return found


def _quality(rollout: Rollout) -> float:
    reward = rollout.verdict.reward if rollout.verdict else None
    return float(reward) if reward is not None and rollout.finished else 0.0


def _gains(before: Measures, after: Measures) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, scores in after.items():
        gain: Interval = paired_difference(scores, before[name])
        metrics |= {f"held_out/{name}": fmean(scores), f"held_out/{name}/gain": gain.value,
                    f"held_out/{name}/gain/low": gain.low, f"held_out/{name}/gain/high": gain.high}  # fmt: skip
        say(
            f"  held out, {name}: {fmean(before[name]):.3f} -> {fmean(scores):.3f}, gain [{gain.low:.3f}, {gain.high:.3f}]"
        )
    return metrics
