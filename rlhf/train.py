"""RLHF from top to bottom: parent, reward, rollouts with and without thinking, updates, artifact."""

import os
from contextlib import closing
from typing import Any

from alloy.artifact import Artifact, Parent, Run
from alloy.checkpoints import last_checkpoint
from alloy.device import settle
from alloy.environments.registry import Environments, has_verdicts
from alloy.errors import InputError
from alloy.judges.config import JudgeConfig
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import RewardModel, Scorer
from alloy.judges.served import ServedRewardModel
from alloy.policy import device_name, load_tokenizer
from alloy.rl import PolicyTrainer, first_metrics
from alloy.rl_arguments import check_launch
from alloy.rl_sampling import draw_tasks, make_environments
from rlhf.choosing import AgainstParent, Chooser, by_reward_model, measure_held_out
from rlhf.config import RlhfConfig
from rlhf.gains import HeldOut, MeasureParent, gain_tasks
from rlhf.genrm import JudgeScores
from rlhf.plan import work
from rlhf.rewards import AnswerReward, ModelScores, Scoring

LOGGED = ("score/thinking_on", "score/thinking_off", "thinking_tokens", "answer_tokens/thinking_on",
          "answer_tokens/thinking_off")  # fmt: skip
"""What the artifact tells of the first and the last steps, beside the reward."""


def train(config: RlhfConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    check_launch(config)
    config = settle(config, work)
    environments = make_environments(config)
    _check_chosen(config, environments)
    tasks, validation = (draw_tasks(config, environments, split) for split in ("train", "validation"))
    measured = gain_tasks(config, environments)
    scorer = open_scorer(config, parents)
    scoring = _scoring(config, scorer)
    chooser = _chooser(config, run, parents)
    run.begin()
    tokenizer = load_tokenizer(parent.path)
    trainer = PolicyTrainer(
        parent=parent,
        tokenizer=tokenizer,
        config=config,
        run=run,
        tasks=tasks,
        held_out=validation,
        environments=environments,
        score=AnswerReward(scoring, config, tokenizer),
        measure=measure_held_out(chooser, scorer),
    )
    held_out = HeldOut(config, environments, measured, scorer, tokenizer, run.folder)
    trainer.add_callback(MeasureParent(held_out, trainer))
    with closing(trainer):
        trainer.train(resume_from_checkpoint=last_checkpoint(run))
        gained = held_out.gains(trainer)
    trainer.save_kept(run.folder / "model")
    metrics = gained | trainer.selection.metrics()
    history: Any = trainer.state.log_history
    for name in ("reward", *LOGGED):
        if any(name in entry for entry in history):
            metrics[f"{name}/first"], metrics[f"{name}/last"] = first_metrics(history, name)
    for name in ("unfinished", "unscored", "judge/missing", "judge/steady"):
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
    return JudgeScores(_open_judge(config.judge), config.group_size, config.hide_thinking)


def _chooser(config: RlhfConfig, run: Run, parents: dict[str, Parent]) -> Chooser | None:
    """Who chooses the step that is kept; None where the verdicts do."""
    if config.held_out_reward_model is not None:
        return by_reward_model(RewardModel(parents["held_out_reward_model"].path))
    if config.held_out_judge is not None:
        # A taste for a place would be a rise or a fall that is none.
        both_orders = config.held_out_judge.model_copy(update={"both_orders": True})
        judge = _open_judge(both_orders, "held_out_judge")
        return AgainstParent(judge, run.folder / f"parent-answers-{os.environ.get('RANK', '0')}.json")
    return None


def _open_judge(config: JudgeConfig, name: str = "judge") -> Judge:
    """A judge that has answered once: whether somebody is there shows before anything is started."""
    judge = Judge(config, name)
    judge.prepare()
    return judge


def _check_chosen(config: RlhfConfig, environments: Environments) -> None:
    """Raises:
    InputError: the step that is kept would be chosen by the verdicts of an environment that has none.
    """
    if config.validation is None or config.held_out_reward_model or config.held_out_judge:
        return
    without = [label for label, environment in environments.items() if not has_verdicts(environment)]
    if without:
        raise InputError(
            f"environments.{without[0]} has no verdicts that could choose the step that is kept. Give "
            "held_out_judge or held_out_reward_model, or leave `validation` out."
        )
