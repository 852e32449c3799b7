"""The benchmark of a GPU, run here on its tiny model; what it makes of numbers, of failures and of names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu import result, table
from bench.gpu_child import outcome
from bench.gpu_environment import CoinEnvironment, rewards
from bench.gpu_sizes import ON_CPU, ON_GPU, filled, make_model, peak_of

ROOT = Path(__file__).parents[2]


def test_it_runs_without_a_gpu(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "bench.gpu", "--cpu", "--json", "--rounds", "1", "--parts", "sft", "--systems", "ours",
        "trl", "--device-flops", "1T", "--folder", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert next(iter(told)) == "sft_ratio_to_trl"
    assert told["device"] == "cpu"
    for name in ("sft_ours", "sft_trl"):
        assert told[name]["failed"] == []
        assert told[name]["rates"][0] > 0
        assert told[name]["memory_gib"] > 0.05
    assert told["sft_ratio_to_trl"] == pytest.approx(
        told["sft_ours"]["rates"][0] / told["sft_trl"]["rates"][0]
    )
    # As the stage decides on a CPU; TRL's own is to compute activations twice.
    assert told["sft_ours"]["settings"] == {
        "attention": "documents", "bfloat16": False, "gradient_checkpointing": False, "fused_kernels": False,
        "optimizer": "adamw_torch_fused",
    }  # fmt: skip
    assert told["sft_trl"]["settings"]["gradient_checkpointing"] is True
    # A token of the tiny model takes about as many operations as six for each of its weights, and attention's.
    weights = 2 * (32 * (32 + 16 + 16 + 32) + 3 * 32 * 64) + 700 * 32
    for system in ("sft_ours", "sft_trl"):
        operations = told[system]["mfu"][0] * 1e12 / told[system]["rates"][0]
        assert 6 * weights < operations < 6 * weights + 2 * 12 * 32 * ON_CPU.sequence
    assert not list(tmp_path.iterdir())


def runs(*rates: float | str) -> list[dict[str, Any]]:
    return [
        {"failed": rate}
        if isinstance(rate, str)
        else {"rate": rate, "seconds": 2.0, "memory_gib": rate / 10, "operations": 5e14}
        for rate in rates
    ]


def test_a_peer_that_cannot_is_a_result() -> None:
    found = {"sft": {"ours": runs(30.0, 80.0), "trl": runs(10.0, 20.0), "trl tuned": runs("out of memory", "exit -9")},
             "dpo": {"ours": runs(30.0, 80.0), "trl": runs("out of memory", 20.0)}}  # fmt: skip
    told = result(found, 1e15, "some GPU", ON_GPU)
    assert next(iter(told)) == "sft_ratio_to_trl"
    assert told["sft_ratio_to_trl"] == pytest.approx(12**0.5)  # the geometric mean of 3 and 4
    assert told["sft_ratio_to_trl_tuned"] is told["sft_ratio_to_trl_tuned_interval"] is None
    # Of the rounds that both finished.
    assert told["dpo_ratio_to_trl"] == pytest.approx(4.0)
    assert told["sft_ours"]["mfu"] == [0.5, 0.5]
    assert told["sft_trl_tuned"]["failed"] == ["out of memory", "exit -9"]
    assert told["sft_trl_tuned"]["rates"] == []
    rows = table(found, 1e15)
    assert rows[0][:5] == ["sft", "ours", "55", "tokens a second", "50.0%"]
    assert rows[2] == ["sft", "trl tuned", "", "out of memory", "", "", "", ""]
    assert rows[4][:3] == ["dpo", "trl (1 failed)", "20"]
    assert rows[4][-1].startswith("4.00")
    assert table(found, None)[0][4] == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (MemoryError(), "out of memory"),
        (ValueError("no such\nthing"), "ValueError: no such thing"),
    ],
)
def test_how_a_measurement_ended_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    import bench.gpu_merge

    def measure(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(bench.gpu_merge, "measure", measure)
    assert outcome("merge") == {"failed": told}
    monkeypatch.setattr(bench.gpu_merge, "measure", lambda *_: {"rate": 1.0, "memory_gib": 7.0})
    assert outcome("merge") == {"rate": 1.0, "memory_gib": 7.0}


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", None),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA RTX A4000", None),
        ("cpu", None),
    ],
)
def test_a_device_is_known_by_its_name(name: str, teraflops: float | None) -> None:
    assert peak_of(name) == (teraflops * 1e12 if teraflops else None)


def test_every_token_of_the_model_has_a_text(tmp_path: Path) -> None:
    from alloy.policy import load_model, load_tokenizer

    folder = make_model(tmp_path / "model", ON_CPU)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    assert len(tokenizer) == ON_CPU.vocabulary == model.config.vocab_size
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    assert all(texts)
    # Words that no text has change no tokenisation.
    assert len(tokenizer("0123456789")["input_ids"]) == 10


def test_the_default_model_has_the_parameters_that_it_is_said_to_have() -> None:
    from alloy.plan.architectures import shape_of

    sizes = ON_GPU
    told = {
        "model_type": "qwen3", "vocab_size": sizes.vocabulary, "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads, "head_dim": sizes.head,
        "num_key_value_heads": sizes.key_heads, "intermediate_size": sizes.mlp, "tie_word_embeddings": True,
    }  # fmt: skip
    assert shape_of(told, "").parameters == 596_049_920


def test_both_sides_are_rewarded_alike() -> None:
    environment = CoinEnvironment()
    (task,) = environment.tasks("train", 1, 0)
    texts = [f"text {n}" for n in range(64)]
    judged = [
        environment.judge(task, [{"role": "assistant", "content": text}], None).reward for text in texts
    ]
    assert judged == rewards(texts)
    assert 16 < sum(rewards(texts)) < 48


def test_the_tokenizer_is_filled_up_to_the_vocabulary() -> None:
    from alloy.build_base import train_tokenizer

    small = train_tokenizer([f"{n} and {n * n}" for n in range(50)], 300)
    made = filled(small, 1000)
    assert len(made) == 1000
    assert made("7 and 49")["input_ids"] == small("7 and 49")["input_ids"]
    assert made.decode([995]) == " w995"
    # The tags, and with them the end of a turn, are what they were.
    assert [made.decode([token]) for token in range(996, 1000)] == [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
    ]
    assert (made.eos_token_id, made.pad_token_id) == (small.eos_token_id, small.pad_token_id)
