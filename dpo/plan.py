"""What an iterated DPO stage does, in numbers of its config; imports no torch."""

from alloy.plan.launch import Launch
from alloy.plan.tasks import turns_of
from alloy.plan.work import Sampling, Scoring, Work, room, sampling_of, training_of
from dpo.config import DpoConfig


def work(config: DpoConfig, launch: Launch) -> Work:
    """All iterations: rollouts, the reference's log-probabilities, updates on pairs, validation."""
    rollout, train, environments = config.rollout, config.train, config.environments
    turns = max(
        turns_of(given.environment or label, rollout.max_turns) for label, given in environments.items()
    )
    tasks = sum(given.tasks for given in environments.values())
    held_out = sum(given.validation_tasks for given in environments.values())
    prompt, completion = room(rollout, launch.prompt_tokens, rollout.max_completion_tokens * turns)
    length = prompt + completion
    # The chosen and the rejected completion of a pair pass at once; the prompt is in both.
    rows = 2 * train.per_device_batch_size
    training = training_of(
        config,
        launch,
        length=length,
        attention="sdpa",
        rows=rows,
        steps=train.max_steps * config.iterations,
        scored=completion,
    )
    pairs = tasks * config.pairing.pairs_per_task
    reference = Scoring("the reference model", "policy", 2 * pairs * config.iterations * length, rows, length)

    def sampled(what: str, each: int, times: int) -> Sampling:
        return sampling_of(
            what,
            each * times,
            rollout,
            launch,
            completion=rollout.max_completion_tokens * turns,
            beside_training=False,
            multi_turn=turns > 1,
            at_once=each,
        )

    return Work(
        training=training,
        sampling=(
            sampled("rollouts", tasks * config.rollouts_per_task, config.iterations),
            sampled("validation", held_out, config.iterations + 1),
        ),
        scoring=(reference,),
        # Every iteration's, and the one that is kept once more.
        models=config.iterations + 1,
        notes=(
            f"at most {config.iterations} iterations of {train.max_steps} updates, on at most {pairs:,} pairs each",
        ),
    )
