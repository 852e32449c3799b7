"""Sequences that are divided among GPUs: what a launch asks for, what is refused, and documents that stay apart.

Under DeepSpeed's Ulysses (Jacobs et al. 2023, arXiv:2309.14509; accelerate's `sp_size`) every process of a group has
a stretch of the same sequence. Before attention stretches and heads change places, so that each process has all of
the sequence for some of the heads. Nothing tells it there where documents begin but their positions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig

from alloy.attention import attend_within_documents, varlen_within_documents, varlen_works
from alloy.data.collate import FlatCollator
from alloy.divisions import parts, why_no_checkpoints, why_undivided
from alloy.errors import InputError
from alloy.policy import own_device

NAME = "documents-by-position"


def by_position(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    **other: Any,
) -> tuple[Tensor, None]:
    """Causal attention within documents that begin where positions do; shapes as `attend_within_documents` has them.

    Args:
        position_ids: of the whole sequence, 0 at every document's first token; shape (1, T).
    """
    starts = (position_ids[0] == 0).nonzero()[:, 0]
    borders = torch.cat([starts, starts.new_tensor([query.shape[2]])]).to(torch.int32)
    fast = query.is_cuda and varlen_works(own_device())
    attend: Any = varlen_within_documents if fast else attend_within_documents
    longest = int(borders.diff().max())
    attended: tuple[Tensor, None] = attend(
        module, query, key, value, None, cu_seq_lens_q=borders, max_length_q=longest, **other
    )
    return attended


def _no_mask(*_: Any, **__: Any) -> None:
    """Attention within documents needs no mask."""


AttentionInterface.register(NAME, by_position)
AttentionMaskInterface.register(NAME, _no_mask)


@dataclass
class DividedCollator:
    """`FlatCollator`'s batch as far as a sequence can be divided: tensors of shape (1, T) and nothing else.

    All batches have one length: processes hand theirs to one another. What is added to a shorter one is a document of
    its own, and carries no loss.

    Attributes:
        tokens: T, a multiple of the parts.
    """

    tokens: int
    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = FlatCollator()(rows)
        more = self.tokens - batch["input_ids"].shape[1]
        filled = {"input_ids": self.pad_token_id, "labels": -100}
        found = {
            name: torch.cat([batch[name], batch[name].new_full((1, more), filler)], dim=1)
            for name, filler in filled.items()
        }
        found["position_ids"] = torch.cat([batch["position_ids"], torch.arange(more)[None]], dim=1)
        return found


def check_divisible(folder: Path, save_steps: int | None = None) -> None:
    """Refuse a model whose sequences cannot be divided, before anything of it is loaded.

    Args:
        save_steps: updates between the checkpoints that the config asks for.
    Raises:
        InputError: it carries a state along the sequence, sees a window of it, or its heads cannot be shared out; or
            checkpoints are asked for.
    """
    if parts() == 1:
        return
    if save_steps is not None:
        raise InputError(why_no_checkpoints())
    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if not others and getattr(config, "sliding_window", None):
        others = ["a sliding window"]
    heads = config.num_attention_heads
    if why := why_undivided(parts(), others, heads, getattr(config, "num_key_value_heads", None) or heads):
        raise InputError(f"{folder}: {why}")


def divide_sequences(model: Any, collate: Any, tokens: int, pad_token_id: int) -> Any:
    """The collator of a stage, and a model set up for stretches of its batches where the launch divides sequences.

    Args:
        collate: of the model with whole sequences.
        tokens: of a batch at most.
    Raises:
        InputError: they cannot be divided for this model.
    """
    if parts() == 1:
        return collate
    if not isinstance(collate, FlatCollator):
        raise InputError(
            "sp_size: sequences of this model cannot be divided among GPUs (it carries a state along the sequence, or "
            "its attention is of a kind of its own). Launch without parallelism_config."
        )
    model.set_attn_implementation(NAME)
    return DividedCollator(tokens + -tokens % parts(), pad_token_id)


def attend_divided(trainer: Any) -> None:
    """Have DeepSpeed change places around this project's attention; nothing where sequences are whole."""
    if parts() > 1:
        # accelerate takes no other than the ones it knows from its file, and looks at this one when it prepares.
        trainer.accelerator.parallelism_config.sp_handler.sp_attn_implementation = NAME


def refuse_to_go_on(checkpoint: str | None) -> str | None:
    """The checkpoint that a run goes on from.

    Raises:
        InputError: there is one, and sequences are divided: DeepSpeed's loader cannot pass over what was trained on.
    """
    if checkpoint is not None and parts() > 1:
        raise InputError(
            f"{checkpoint}: with sp_size a run cannot go on from a checkpoint. Set resume=false to begin again."
        )
    return checkpoint
