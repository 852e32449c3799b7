"""Operations and time: training by its share of a device's best, sampling by what its memory can move."""

from collections.abc import Mapping
from dataclasses import dataclass

from alloy.plan.launch import Launch
from alloy.plan.shape import Shape
from alloy.plan.work import Sampling, Scoring, Training, Work


@dataclass(frozen=True)
class Compute:
    """Of all devices together.

    Attributes:
        trained, scored, sampled: tokens, at most.
        training, scoring, sampling: floating-point operations of the model; what gradient checkpointing computes
            again is not counted.
        training_seconds: of training and scoring.
        sampling_seconds: of completions, prompts included.
    """

    trained: int = 0
    scored: int = 0
    sampled: int = 0
    training: float = 0.0
    scoring: float = 0.0
    sampling: float = 0.0
    training_seconds: float = 0.0
    sampling_seconds: float = 0.0

    @property
    def operations(self) -> float:
        return self.training + self.scoring + self.sampling


def compute_of(
    work: Work, shape: Shape, launch: Launch, shapes: Mapping[str, Shape] | None = None
) -> Compute:
    """A stage's operations and seconds.

    Args:
        shapes: of the models held beside, by role.
    """
    training = training_operations(work.training, shape, launch) if work.training else 0.0
    scoring = sum(
        scoring_operations(scored, (shapes or {}).get(scored.model, shape)) for scored in work.scoring
    )
    rate = launch.flops * launch.mfu * launch.devices
    return Compute(
        trained=work.training.tokens(launch.devices // launch.parts) if work.training else 0,
        scored=sum(scored.tokens for scored in work.scoring),
        sampled=sum(each.tokens for each in work.sampling),
        training=training,
        scoring=scoring,
        sampling=sum(sampling_operations(each, shape) for each in work.sampling),
        training_seconds=(training + scoring) / rate,
        sampling_seconds=sum(sampling_seconds(each, shape, launch) for each in work.sampling),
    )


def training_operations(training: Training, shape: Shape, launch: Launch) -> float:
    """Forward, and twice as much back; frozen weights need no gradients of their own, only what passes through.

    Source: Kaplan et al. 2020 (arXiv:2001.08361), six operations a weight and token, with attention's added.
    """
    tokens = training.tokens(launch.devices // launch.parts)
    headed = tokens * (training.scored or training.length) / training.length
    forward = tokens * shape.operations(training.length) + headed * shape.head_operations
    if training.lora is None:
        return 3 * forward
    adapter = 2.0 * shape.adapter_parameters(training.lora)
    return 2 * forward + 3 * tokens * adapter


def scoring_operations(scoring: Scoring, shape: Shape) -> float:
    return scoring.tokens * (shape.operations(scoring.length) + shape.head_operations)


def sampling_operations(sampling: Sampling, shape: Shape) -> float:
    """Prompts are read once, then every token sees all before it."""
    length = sampling.prompt + sampling.completion
    per_token = shape.operations(length) + shape.head_operations
    return sampling.completions * (
        sampling.prompt * shape.operations(sampling.prompt) + sampling.completion * per_token
    )


def sampling_seconds(sampling: Sampling, shape: Shape, launch: Launch) -> float:
    """A step of a batch reads the weights that it needs and every row's keys and values, or multiplies them.

    The slower of the two decides: at small batches a device waits for its memory. Prompts are read at the share
    that training reaches. Source: Pope et al. 2022 (arXiv:2211.05102), section 2.
    """
    devices = launch.devices if sampling.divided else 1
    number = 4 if sampling.engine == "transformers" else 2
    rows = min(sampling.rows, sampling.completions)
    batches = sampling.completions / (rows * devices)
    half = sampling.prompt + sampling.completion // 2
    read = number * _touched(shape, rows) + rows * shape.cache_bytes(half, number, number)
    multiplied = rows * (shape.operations(half) + shape.head_operations)
    step = max(read / (launch.bandwidth * launch.mbu), multiplied / (launch.flops * launch.mfu))
    prompts = rows * sampling.prompt * shape.operations(sampling.prompt) / (launch.flops * launch.mfu)
    return batches * (prompts + sampling.completion * step)


def _touched(shape: Shape, rows: int) -> float:
    """Weights that a step of so many rows reads: of experts, those that some row chooses."""
    most = shape.active + (rows - 1) * (shape.active - shape.around)
    return float(min(shape.parameters, most))
