"""Micro-batches: nothing lost, nothing wider than it must be, and back from a file as they were."""

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from alloy.rl_batches import Batch, flatten, micro_batches, unflatten

ROW = st.tuples(st.integers(1, 6), st.integers(1, 7), st.sampled_from([0.0, 0.5, -1.0]))


def batch_of(rows: list[tuple[int, int, float]]) -> Batch:
    """Rows of (prompt tokens, completion tokens, advantage), padded as TRL pads; token ids tell the row."""
    prompts, completions = max(r[0] for r in rows), max(r[1] for r in rows)
    batch = {
        name: torch.zeros(len(rows), width, dtype=torch.long)
        for name, width in (("prompt_ids", prompts), ("prompt_mask", prompts), ("completion_ids", completions),
                            ("completion_mask", completions), ("tool_mask", completions))
    }  # fmt: skip
    for index, (prompt, completion, _) in enumerate(rows):
        batch["prompt_ids"][index, prompts - prompt :] = 100 + index
        batch["prompt_mask"][index, prompts - prompt :] = 1
        batch["completion_ids"][index, :completion] = 100 + index
        batch["completion_mask"][index, :completion] = 1
    batch["sampling_per_token_logps"] = batch["completion_ids"] * -0.01
    batch["importance_sampling_ratio"] = torch.arange(len(rows)).float()[:, None]
    batch["advantages"] = torch.tensor([r[2] for r in rows])
    batch["num_items_in_batch"] = torch.tensor(sum(r[1] for r in rows))
    return batch


@given(
    st.lists(ROW, min_size=2, max_size=12), st.integers(1, 2), st.integers(1, 3), st.booleans(), st.booleans()
)
def test_every_row_with_an_advantage_is_there_once_and_whole(
    rows: list[tuple[int, int, float]], updates: int, parts: int, by_length: bool, drop_idle: bool
) -> None:
    rows = rows * (updates * parts)
    batch = batch_of(rows)
    cut = micro_batches(batch, updates, parts, by_length=by_length, drop_idle=drop_idle)
    assert len(cut) == updates * parts
    seen: list[int] = []
    for number, micro in enumerate(cut):
        assert micro["num_items_in_batch"] == batch["num_items_in_batch"]
        for row in range(len(micro["prompt_ids"])):
            index = int(micro["prompt_ids"][row, -1]) - 100
            prompt, completion, advantage = rows[index]
            assert number // parts == index * updates // len(rows)
            assert (
                int((micro["prompt_ids"][row] == 100 + index).sum())
                == prompt
                == int(micro["prompt_mask"][row].sum())
            )
            assert int((micro["completion_ids"][row] == 100 + index).sum()) == completion
            assert float(micro["advantages"][row]) == advantage
            assert float(micro["importance_sampling_ratio"][row]) == index
            if advantage or not drop_idle:
                seen.append(index)
        assert len(micro["prompt_ids"]) >= 1
        assert micro["prompt_mask"].any(0).all()
        assert micro["completion_mask"].any(0).all()
        assert micro["sampling_per_token_logps"].shape == micro["completion_ids"].shape
    assert sorted(seen) == [i for i, r in enumerate(rows) if r[2] or not drop_idle]


def test_like_lengths_stand_together() -> None:
    batch = batch_of([(1, 6, 1.0), (1, 1, 1.0), (1, 5, 1.0), (1, 2, 1.0)])
    cut = micro_batches(batch, 1, 2, by_length=True, drop_idle=False)
    assert [micro["completion_ids"].shape[1] for micro in cut] == [2, 6]
    cut = micro_batches(batch, 1, 2, by_length=False, drop_idle=False)
    assert [micro["completion_ids"].shape[1] for micro in cut] == [6, 5]


def test_a_micro_batch_without_an_advantage_is_one_short_row() -> None:
    cut = micro_batches(
        batch_of([(3, 6, 0.0), (1, 2, 0.0), (4, 4, 0.0)]), 1, 2, by_length=True, drop_idle=True
    )
    assert [tuple(micro["completion_ids"].shape) for micro in cut] == [(1, 2), (1, 4)]


def test_as_many_rows_as_the_other_processes_have() -> None:
    """Three are kept elsewhere, one here: the two shortest idle ones keep it company."""
    rows = [(1, 9, 0.0), (1, 2, 0.0), (1, 8, 1.0), (1, 3, 0.0)]
    cut = micro_batches(batch_of(rows), 1, 1, by_length=True, drop_idle=True, agree=lambda own: 3)
    assert (cut[0]["prompt_ids"][:, -1] - 100).tolist() == [1, 3, 2]


def test_they_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    cut = micro_batches(
        batch_of([(1, 3, 1.0), (2, 5, -1.0), (1, 1, 0.5)]), 1, 2, by_length=True, drop_idle=True
    )
    save_file(flatten(cut), tmp_path / "b.safetensors")
    again = unflatten(load_file(tmp_path / "b.safetensors"))
    assert len(again) == len(cut)
    for first, second in zip(cut, again, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert first[name].dtype == second[name].dtype
            assert torch.equal(first[name], second[name]), name
    assert unflatten({}) == []
