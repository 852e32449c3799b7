"""What an SFT stage does, in numbers of its config; imports no torch."""

from dataclasses import replace

from alloy.plan.launch import Launch
from alloy.plan.work import Work, planned_precision, training_of
from sft.config import SftConfig


def work(config: SftConfig, launch: Launch) -> Work:
    """Sequences as long as they may be: how full they are is known once the data is tokenised."""
    train = config.train
    training = training_of(
        config,
        launch,
        length=train.max_sequence_tokens,
        attention="documents",
        # An adapter's base rests in bfloat16 where that is computed in.
        bfloat16_base=config.lora is not None and planned_precision(train.precision, launch) == "bfloat16",
    )
    training = replace(training, offloading=train.activation_offloading and not launch.cpu)
    notes = []
    if launch.parts > 1:
        notes.append(
            f"every sequence is divided among {launch.parts} devices: an update has as many times fewer of them"
        )
    rows = [source.rows for source in config.data.sources]
    examples = sum(count for count in rows if count is not None) if all(rows) else None
    drawn = training.steps * training.micro_batches * training.rows * (launch.devices // launch.parts)
    if config.data.packing == "none":
        notes.append("one example a sequence, most of them shorter than the longest: tokens are at most")
        if examples:
            notes.append(
                f"{drawn:,} examples drawn from {examples:,} rows: {drawn / examples:.1f} times each"
            )
    if config.data.too_long == "alone":
        notes.append("an example longer than a sequence is taken whole: such a batch needs more memory")
    return Work(training=training, examples=examples, notes=tuple(notes))
