"""An engine for a model folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alloy.policy import load_model, own_device
from alloy.rl_config import EngineConfig
from alloy.rollout.engine import Engine
from alloy.rollout.transformers_engine import TransformersEngine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def open_engine(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", config: EngineConfig, grace: int
) -> Iterator[Engine]:
    """The engine that a config asks for, over a model folder; its memory is released at the end.

    Args:
        grace: tokens past a thinking budget after which the close is forced.
    """
    if config.engine == "vllm":
        from alloy.rollout.vllm_engine import open_vllm

        with open_vllm(folder, tokenizer, config, grace) as engine:
            yield engine
    else:
        yield TransformersEngine(load_model(folder).to(own_device()), tokenizer, config.batch_size, grace)
