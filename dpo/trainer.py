"""TRL's DPOTrainer on pairs that are tokenised already, with loss on what the policy wrote alone."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import DPOConfig as TrlConfig
from trl import DPOTrainer

from alloy.artifact import Run
from alloy.training import SafeTrainer, common_arguments
from dpo.config import DpoConfig


class WrittenTokensDPOTrainer(SafeTrainer, DPOTrainer):
    """TRL counts every token after the prompt, tool responses too; the collator's mask leaves them out."""

    _signature_columns: list[str] | None

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [
            *dict.fromkeys([*(self._signature_columns or []), "chosen_mask", "rejected_mask"])
        ]


@dataclass
class PairCollator:
    """Pairs to a batch of shape (2B, T): the chosen first, then the rejected."""

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        sides = [(row, side) for side in ("chosen", "rejected") for row in rows]
        ids = [torch.tensor(row["prompt_ids"] + row[f"{side}_ids"]) for row, side in sides]
        masks = [torch.tensor([0] * len(row["prompt_ids"]) + row[f"{side}_mask"]) for row, side in sides]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
            "completion_mask": pad_sequence(masks, batch_first=True),
        }
        for side in ("chosen", "rejected"):
            key = f"ref_{side}_logps"
            if key in rows[0]:
                batch[key] = torch.tensor([row[key] for row in rows])
        return batch


def to_trl(config: DpoConfig, run: Run, seed: int) -> TrlConfig:
    """The one place that knows TRL's names for this stage."""
    arguments = common_arguments(config, run) | {"seed": seed}
    losses = {"loss_type": ["sigmoid"], "loss_weights": [1.0]}
    if config.sft_weight:
        losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, config.sft_weight]}
    return TrlConfig(
        **arguments,
        **losses,
        beta=config.beta,
        max_length=None,
        # The reference is the policy at the start of the iteration: its log-probabilities are taken once.
        precompute_ref_log_probs=True,
        disable_dropout=True,
    )
