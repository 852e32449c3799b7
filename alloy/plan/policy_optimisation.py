"""What group-relative policy optimisation does, shared by grpo/ and rlhf/ as the loop itself is (`alloy.rl`)."""

from math import ceil

from alloy.plan.launch import Launch
from alloy.plan.tasks import turns_of
from alloy.plan.work import Held, Sampling, Scoring, Work, room, sampling_of, training_of
from alloy.rl_config import PolicyOptimisationConfig


def policy_work(config: PolicyOptimisationConfig, launch: Launch) -> Work:
    """Rollouts, the log-probabilities of a sampler or a reference, updates, profile and validation."""
    rollout, train = config.rollout, config.train
    per_step = config.prompts_per_step * config.group_size
    prompt, completion = room(rollout, launch.prompt_tokens, longest_completion(config))
    length = prompt + completion
    micro = train.per_device_batch_size
    training = training_of(
        config,
        launch,
        length=length,
        attention="sdpa",
        micro_batches=ceil(per_step / (micro * launch.devices)),
        scored=completion,
    )
    # Every batch of rollouts serves `updates` updates, `passes` times.
    batches = ceil(train.max_steps / (rollout.updates * rollout.passes))
    rolled = batches * per_step * rollout.updates
    reference = config.loss.kl_coef > 0
    scoring = []
    sampler_corrected = rollout.engine != "transformers" and config.loss.importance != "none"
    if sampler_corrected or rollout.updates * rollout.passes > 1:
        scoring.append(Scoring("the sampler's policy", "policy", rolled * length, micro, length))
    if reference:
        model = "policy" if config.lora is not None else "reference"
        scoring.append(Scoring("the reference model", model, rolled * length, micro, length))
    held = (Held("reference", "parent", sharded=True),) if reference and config.lora is None else ()
    return Work(
        training=training,
        sampling=tuple(_sampling(config, launch, rolled, batches)),
        scoring=tuple(scoring),
        held=held,
        # The best step so far, and the one before it until a checkpoint is there.
        candidates=2 if config.validation is not None else 0,
        notes=_notes(config, launch, per_step),
    )


def longest_completion(config: PolicyOptimisationConfig) -> int:
    """Tokens of a conversation's turns, at most; what tools answer is not counted."""
    turns = max(
        turns_of(given.environment or label, config.rollout.max_turns)
        for label, given in config.environments.items()
    )
    return config.rollout.max_completion_tokens * turns


def _sampling(config: PolicyOptimisationConfig, launch: Launch, rolled: int, batches: int) -> list[Sampling]:
    rollout, labels = config.rollout, config.environments
    completion = longest_completion(config)
    multi_turn = completion > rollout.max_completion_tokens

    def sampled(what: str, completions: int, at_once: int) -> Sampling:
        return sampling_of(
            what,
            completions,
            rollout,
            launch,
            completion=completion,
            beside_training=True,
            multi_turn=multi_turn,
            at_once=at_once,
        )

    # A group without a signal may be rolled out anew, in every round of refills.
    found = [sampled("rollouts", rolled * (1 + rollout.refills), rolled // batches)]
    curriculum, validation, steps = config.curriculum, config.validation, config.train.max_steps
    tasks = sum(given.tasks for given in labels.values())
    if curriculum is not None:
        again = (steps - 1) // curriculum.again_every_steps if curriculum.again_every_steps else 0
        each = tasks * curriculum.rollouts
        found.append(sampled("pass rates", each * (1 + again), each))
    if validation is not None:
        each = validation.tasks * len(labels)
        times = 1 + ceil(steps / validation.every_steps)
        found.append(sampled("validation", each * times, each))
    return found


def _notes(config: PolicyOptimisationConfig, launch: Launch, per_step: int) -> tuple[str, ...]:
    notes = []
    micro, devices = config.train.per_device_batch_size, launch.devices
    if config.prompts_per_step % devices or per_step % (micro * devices):
        notes.append(
            f"the stage refuses to start: {config.prompts_per_step} prompts x {config.group_size} completions "
            f"cannot be divided among {devices} devices in micro-batches of {micro}"
        )
    if config.rollout.engine == "vllm-server":
        notes.append("vLLM serves from devices of its own, which are not counted")
    if config.rollout.refills:
        notes.append(
            f"sampled tokens include every round of refills ({config.rollout.refills}), the most there are"
        )
    return tuple(notes)
