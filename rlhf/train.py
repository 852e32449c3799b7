"""RLHF from top to bottom: parent, reward, rollouts with and without thinking, updates, artifact."""

from typing import Any

from alloy.artifact import Artifact, Parent, Run
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import RewardModel, Scorer
from alloy.judges.served import ServedRewardModel
from alloy.policy import device_name, load_model, load_tokenizer
from alloy.rewards import verdict_outcomes
from alloy.rl import PolicyTrainer, first_metrics
from alloy.rl_arguments import check_launch
from alloy.rl_sampling import draw_tasks, make_environments
from alloy.training import last_checkpoint
from rlhf.config import RlhfConfig
from rlhf.gains import HeldOut, gains
from rlhf.genrm import JudgeScores
from rlhf.rewards import AnswerReward, ModelScores, Scoring, held_out_measure

LOGGED = ("score/thinking_on", "score/thinking_off", "thinking_tokens", "answer_tokens/thinking_on",
          "answer_tokens/thinking_off")  # fmt: skip
"""What the artifact tells of the first and the last steps, beside the reward."""


def train(config: RlhfConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    check_launch(config)
    environments = make_environments(config)
    tasks = draw_tasks(config, environments)
    scorer = open_scorer(config, parents)
    scoring = _scoring(config, scorer)
    chooser = RewardModel(parents["held_out_reward_model"].path) if config.held_out_reward_model else None
    run.begin()
    tokenizer = load_tokenizer(parent.path)
    model = load_model(parent.path)
    held_out = HeldOut(config, environments, scorer, tokenizer)
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
        score=AnswerReward(scoring, config, tokenizer),
        measure=held_out_measure(scorer, chooser, verdict_outcomes),
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    trainer.save_kept(run.folder / "model", parent.path)
    metrics = gains(before, held_out.measure(load_model(run.folder / "model"))) | trainer.selection.metrics()
    history: Any = trainer.state.log_history
    for name in ("reward", *LOGGED):
        if any(name in entry for entry in history):
            metrics[f"{name}/first"], metrics[f"{name}/last"] = first_metrics(history, name)
    for name in ("unfinished", "unscored", "judge/missing"):
        if any(name in entry for entry in history):
            metrics[name] = first_metrics(history, name, 1_000_000)[0]
    return run.finish(
        "policy", metrics, tokens=int(trainer.state.num_input_tokens_seen), device=device_name()
    )


def open_scorer(config: RlhfConfig, parents: dict[str, Parent]) -> Scorer | None:
    """The reward model that is trained on, in process or served; None where a judge is."""
    if config.reward_model is not None:
        return RewardModel(parents["reward_model"].path)
    if config.reward_model_url is None:
        return None
    served = ServedRewardModel(config.reward_model_url)
    # Whether somebody answers shows before anything is started.
    served.score([[{"role": "user", "content": "Hello."}]], ["Hello!"])
    return served


def _scoring(config: RlhfConfig, scorer: Scorer | None) -> Scoring:
    if scorer is not None:
        return ModelScores(scorer, config.hide_thinking)
    assert config.judge is not None
    judge = Judge(config.judge)
    judge.prepare()
    return JudgeScores(judge, config.group_size, config.hide_thinking)
