"""The DPO loss as TRL computes it on our pairs, against the paper's formula in float64."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from alloy.artifact import open_run
from alloy.config import parse
from dpo.config import DpoConfig
from dpo.trainer import PairCollator, WrittenTokensDPOTrainer, to_trl

BETA = 0.3
ROWS = [
    # What the tools said stands in the middle, where the mask is 0.
    {
        "prompt_ids": [5, 6, 7, 8, 9],
        "chosen_ids": [10, 11, 300, 301, 302, 12, 13],
        "chosen_mask": [1, 1, 0, 0, 0, 1, 1],
        "rejected_ids": [14, 15, 16],
        "rejected_mask": [1, 0, 1],
    },
    {
        "prompt_ids": [20, 21],
        "chosen_ids": [22, 23],
        "chosen_mask": [1, 1],
        "rejected_ids": [24, 303, 25, 26, 27],
        "rejected_mask": [1, 0, 1, 1, 1],
    },
]


def written_logprobs(model: Any, row: dict[str, list[int]], side: str) -> list[float]:
    ids = row["prompt_ids"] + row[f"{side}_ids"]
    mask = [0] * len(row["prompt_ids"]) + row[f"{side}_mask"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    return [logprobs[i - 1, ids[i]].item() for i in range(1, len(ids)) if mask[i]]


def make_trainer(folder: Path, model_folder: Path, model: Any, tokenizer: Any, sft_weight: float) -> Any:
    values = {
        "output": str(folder / "toy" / "dpo"),
        "model": str(model_folder),
        "optim": {"learning_rate": 1e-5},
        "train": {"max_steps": 1, "per_device_batch_size": 2},
        "rollout": {"max_completion_tokens": 8},
        "environments": {"workplace": {"tasks": 2, "validation_tasks": 2}},
        "beta": BETA,
        "sft_weight": sft_weight,
        "logging": {"tensorboard": False},
    }
    config = parse(DpoConfig, values, "test")
    run, _ = open_run(config)
    return WrittenTokensDPOTrainer(
        model=model,
        args=to_trl(config, run, 0),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
        data_collator=PairCollator(tokenizer.pad_token_id),
    )


@pytest.mark.parametrize("sft_weight", [0.0, 0.2])
def test_the_loss_is_the_paper_s_on_written_tokens_alone(
    tmp_path: Path, tiny_model_folder: Path, tiny_model: Any, tiny_tokenizer: Any, sft_weight: float
) -> None:
    reference = copy.deepcopy(tiny_model).double()
    trainer = make_trainer(tmp_path, tiny_model_folder, tiny_model, tiny_tokenizer, sft_weight)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    policy = copy.deepcopy(tiny_model).double()
    policy.load_state_dict(
        {k: v.double() for k, v in trainer.accelerator.unwrap_model(trainer.model).state_dict().items()}
    )

    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch).item()

    losses, chosen_logprobs = [], []
    for row in ROWS:
        sums = {
            (name, side): sum(written_logprobs(model, row, side))
            for name, model in (("policy", policy), ("ref", reference))
            for side in ("chosen", "rejected")
        }
        margin = (sums["policy", "chosen"] - sums["ref", "chosen"]) - (
            sums["policy", "rejected"] - sums["ref", "rejected"]
        )
        losses.append(
            -torch.nn.functional.logsigmoid(torch.tensor(BETA * margin, dtype=torch.float64)).item()
        )
        chosen_logprobs += written_logprobs(policy, row, "chosen")
    expected = sum(losses) / len(losses) - sft_weight * sum(chosen_logprobs) / len(chosen_logprobs)
    assert loss == pytest.approx(expected, abs=1e-4)
    assert abs(sum(losses) / len(losses) - 0.6931) > 1e-2, "the policy must have left its reference"


def test_the_collator_lays_chosen_before_rejected() -> None:
    rows = [
        {**row, "ref_chosen_logps": -1.0 - n, "ref_rejected_logps": -3.0 - n} for n, row in enumerate(ROWS)
    ]
    batch = PairCollator(0)(rows)
    assert batch["input_ids"].tolist() == [
        [5, 6, 7, 8, 9, 10, 11, 300, 301, 302, 12, 13],
        [20, 21, 22, 23] + [0] * 8,
        [5, 6, 7, 8, 9, 14, 15, 16] + [0] * 4,
        [20, 21, 24, 303, 25, 26, 27] + [0] * 5,
    ]
    assert batch["completion_mask"].tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1],
        [0, 0, 1, 1] + [0] * 8,
        [0, 0, 0, 0, 0, 1, 0, 1] + [0] * 4,
        [0, 0, 1, 0, 1, 1, 1] + [0] * 5,
    ]
    assert batch["attention_mask"].sum(1).tolist() == [12, 4, 8, 7]
    assert batch["ref_chosen_logps"].tolist() == [-1.0, -2.0]
    assert batch["ref_rejected_logps"].tolist() == [-3.0, -4.0]
