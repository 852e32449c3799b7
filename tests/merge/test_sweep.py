import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from alloy.errors import StageError
from merge.checkpoint import Checkpoint, open_checkpoint
from merge.live import LiveModel
from merge.preflight import preflight
from merge.stream import merge_checkpoints
from merge.sweep import Sweep, sweep

SHAPE: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "dtype": "bfloat16",
}


def save(folder: Path, seed: int, **shape: Any) -> Path:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **shape})).bfloat16()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def parents(tmp_path: Path) -> tuple[Checkpoint, Checkpoint]:
    roles = ("reasoning", "chat")
    return tuple(open_checkpoint(save(tmp_path / role, i), role) for i, role in enumerate(roles))  # type: ignore[arg-type, return-value]


class Judge:
    """Scores known beforehand; remembers what it was given."""

    def __init__(self, scores: dict[float, tuple[float, float]]) -> None:
        self.scores = scores
        self.seen: dict[float, dict[str, torch.Tensor]] = {}

    def __call__(self, model: Any, tokenizer: Any, alpha: float) -> dict[str, list[float]]:
        self.seen[alpha] = {name: weight.clone() for name, weight in model.state_dict().items()}
        return {"math": [self.scores[alpha][0]] * 4, "chat": [self.scores[alpha][1]] * 4}


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    # These models have none, and the judge asks for none.
    monkeypatch.setattr("merge.sweep.load_tokenizer", lambda folder: None)


def run(parents: tuple[Checkpoint, Checkpoint], judge: Judge, root: Path, measure: str = "m") -> Sweep:
    return sweep(
        *parents, list(judge.scores), judge, measure=measure, out=root / "out", points=root / "points"
    )


SCORES = {0.1: (0.9, 0.2), 0.5: (0.7, 0.6), 0.9: (0.2, 0.8)}  # Products 0.18, 0.42, 0.16.


def test_the_evaluated_weights_are_those_that_a_merge_writes(
    parents: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    judge = Judge(SCORES)
    assert run(parents, judge, tmp_path).choice.alpha == 0.5
    for alpha, seen in judge.seen.items():
        merge_checkpoints(*parents, alpha, tmp_path / f"at-{alpha}")
        written = load_file(tmp_path / f"at-{alpha}" / "model.safetensors")
        assert written.keys() == seen.keys()
        assert all(torch.equal(seen[name].bfloat16(), weight) for name, weight in written.items())
        assert all(torch.equal(seen[name], weight.float()) for name, weight in written.items())


def test_points_are_reused_by_a_finer_grid_and_by_the_same_measure_only(
    parents: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    run(parents, Judge(SCORES), tmp_path)
    finer = Judge({**SCORES, 0.3: (0.8, 0.6)})
    result = run(parents, finer, tmp_path)
    assert list(finer.seen) == [0.3]
    assert (result.reused, result.choice.alpha) == (3, 0.3)
    assert [point.alpha for point in result.points] == [0.1, 0.3, 0.5, 0.9]
    other = Judge(SCORES)
    run(parents, other, tmp_path, measure="other items")
    assert list(other.seen) == [0.1, 0.5, 0.9]
    swapped = Judge(SCORES)
    run((parents[1], parents[0]), swapped, tmp_path)
    assert list(swapped.seen) == [0.1, 0.5, 0.9]


def test_an_interrupted_sweep_keeps_its_points(
    parents: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    broken = Judge({0.1: (0.5, 0.5), 0.5: (2.0, 0.5)})
    with pytest.raises(StageError, match=r"math at alpha 0\.5 has the score 2\.0"):
        run(parents, broken, tmp_path)
    mended = Judge({0.1: (0.5, 0.5), 0.5: (1.0, 0.5)})
    run(parents, mended, tmp_path)
    assert list(mended.seen) == [0.5]


def test_the_table_and_the_figure(parents: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    result = run(parents, Judge(SCORES), tmp_path)
    assert result.markdown().splitlines() == [
        "| alpha | math | chat | product |",
        "| --- | --- | --- | --- |",
        "| 0.1 | 90.0 [90.0, 90.0] | 20.0 [20.0, 20.0] | 18.0 ± 0.0 |",
        "| **0.5** | **70.0 [70.0, 70.0]** | **60.0 [60.0, 60.0]** | **42.0 ± 0.0** |",
        "| 0.9 | 20.0 [20.0, 20.0] | 80.0 [80.0, 80.0] | 16.0 ± 0.0 |",
        "",
        "Percent, with 95% bootstrap intervals over the items (4 of math, 4 of chat); the product with its "
        "standard error. Chosen: alpha 0.5, by the rule `product`.",
    ]
    out = tmp_path / "out"
    assert (out / "table.md").read_text() == result.markdown()
    told = json.loads((out / "sweep.json").read_text())
    assert told["chosen"] == 0.5
    assert [point["objective"] for point in told["points"]] == pytest.approx([0.18, 0.42, 0.16])
    assert told["points"][0]["scores"]["math"] == {"value": 0.9, "low": 0.9, "high": 0.9, "n": 4}
    assert (out / "alpha-tradeoff.png").read_bytes().startswith(b"\x89PNG")
    drawn = (out / "alpha-tradeoff.svg").read_bytes()
    assert b"chosen: 0.5" in drawn
    run(parents, Judge(SCORES), tmp_path)
    assert (out / "alpha-tradeoff.svg").read_bytes() == drawn


def test_one_tied_parent_is_evaluated_with_a_head_of_its_own(tmp_path: Path) -> None:
    tied = open_checkpoint(save(tmp_path / "tied", 0, tie_word_embeddings=True), "reasoning")
    untied = open_checkpoint(save(tmp_path / "untied", 1), "chat")
    assert "lm_head.weight" not in tied.entries
    judge = Judge({0.25: (0.5, 0.5)})
    run((tied, untied), judge, tmp_path)
    merge_checkpoints(tied, untied, 0.25, tmp_path / "merged")
    written = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(torch.equal(judge.seen[0.25][name], weight.float()) for name, weight in written.items())
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).state_dict()
    assert all(torch.equal(judge.seen[0.25][name], weight) for name, weight in loaded.items())


def test_checkpoints_that_are_regrouped_when_loaded_are_evaluated_as_loaded(tmp_path: Path) -> None:
    for seed, role in enumerate(("reasoning", "chat")):
        torch.manual_seed(seed)
        config = MixtralConfig(**SHAPE, num_local_experts=2)
        MixtralForCausalLM(config).bfloat16().save_pretrained(tmp_path / role)
    first = open_checkpoint(tmp_path / "reasoning", "reasoning")
    second = open_checkpoint(tmp_path / "chat", "chat")
    live = LiveModel(preflight(first, second))
    seen = {name: weight.clone() for name, weight in live.set(0.3).state_dict().items()}
    merge_checkpoints(first, second, 0.3, tmp_path / "merged")
    loaded = MixtralForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).state_dict()
    assert seen.keys() == loaded.keys()
    assert all(torch.equal(seen[name], weight) for name, weight in loaded.items())
