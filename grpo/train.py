"""One GRPO stage from top to bottom: environments, parent, rollouts and updates, artifact."""

from contextlib import closing

from alloy.artifact import Artifact, Parent, Run
from alloy.checkpoints import last_checkpoint
from alloy.device import settle
from alloy.environments.registry import check_gold
from alloy.policy import device_name, load_tokenizer
from alloy.rewards import VerdictReward
from alloy.rl import PolicyTrainer, first_metrics
from alloy.rl_arguments import check_launch
from alloy.rl_sampling import draw_tasks, make_environments
from alloy.stage import say
from grpo.config import GrpoConfig
from grpo.plan import work


def train(config: GrpoConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    check_launch(config)
    config = settle(config, work)
    environments = make_environments(config)
    tasks = draw_tasks(config, environments)
    held_out = draw_tasks(config, environments, "validation")
    for label, drawn in tasks.items():
        known = check_gold(environments, [*drawn, *held_out[label]])
        say(f"  {label}: {len(drawn)} tasks; the known solutions of {known} are all judged 1.0")
    run.begin()
    tokenizer = load_tokenizer(parent.path)
    trainer = PolicyTrainer(
        parent=parent,
        tokenizer=tokenizer,
        config=config,
        run=run,
        tasks=tasks,
        held_out=held_out,
        environments=environments,
        score=VerdictReward(config.environments, tokenizer),
    )
    with closing(trainer):
        trainer.train(resume_from_checkpoint=last_checkpoint(run))
    trainer.save_kept(run.folder / "model")
    history = trainer.state.log_history
    metrics = trainer.selection.metrics()
    for label in environments:
        metrics[f"reward/{label}/first"], metrics[f"reward/{label}/last"] = first_metrics(
            history, f"rewards/{label}/mean"
        )
    for what in ("zero_signal/rolled", "zero_signal/trained", "verdict/timeout", "verdict/error"):
        metrics[what] = first_metrics(history, what, 1_000_000)[0]
    return run.finish(
        "policy", metrics, tokens=int(trainer.state.num_input_tokens_seen), device=device_name()
    )
