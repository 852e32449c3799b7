"""What an RLHF stage does, in numbers of its config; imports no torch."""

from dataclasses import replace

from alloy.plan.launch import Launch
from alloy.plan.policy_optimisation import longest_completion, policy_work
from alloy.plan.work import Held, Scoring, Work, room, sampling_of
from rlhf.config import RlhfConfig

BATCH_TOKENS = 8192
"""That pass through a reward model at once: `alloy.judges.reward_model.BATCH_TOKENS`, which needs torch."""


def work(config: RlhfConfig, launch: Launch) -> Work:
    """Policy optimisation, a reward model that scores every rollout, and what is measured before and after."""
    found = policy_work(config, launch)
    prompt, completion = room(config.rollout, launch.prompt_tokens, longest_completion(config))
    length = prompt + completion
    # With thinking on and off, before and after.
    measured = 4 * config.validation_prompts * len(config.environments)
    rollouts = found.sampling[0]
    held, scoring = list(found.held), list(found.scoring)
    models = (
        [("reward model", "reward_model", rollouts.completions + measured)] if config.reward_model else []
    )
    if config.held_out_reward_model:
        validation = next(s for s in found.sampling if s.what == "validation")
        models.append(("held-out reward model", "held_out_reward_model", validation.completions))
    for role, field, completions in models:
        held.append(Held(role, field))
        rows = max(1, BATCH_TOKENS // length)
        scoring.append(Scoring(f"by the {role}", role, completions * length, rows, length))
    notes = list(found.notes)
    if config.reward_model_url is not None:
        notes.append("the reward model is served elsewhere and not counted")
    if config.judge is not None or config.held_out_judge is not None:
        notes.append("the judge is served elsewhere and not counted")
    answers = sampling_of(
        "answers to held-out prompts",
        measured,
        config.rollout,
        launch,
        completion=longest_completion(config),
        beside_training=True,
        at_once=measured // 4,
    )
    sampling = (*found.sampling, answers)
    return replace(found, sampling=sampling, scoring=tuple(scoring), held=tuple(held), notes=tuple(notes))
