"""What a reward model stage does, in numbers of its config; imports no torch."""

from alloy.plan.launch import Launch
from alloy.plan.work import Scoring, Work, training_of
from rlhf.config import RewardModelConfig
from rlhf.plan import BATCH_TOKENS


def work(config: RewardModelConfig, launch: Launch) -> Work:
    """Both answers of a pair pass through the model at once."""
    train, data = config.train, config.data
    length = train.max_sequence_tokens
    training = training_of(
        config, launch, length=length, attention="sdpa", rows=2 * train.per_device_batch_size
    )
    rows = max(1, BATCH_TOKENS // length)
    held_out = Scoring("held-out pairs", "policy", 2 * data.held_out * length, rows, length)
    notes = ["pairs are padded to the longest of their batch, most of them less: tokens are at most"]
    drawn = training.steps * training.micro_batches * train.per_device_batch_size * launch.devices
    if data.pairs:
        notes.append(f"{drawn:,} pairs drawn from {data.pairs:,}: {drawn / data.pairs:.1f} times each")
    return Work(
        makes="scorer", training=training, scoring=(held_out,), examples=data.pairs, notes=tuple(notes)
    )
