"""An engine for a model folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alloy.policy import load_model
from alloy.rl_config import RolloutConfig
from alloy.rollout.engine import Engine
from alloy.rollout.transformers_engine import TransformersEngine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def open_engine(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", config: RolloutConfig
) -> Iterator[Engine]:
    """The engine that a rollout config asks for, over a model folder; its memory is released at the end."""
    if config.engine == "vllm":
        from alloy.rollout.vllm_engine import open_vllm

        with open_vllm(folder, tokenizer, config) as engine:
            yield engine
    else:
        yield TransformersEngine(load_model(folder), tokenizer, config.batch_size, config.grace_tokens)
