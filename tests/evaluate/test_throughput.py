"""Throughput on vLLM, for real on the CPU: the lengths are what was asked for, the numbers add up."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from alloy.evaluate import command
from alloy.evaluate.throughput import Shape, Throughput, parse_shapes

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)


def test_shapes_are_input_and_output() -> None:
    assert parse_shapes("8192:16384,32:8") == [Shape(8192, 16384), Shape(32, 8)]
    assert Shape(8192, 16384).room == 24576


def test_what_is_printed() -> None:
    told = str(Throughput(32, 8, 4, 2, "cpu", 100.0, 12.5, 500.0, [90.0, 100.0, 120.0]))
    assert told == (
        "32:8  100.0 tokens/s written [90.0, 120.0] in 3 rounds, 12.500 requests/s, 500.0 tokens/s read and written; "
        "4 requests, 2 at once, on cpu"
    )


@pytest.fixture
def wider_folder(tmp_path: Path) -> Path:
    """A policy whose heads are as wide as vLLM's attention on a CPU wants them."""
    from alloy.base import ModelShape
    from alloy.build_base import random_model, train_tokenizer
    from alloy.policy import save_policy

    tokenizer = train_tokenizer(("one two three\nfour five six",) * 20, 300)
    shape = ModelShape(hidden_size=64, layers=2, heads=2, mlp_size=128, max_positions=256)
    save_policy(random_model(shape, tokenizer), tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")
def test_a_small_model_s(tmp_path: Path, wider_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--throughput",
        "32:32,16:4",
        "--requests",
        "3",
        "--rounds",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    assert command.run([str(wider_folder), *arguments, "--json", "rollout.batch_size=2"]) == 0
    long, short = json.loads(capfd.readouterr().out)
    assert [long["input_tokens"], long["output_tokens"], short["output_tokens"]] == [32, 32, 4]
    for found in (long, short):
        assert (found["requests"], found["at_once"], len(found["rounds"])) == (3, 2, 2)
        assert found["requests_per_second"] == pytest.approx(
            found["tokens_per_second"] / found["output_tokens"]
        )
        assert min(found["rounds"]) <= found["tokens_per_second"] <= max(found["rounds"])
        total = found["input_tokens"] + found["output_tokens"]
        assert found["total_tokens_per_second"] == pytest.approx(found["requests_per_second"] * total)
    assert json.loads((tmp_path / "out" / "throughput.json").read_text()) == [long, short]
