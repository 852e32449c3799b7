"""A loss or a gradient that is no number stops a run before a checkpoint has it."""

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import Trainer

from alloy.artifact import write_atomically
from alloy.checkpoints import kept_checkpoint
from alloy.errors import StageError

_SHOWN = 60
"""Characters of the first row that the message tells."""
_MASKS = {
    "prompt_ids": "prompt_mask",
    "completion_ids": "completion_mask",
    "input_ids": "attention_mask",
    "chosen_input_ids": "chosen_attention_mask",
    "rejected_input_ids": "rejected_attention_mask",
}


class FiniteLoss(Trainer):
    """A trainer that stops at the first loss or gradient norm that is infinite or no number, and tells the batch.

    Transformers' own filter logs the mean of the losses before instead, and trains on.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        self._micro_batches: list[dict[str, Any]] = []
        """Those of the update that is under way."""
        super().__init__(*given, **named)

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        found = super().compute_loss(model, inputs, *given, **named)
        loss = found[0] if isinstance(found, tuple) else found
        if model.training:
            self._micro_batches.append(inputs)
            if not torch.isfinite(loss).all():
                self._stop("loss", float(loss))
        return found

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        # DeepSpeed may have none yet.
        if norm is not None and not math.isfinite(float(norm)):
            self._stop("gradient norm", float(norm))
        self._micro_batches.clear()
        return norm

    def _stop(self, what: str, value: float) -> NoReturn:
        step, folder = self.state.global_step + 1, Path(self.args.output_dir)
        rows = [row for batch in self._micro_batches for row in texts(batch, self.processing_class)]
        path = folder.parent / f"batch-{step}-{os.environ.get('RANK', '0')}.json"
        write_atomically(path, json.dumps({"step": step, what: str(value), "rows": rows}, ensure_ascii=False))
        first = f", the first begins {rows[0][:_SHOWN]!r}" if rows else ""
        raise StageError(
            f"step {step}: the {what} is {value}. The batch, {len(rows)} rows{first}, is in {path}; "
            f"{kept_checkpoint(folder)}. Look at the batch, lower optim.learning_rate or optim.max_grad_norm, "
            "then run again."
        )


def texts(batch: dict[str, Any], tokenizer: Any) -> list[str]:
    """The rows of a batch as text without padding: a prompt with its completion, documents one by one."""
    names = [name for name in _MASKS if batch.get(name) is not None]
    if "cu_seq_lens_q" in batch:
        documents = batch["input_ids"][0].split(batch["cu_seq_lens_q"].diff().tolist())
        return [tokenizer.decode(ids) for ids in documents]
    if "completion_ids" in names:
        parts = [_unpadded(batch, name) for name in ("prompt_ids", "completion_ids")]
        return [tokenizer.decode(torch.cat(row)) for row in zip(*parts, strict=True)]
    return [tokenizer.decode(ids) for name in names for ids in _unpadded(batch, name)]


def _unpadded(batch: dict[str, Any], name: str) -> list[Tensor]:
    mask = batch.get(_MASKS[name])
    rows = list(batch[name])
    return rows if mask is None else [row[seen.bool()] for row, seen in zip(rows, mask, strict=True)]
