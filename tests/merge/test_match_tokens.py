from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import WriteModel, tokenizer_json, weights
from safetensors.torch import load_file

from alloy.command import main
from alloy.errors import InputError
from merge.__main__ import run
from merge.interpolate import interpolate
from merge.linear import merge_checkpoints

OURS = {"<pad>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}
THEIRS = {"<pad>": 0, "b": 1, "</s>": 2, "a": 3, "new": 4, "<s>": 5}
WHERE = [0, 5, 2, 3, 1]
"""Of each of our tokens its row in theirs."""
TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def other(tokens: dict[str, int] = THEIRS) -> dict[str, Any]:
    tensors = weights(5)
    for name in TABLES:
        tensors[name] = torch.randn(len(tokens), 4).bfloat16()
    return {"tensors": tensors, "tokenizer": tokenizer_json(tokens), "config": {"vocab_size": len(tokens)}}


def test_tables_are_matched_token_by_token_when_asked(write_model: WriteModel, tmp_path: Path) -> None:
    a, parts = weights(1), other()
    b = parts["tensors"]
    one, two = write_model("one", a), write_model("three", **parts)
    with pytest.raises(InputError, match="The vocabularies have 5 tokens in reasoning and 6 in chat"):
        merge_checkpoints(one, two, 0.3, tmp_path / "out", donor="reasoning")
    report = merge_checkpoints(one, two, 0.3, tmp_path / "out", donor="reasoning", match_tokens=True)
    result = load_file(tmp_path / "out" / "model.safetensors")
    for name, weight in result.items():
        theirs = b[name][WHERE] if name in TABLES else b[name]
        assert torch.equal(weight, interpolate(a[name], theirs, 0.3))
    assert (
        "Vocabularies matched token by token: 5 tokens in both; 0 only in reasoning keep its rows; "
        "1 only in chat are left out." in report.notes
    )


def test_a_token_that_only_the_donor_has_keeps_its_row(write_model: WriteModel, tmp_path: Path) -> None:
    a, parts = weights(1), other()
    one, two = write_model("one", a), write_model("three", **parts)
    merge_checkpoints(one, two, 0.3, tmp_path / "out", donor="chat", match_tokens=True)
    result = load_file(tmp_path / "out" / "model.safetensors")
    for name in TABLES:
        assert result[name].shape == (6, 4)
        assert torch.equal(result[name][4], parts["tensors"][name][4])
        for row, number in enumerate(WHERE):
            blended = interpolate(a[name][row], parts["tensors"][name][number], 0.3)
            assert torch.equal(result[name][number], blended)
    # The ends: the donor itself, and the other's rows in the donor's order.
    merge_checkpoints(one, two, 1.0, tmp_path / "end", donor="chat", match_tokens=True)
    assert torch.equal(
        load_file(tmp_path / "end" / "model.safetensors")[TABLES[0]], parts["tensors"][TABLES[0]]
    )


def test_without_tokens_nothing_is_matched(write_model: WriteModel, tmp_path: Path) -> None:
    one, two = write_model("one"), write_model("three", tokenizer=None)
    with pytest.raises(InputError, match="--match-tokens: chat has no tokenizer.json to match tokens by"):
        merge_checkpoints(one, two, 0.3, tmp_path / "out", donor="reasoning", match_tokens=True)
    nameless = write_model("fiv", tokenizer=None)
    with pytest.raises(
        InputError, match="--match-tokens: reasoning has no tokenizer.json to match tokens by"
    ):
        merge_checkpoints(nameless, one, 0.3, tmp_path / "out", donor="reasoning", match_tokens=True)
    wide = other()
    wide["tensors"][TABLES[0]] = torch.zeros(6, 3).bfloat16()
    with pytest.raises(
        InputError, match=r"embed_tokens.weight is \[5, 4\] in reasoning and \[6, 3\] in chat: rows of"
    ):
        merge_checkpoints(one, write_model("wide5", **wide), 0.3, tmp_path / "out", match_tokens=True)


def test_tokens_are_matched_from_the_command_line(write_model: WriteModel, tmp_path: Path) -> None:
    one, two = write_model("one"), write_model("three", **other())
    given = ["--reasoning", str(one), "--chat", str(two), "--alpha", "0.5", "--out", str(tmp_path / "out")]
    assert main(run, [*given, "--donor", "reasoning"]) == 2
    assert main(run, [*given, "--donor", "reasoning", "--match-tokens"]) == 0
