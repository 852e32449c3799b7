"""The time steps of Nemotron-H's Mamba-2 layers, limited as the checkpoint says.

transformers 5.17 takes the smallest step that weights are *begun* with (`time_step_min`, 0.001) for a limit of every
forward pass, and leaves it out where a token is sampled: the policy that is trained is then not the one that is
sampled, nor the one that NVIDIA trained and vLLM serves, whose limits are the config's `time_step_limit` (none).
Source: huggingface/transformers#48989, open when this was written; vllm 0.31, `mamba_mixer2.py`.
"""

from typing import Any


def limit_as_the_config_says(model: Any) -> None:
    """Make every Nemotron-H of this process, present and to come, read its limits from its config.

    The class is changed, not the model: TRL loads a reference model by itself. Nothing happens for other models.
    """
    if model.config.model_type != "nemotron_h":
        return
    from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMamba2Mixer

    NemotronHMamba2Mixer.time_step_limit = property(_limit, _already_said)


def _limit(layer: Any) -> tuple[float, ...]:
    return tuple(float(bound) for bound in layer.config.time_step_limit)


def _already_said(layer: Any, value: Any) -> None:
    """What transformers' own constructor says: the config has said it."""
