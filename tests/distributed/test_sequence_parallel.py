"""Sequences divided among processes: what is refused, what attention sees, and the losses of whole sequences."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from launching import launch, updates
from transformers import LlamaConfig, MistralConfig, NemotronHConfig

from alloy.attention import attend_within_documents
from alloy.divisions import check_divisions, parts, why_undivided
from alloy.errors import InputError
from alloy.plan.divided import why_refused
from alloy.plan.launch import Launch, read_accelerate
from alloy.plan.source import read_shape
from alloy.preemption import Preempted, told_at_once, told_without_checkpoint
from alloy.sequence_parallel import (
    DividedCollator,
    by_position,
    check_divisible,
    divide_sequences,
    refuse_to_go_on,
)
from alloy.training import RunCallback
from sft.config import SftConfig

SFT = """\
data:
  sources: [{environment: math, rows: 60}, {environment: instructions, rows: 40}]
  packing: best-fit
optim: {learning_rate: 3.0e-3}
train: {max_steps: 4, per_device_batch_size: 1, max_sequence_tokens: 255}
logging: {every_steps: 1}
"""


def told(**sizes: int) -> dict[str, str]:
    return {f"PARALLELISM_CONFIG_{kind}_SIZE": str(size) for kind, size in sizes.items()}


@pytest.mark.parametrize(
    ("module", "sizes", "deepspeed", "says"),
    [
        (
            "sft.train",
            {"CP": 2},
            False,
            "cp_size is refused. Context parallelism drops what keeps the documents",
        ),
        ("grpo.train", {"TP": 2}, False, "tp_size is refused"),
        ("grpo.train", {"SP": 2}, True, "SFT alone does, and this is grpo"),
        ("sft.train", {"SP": 2}, False, "sp_size is DeepSpeed's"),
    ],
)
def test_what_would_be_wrong_is_refused(module: str, sizes: Any, deepspeed: bool, says: str) -> None:
    environment = told(**sizes) | ({"ACCELERATE_USE_DEEPSPEED": "true"} if deepspeed else {})
    with pytest.raises(InputError, match=says):
        check_divisions(module, environment)


def test_what_is_taken() -> None:
    check_divisions("dpo.train", {})
    check_divisions("sft.train", told(SP=2, CP=1, TP=1) | {"ACCELERATE_USE_DEEPSPEED": "true"})
    assert (parts({}), parts(told(SP=4))) == (1, 4)


def test_it_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft import CONFIG, run

    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    config = CONFIG.model_validate(
        {
            "data": {"sources": [{"path": "nowhere.jsonl"}]}, "optim": {"learning_rate": 1e-4},
            "train": {"max_steps": 1}, "parent": "nowhere", "output": str(tmp_path / "out"),
        }
    )  # fmt: skip
    with pytest.raises(InputError, match="cp_size is refused"):
        run(config)


def test_a_model_with_mamba_layers_is_refused(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NemotronHConfig(hybrid_override_pattern="M-*").save_pretrained(tmp_path)
    check_divisible(tmp_path)  # a launch that divides nothing
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "2")
    with pytest.raises(InputError, match="layers of linear_attention, mlp cannot be divided"):
        check_divisible(tmp_path)
    check_divisible(tiny_model_folder)
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "3")
    with pytest.raises(InputError, match="its 2 heads are no multiple of it"):
        check_divisible(tiny_model_folder)
    with pytest.raises(InputError, match="cannot be divided among GPUs"):
        divide_sequences(None, "a padding collator", 8, 0)


@pytest.mark.parametrize(
    ("size", "heads", "key_heads", "says"),
    [
        (2, 14, 2, None),
        (4, 8, 2, None),  # key heads are copied
        (7, 14, 2, "its 2 key heads are neither a multiple nor a divisor of it. It can be 2, 14."),
        (4, 6, 3, "its 6 heads are no multiple of it. It can be 3, 6."),
        (2, 5, 1, "its 5 heads are no multiple of it. It can be 5."),
        (2, 1, 1, "its 1 heads are no multiple of it. Launch without parallelism_config."),
    ],
)
def test_heads_are_shared_out_and_key_heads_too_or_copied(
    size: int, heads: int, key_heads: int, says: str | None
) -> None:
    assert why_undivided(size, [], heads, key_heads) == (says and f"sp_size = {size}: {says}")


@pytest.mark.parametrize(
    ("config", "size", "says"),
    [
        (LlamaConfig(hidden_size=28, num_attention_heads=14, num_key_value_heads=2), 2, None),
        (
            LlamaConfig(hidden_size=28, num_attention_heads=14, num_key_value_heads=2),
            7,
            "its 2 key heads are neither",
        ),
        (
            LlamaConfig(hidden_size=28, num_attention_heads=14, num_key_value_heads=2),
            4,
            "its 14 heads are no multiple",
        ),
        (MistralConfig(), 2, "layers of a sliding window cannot be divided"),
        (NemotronHConfig(hybrid_override_pattern="M-*"), 2, "cannot be divided among GPUs"),
    ],
)
def test_the_plan_refuses_what_the_stage_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, size: int, says: str | None
) -> None:
    config.save_pretrained(tmp_path)
    planned = SftConfig.model_validate(
        {
            "data": {"sources": [{"environment": "math", "rows": 4}]}, "optim": {"learning_rate": 1e-4},
            "train": {"max_steps": 1},
        }
    )  # fmt: skip
    launch = Launch(size, sharding="zero3", parts=size)
    why = why_refused("sft", planned, read_shape(str(tmp_path)), launch)
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", str(size))
    if says is None:
        assert why is None
        check_divisible(tmp_path)
        return
    assert why is not None
    assert says in why
    with pytest.raises(InputError, match=says):
        check_divisible(tmp_path)


def test_what_is_divided_writes_no_checkpoints_and_says_so(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_divisible(tiny_model_folder, save_steps=5)
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "2")
    with pytest.raises(InputError, match="no run goes on from a checkpoint .* Set train.save_steps=null"):
        check_divisible(tiny_model_folder, save_steps=5)
    for told in (told_without_checkpoint(), told_at_once()):
        assert told.endswith("With sp_size no run goes on from a checkpoint: the same launch begins again.")
    with pytest.raises(InputError, match=r"checkpoint-4: with sp_size .* Set resume=false"):
        refuse_to_go_on("checkpoints/checkpoint-4")


def test_told_to_end_it_ends_after_the_step_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "2")
    monkeypatch.setattr("alloy.training.told_to_end", lambda device: True)
    run: Any = SimpleNamespace(folder=tmp_path)
    arguments: Any = SimpleNamespace(device="cpu")
    state: Any = SimpleNamespace(global_step=1, max_steps=2)
    control: Any = SimpleNamespace(should_save=False)
    with pytest.raises(Preempted, match="nothing of it is saved"):
        RunCallback(run).on_step_end(arguments, state, control)
    assert control.should_save is False


def test_the_plan_knows_divided_sequences(tmp_path: Path) -> None:
    assert read_accelerate(Path("configs/accelerate/zero3-sp.yaml"))["parts"] == 2
    path = tmp_path / "cp.yaml"
    path.write_text("distributed_type: FSDP\nparallelism_config:\n  parallelism_config_cp_size: 4\n")
    with pytest.raises(InputError, match=r"cp.yaml:3: cp_size: no stage runs under it"):
        read_accelerate(path)


def test_positions_tell_where_documents_begin() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 9, 4, generator=generator) for heads in (4, 2, 2))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]])
    found, _ = by_position(torch.nn.Module(), query, key, value, None, positions)
    borders = torch.tensor([0, 4, 6, 9], dtype=torch.int32)
    assert torch.equal(
        found, attend_within_documents(torch.nn.Module(), query, key, value, None, cu_seq_lens_q=borders)[0]
    )
    whole, _ = attend_within_documents(torch.nn.Module(), query, key, value, None)
    assert not torch.allclose(found, whole)


def test_every_batch_has_one_length() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "seq_lengths": [2, 1]}]
    batch = DividedCollator(6, pad_token_id=9)(rows)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 9, 9, 9]],
        "labels": [[-100, 6, 7, -100, -100, -100]],
        "position_ids": [[0, 1, 0, 0, 1, 2]],
    }


@pytest.mark.distributed
def test_divided_sequences_give_the_losses_of_whole_ones(micro_runs: Path, tmp_path: Path) -> None:
    """Two processes, each with half of every packed sequence, against one process with all of it."""
    from command_line import alloy

    (tmp_path / "sft.yaml").write_text(SFT)
    given = [str(tmp_path / "sft.yaml"), f"parent={micro_runs / 'base'}"]
    launch("cpu-zero3-sp", "sft", *given, f"output={tmp_path / 'two'}")
    alloy(*given, f"output={tmp_path / 'one'}", module="sft")
    two, one = updates(tmp_path / "two"), updates(tmp_path / "one")
    assert len(two) == 4
    for (loss, norm), (own_loss, own_norm) in zip(two, one, strict=True):
        assert loss == pytest.approx(own_loss, rel=1e-5)
        assert norm == pytest.approx(own_norm, rel=1e-4)
