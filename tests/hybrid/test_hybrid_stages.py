"""The hybrid through every stage, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import alloy
from hybrid_shape import CHANGES
from safetensors.torch import load_file

from alloy.policy import load_model
from alloy.scorer import AutoScorer
from merge.interpolate import interpolate

POLICIES = ["base", "sft-1", "sft-2", "sft-3", "grpo", "dpo", "rlhf", "merge"]
KINDS = {
    "mixer.in_proj": "Mamba-2",
    "mixer.q_proj": "attention",
    "layers.2.mixer": "an MLP",
    "experts.3.": "experts",
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model" / "model.safetensors")
    return found


def moved(folder: Path, parent: Path) -> set[str]:
    after, before = weights(folder), weights(parent)
    return {name for name in before if not torch.equal(after[name], before[name])}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_stage_is_finished_and_every_policy_has_the_names_of_the_base(hybrid_runs: Path) -> None:
    rows = json.loads(alloy("status", "micro", "--runs", str(hybrid_runs), "--json", *CHANGES).stdout)
    assert {row["state"] for row in rows} == {"finished"}
    assert len(rows) == 10
    names = weights(hybrid_runs / "base").keys()
    assert {"backbone.layers.4.mixer.experts.0.up_proj.weight", "lm_head.weight"} <= names
    for stage in POLICIES:
        assert weights(hybrid_runs / stage).keys() == names, stage
        model = load_model(hybrid_runs / stage / "model")
        # In memory the experts are one tensor, in the order of their numbers.
        for part in ("up_proj", "down_proj"):
            single = [
                weights(hybrid_runs / stage)[f"backbone.layers.4.mixer.experts.{number}.{part}.weight"]
                for number in range(4)
            ]
            assert torch.equal(getattr(model.model.layers[4].mixer.experts, part), torch.stack(single))


@pytest.mark.parametrize(
    ("stage", "parent"), [("sft-1", "base"), ("sft-3", "sft-2"), ("grpo", "sft-3"), ("rlhf", "dpo")]
)
def test_every_kind_of_layer_learns(hybrid_runs: Path, stage: str, parent: str) -> None:
    changed = moved(hybrid_runs / stage, hybrid_runs / parent)
    for name, kind in KINDS.items():
        assert any(name in each for each in changed), kind


def test_packing_fills_sequences_and_the_loss_falls(hybrid_runs: Path) -> None:
    artifact = json.loads((hybrid_runs / "sft-1" / "artifact.json").read_text())
    assert artifact["metrics"]["data/fill"] > 0.9
    assert artifact["metrics"]["data/examples"] > 3 * artifact["metrics"]["data/sequences"]
    losses = [row["loss"] for row in log(hybrid_runs / "sft-1") if "loss" in row]
    # Of 700 tokens a model that knows nothing gives ln 700.
    assert losses[0] == pytest.approx(np.log(700), abs=0.6)
    assert losses[-1] < losses[0] - 0.2
    assert json.loads((hybrid_runs / "sft-3" / "artifact.json").read_text())["metrics"]["data/truncated"] > 0


def test_the_adapter_moved_what_it_is_on_and_nothing_else(hybrid_runs: Path) -> None:
    adapted = ("in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    expected = {
        name
        for name in weights(hybrid_runs / "base")
        if name.removesuffix(".weight").endswith(adapted) and ".experts." not in name
    }
    assert len(expected) == 10
    assert moved(hybrid_runs / "sft-2", hybrid_runs / "sft-1") == expected


@pytest.mark.parametrize("stage", ["grpo", "rlhf"])
def test_what_was_sampled_is_what_is_trained(hybrid_runs: Path, stage: str) -> None:
    """Log-probabilities of tokens: written one by one out of a cache, behind padding, and computed again at once."""
    gaps = [row["sampler_gap/max"] for row in log(hybrid_runs / stage) if "sampler_gap/max" in row]
    assert len(gaps) == 2
    assert max(gaps) < 1e-4


def test_the_reference_of_rlhf_is_the_policy_at_first(hybrid_runs: Path) -> None:
    kl = [row["kl"] for row in log(hybrid_runs / "rlhf") if "kl" in row]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 0


def test_a_pair_s_margin_grows(hybrid_runs: Path) -> None:
    rows = [row for row in log(hybrid_runs / "dpo" / "iteration-1") if "rewards/margins" in row]
    assert rows[0]["rewards/margins"] == 0
    # The sigmoid's ln 2, and the loss of the chosen.
    assert rows[-1]["rewards/margins"] > 0
    assert moved(hybrid_runs / "dpo" / "iteration-1", hybrid_runs / "grpo")


def test_the_reward_model_learned_and_loads(hybrid_runs: Path) -> None:
    model, told = AutoScorer.from_pretrained(
        str(hybrid_runs / "reward-model" / "model"), output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    # Its head began at zero.
    assert model.score.weight.abs().max() > 1e-4
    policy = load_model(hybrid_runs / "sft-3" / "model").state_dict()
    own = model.state_dict()
    assert any(
        not torch.equal(weight, own[name]) for name, weight in policy.items() if name != "lm_head.weight"
    )


def test_the_merge_is_between_its_parents(hybrid_runs: Path) -> None:
    sweep = json.loads((hybrid_runs / "merge" / "sweep.json").read_text())
    assert [point["alpha"] for point in sweep["points"]] == [0.1, 0.5, 0.9]
    reasoning, chat, merged = (weights(hybrid_runs / stage) for stage in ("dpo", "rlhf", "merge"))
    for name, weight in merged.items():
        assert torch.equal(weight, interpolate(reasoning[name], chat[name], sweep["chosen"])), name
    assert moved(hybrid_runs / "merge", hybrid_runs / "dpo")


def test_every_suite_asked_every_policy(hybrid_runs: Path) -> None:
    results = json.loads((hybrid_runs / "evaluate" / "results.json").read_text())
    assert results["suites"] == ["math", "instructions", "tools", "chat", "budget"]
    assert results["stages"] == POLICIES


def test_it_is_planned_as_it_ran(hybrid_runs: Path, tmp_path: Path) -> None:
    """Before there is any model: from the sizes that the recipe says."""
    told = json.loads(alloy("plan", "micro", "--runs", str(tmp_path / "none"), "--json", *CHANGES).stdout)
    metrics = json.loads((hybrid_runs / "base" / "artifact.json").read_text())["metrics"]
    planned = {row["stage"]: row["parameters"] for row in told if row["stage"] in POLICIES[:-1]}
    assert planned == dict.fromkeys(POLICIES[:-1], metrics["parameters"])


def test_it_answers_in_a_chat(hybrid_runs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alloy", "chat", str(hybrid_runs / "merge"), "--no-think", "--max-tokens", "6"],
        input="What is 2 + 2?\n", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
