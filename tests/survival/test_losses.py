"""What stops a run from inside: a loss that is no number, a judge that goes. What was saved stays, and it goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stages import run_stage, weights

from alloy.artifact import read_artifact
from alloy.checkpoints import checkpoints
from alloy.errors import StageError
from alloy.finite import texts
from alloy.training import RunCallback


class Killed(BaseException):
    """As a kill: nothing in between may catch it."""


@pytest.mark.parametrize(
    ("value", "what"), [(float("nan"), "loss is nan"), (3e38, "(loss|gradient norm) is (nan|inf)")]
)
def test_a_loss_that_is_no_number_stops_with_the_batch_and_the_last_good_checkpoint(
    micro_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, what: str
) -> None:
    folder = tmp_path / "r" / "sft-1"

    def poison(self: Any, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(value)

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_begin", poison)
        with pytest.raises(
            StageError, match=rf"step 3: the {what}\. .*; the checkpoint of step 2 is kept"
        ) as told:
            run_stage("sft-1", micro_runs, folder, "train.save_steps=1")
    batch = json.loads((folder / "batch-3-0.json").read_text())
    assert batch["step"] == 3
    # Packed rows are told document by document.
    assert len(batch["rows"]) > 4
    assert all(row.count("user") == 1 for row in batch["rows"])
    assert f"The batch, {len(batch['rows'])} rows, the first begins {batch['rows'][0][:60]!r}" in str(
        told.value
    )
    assert [path.name for path in checkpoints(folder / "checkpoints")] == ["checkpoint-1", "checkpoint-2"]
    assert not (folder / "model").exists()
    run_stage("sft-1", micro_runs, folder, "train.save_steps=1")
    assert weights(folder, "sft-1") == weights(micro_runs / "sft-1", "sft-1")


class Words:
    """A tokenizer that shows the ids."""

    def decode(self, ids: torch.Tensor) -> str:
        return " ".join(map(str, ids.tolist()))


def test_rows_are_told_without_padding() -> None:
    ids, mask = torch.tensor([[0, 5, 6], [7, 8, 9]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert texts({"input_ids": ids, "attention_mask": mask}, Words()) == ["5 6", "7 8 9"]
    rolled = {"prompt_ids": ids, "prompt_mask": mask, "completion_ids": ids, "completion_mask": 1 - mask}
    assert texts(rolled, Words()) == ["5 6 0", "7 8 9"]
    flat = {"input_ids": torch.tensor([[1, 2, 3, 4]]), "cu_seq_lens_q": torch.tensor([0, 1, 4])}
    assert texts(flat, Words()) == ["1", "2 3 4"]


@pytest.mark.parametrize("name", ["sft-2", "reward-model"])
@pytest.mark.parametrize("step", [7, 8])
def test_a_second_epoch_and_the_last_step_are_gone_on_from(
    micro_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: int
) -> None:
    """Epochs of a few steps, whose rows of like length are drawn anew; 8 steps, the last of them in mid-epoch."""
    rows = "train.per_device_batch_size=24" if name == "sft-2" else "train.per_device_batch_size=8"
    given = [rows, "train.max_steps=8", "train.save_steps=1"]
    whole, folder = tmp_path / "r" / "whole", tmp_path / "r" / name
    run_stage(name, micro_runs, whole, *given)

    def stop(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_save", stop)
        with pytest.raises(Killed):
            run_stage(name, micro_runs, folder, *given)
    run_stage(name, micro_runs, folder, *given)
    prints = [read_artifact(path).fingerprints["weights"] for path in (whole, folder)]
    assert prints[0] == prints[1]
