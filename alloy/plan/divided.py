"""Whether a stage takes a launch that divides its sequences: by the rules that it refuses by."""

from alloy.config import StageConfig, TrainingConfig
from alloy.divisions import why_no_checkpoints, why_undivided, why_unlaunched
from alloy.plan.launch import Launch
from alloy.plan.layers import Attention
from alloy.plan.mamba import Mamba
from alloy.plan.shape import Shape


def why_refused(package: str, config: StageConfig, shape: Shape | None, launch: Launch) -> str | None:
    """Why the stage refuses to start, and what to do; None where it starts.

    Args:
        shape: of the model that is trained; None where it is not known.
    """
    if launch.parts == 1 or not isinstance(config, TrainingConfig):
        return None
    return (
        why_unlaunched(package, launch.deepspeed)
        or (why_no_checkpoints() if config.train.save_steps else None)
        or (_why_undivided(shape, launch.parts) if shape is not None else None)
    )


def _why_undivided(shape: Shape, parts: int) -> str | None:
    layers = list(shape.layers)
    attention = [layer for layer in layers if isinstance(layer, Attention)]
    others = {"Mamba" for layer in layers if isinstance(layer, Mamba)}
    others |= {"a sliding window" for layer in attention if layer.window}
    heads, key_heads = (attention[0].heads, attention[0].key_heads) if attention else (1, 1)
    return why_undivided(parts, sorted(others), heads, key_heads)
