"""What a stage writes: models that stay, checkpoints and candidates while it trains."""

from dataclasses import dataclass

from alloy.config import StageConfig, TrainingConfig
from alloy.plan.launch import Launch
from alloy.plan.shape import Shape
from alloy.plan.states import states_of
from alloy.plan.work import Work


@dataclass(frozen=True)
class Disk:
    """Bytes.

    Attributes:
        stays: when the stage is finished.
        passes: more, at most, while it runs.
    """

    stays: float = 0.0
    passes: float = 0.0


def disk_of(config: StageConfig, work: Work, shape: Shape, launch: Launch) -> Disk:
    """Of a stage's run folder.

    A checkpoint is written whole before the oldest one goes, so that for a moment there is one more.
    """
    made = shape.as_scorer() if work.makes == "scorer" else shape
    training = work.training
    if training is None:
        return Disk(4.0 * made.parameters * work.models)
    states = states_of(made, training, launch)
    model = float(states.number * made.parameters)
    passes = 4.0 * states.trained * work.candidates
    if isinstance(config, TrainingConfig) and config.train.save_steps:
        # Weights as they compute (an adapter's alone), with the optimizer's states of all devices.
        weights = states.number * (made.parameters if training.lora is None else states.trained)
        divided = launch.devices if launch.sharded else 1
        moments = states.optimizer * divided + (states.host * divided if launch.offload != "none" else 0)
        passes += (config.train.keep_checkpoints + 1) * (weights + moments)
    return Disk(model * work.models, passes)
