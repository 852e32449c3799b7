"""One GRPO stage from top to bottom: environments, parent, rollouts and updates, artifact."""

from collections.abc import Sequence

from alloy.artifact import Artifact, Parent, Run
from alloy.environments.registry import Environments, check_gold
from alloy.policy import device_name, load_model, load_tokenizer, save_trained
from alloy.rl import PolicyTrainer, draw_tasks, first_metrics
from alloy.rollout.conversation import Rollout
from alloy.stage import say
from alloy.training import last_checkpoint
from grpo.config import GrpoConfig


def train(config: GrpoConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    environments = Environments.make(config.options())
    tasks = draw_tasks(config, environments)
    for name, drawn in tasks.items():
        check_gold(environments, drawn[:64])
        say(f"  {name}: {len(drawn)} tasks, the known solutions are judged 1.0")
    run.begin()
    tokenizer = load_tokenizer(parent.path)
    trainer = PolicyTrainer(
        model=load_model(parent.path),
        tokenizer=tokenizer,
        config=config,
        run=run,
        tasks=tasks,
        environments=environments,
        score=verdict_rewards,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    save_trained(trainer, tokenizer, run.folder / "model")
    history = trainer.state.log_history
    metrics = {}
    for name in environments:
        metrics[f"reward/{name}/first"], metrics[f"reward/{name}/last"] = first_metrics(
            history, f"rewards/{name}/mean"
        )
    metrics["verifier/failed_share"] = first_metrics(history, "verifier/failed_share", 1_000_000)[0]
    return run.finish(
        "policy", metrics, tokens=int(trainer.state.num_input_tokens_seen), device=device_name()
    )


def verdict_rewards(rollouts: Sequence[Rollout]) -> list[float | None]:
    """The verdict's reward; 0 for a completion that did not end, None where the verifier failed."""
    rewards: list[float | None] = []
    for rollout in rollouts:
        verdict = rollout.verdict
        if verdict is None or verdict.reward is None:
            rewards.append(None)
        else:
            rewards.append(verdict.reward if rollout.finished else 0.0)
    return rewards
