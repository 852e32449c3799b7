"""GRPO for real on a tiny policy: the same gradient, exact resume, the choice of a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import alloy.rl
import grpo
from alloy.artifact import read_artifact
from alloy.errors import InputError
from alloy.rl import PolicyTrainer

COIN = "coin_environment:CoinEnvironment"
# What a clock says differs from run to run.
CLOCKS = ("seconds", "step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")


@pytest.fixture(scope="module")
def parent(micro_runs: Path) -> Path:
    return micro_runs / "sft-3"


def config(parent: Path, output: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "output": str(output),
        "parent": str(parent),
        "environments": {
            "coin": {"environment": COIN, "tasks": 12, "options": {"letters": "ets"}},
            "rare": {"environment": COIN, "tasks": 12, "options": {"letters": "kJ"}},
        },
        "rollout": {"max_completion_tokens": 60, "thinking_share": 0.0},
        "prompts_per_step": 4,
        "group_size": 4,
        "optim": {"learning_rate": 3.0e-4, "scheduler": "constant", "warmup_ratio": 0.0},
        "train": {"max_steps": 3, "per_device_batch_size": 4},
        "logging": {"every_steps": 1, "tensorboard": False},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return grpo.CONFIG.model_validate(values)


def log(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # The last line sums up the run's speed; a resumed run's covers a part of it.
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in rows if "loss" in row]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_leaving_out_what_moves_nothing_leaves_the_gradient(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the batch as TRL cuts it: all rows, their order, the width of the longest."""
    gradients: list[dict[str, torch.Tensor]] = []

    def keep(self: Any, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})

    monkeypatch.setattr("alloy.rl._Moments.on_pre_optimizer_step", keep, raising=False)
    given: dict[str, Any] = {"train": {"max_steps": 1}, "optim": {"max_grad_norm": 1e9}}
    grpo.run(config(parent, tmp_path / "r" / "cut", **given))

    def whole(batch: Any, updates: int, parts: int, **_: Any) -> list[Any]:
        rows = torch.tensor_split(torch.arange(len(batch["prompt_ids"])), updates * parts)
        return [{name: v if v.dim() == 0 else v[part] for name, v in batch.items()} for part in rows]

    calls = []
    monkeypatch.setattr(alloy.rl, "micro_batches", lambda *a, **k: calls.append(k) or whole(*a, **k))
    grpo.run(config(parent, tmp_path / "r" / "whole", **given))
    assert [(call["by_length"], call["drop_idle"]) for call in calls] == [(True, True)]
    cut, full = gradients
    for name, gradient in full.items():
        size = float(gradient.abs().max())
        assert float((gradient - cut[name]).abs().max()) <= 1e-4 * size, name
    assert max(float(gradient.abs().max()) for gradient in full.values()) > 1e-3
    share = log(tmp_path / "r" / "cut")[0]["completions/with_advantage"]
    assert 0 < share < 1, "nothing was left out: the test shows nothing"


def test_plain_advantages_are_trl_s(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the group's mean and deviation, what TRL computed from the same rewards is what we replace it by."""
    from trl import GRPOTrainer

    ours: list[Any] = []
    theirs: list[Any] = []
    original, replaced = (
        GRPOTrainer._generate_and_score_completions,
        PolicyTrainer._generate_and_score_completions,
    )

    def keep_theirs(self: Any, inputs: Any) -> Any:
        batch = original(self, inputs)
        theirs.append(batch["advantages"].clone())
        return batch

    def keep_ours(self: Any, inputs: Any) -> Any:
        batch = replaced(self, inputs)
        ours.append(batch["advantages"].clone())
        return batch

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", keep_theirs)
    monkeypatch.setattr(PolicyTrainer, "_generate_and_score_completions", keep_ours)
    environments = {
        "coin": {"environment": COIN, "tasks": 12, "options": {"letters": "ets", "broken_every": 4}}
    }
    given = config(
        parent, tmp_path / "r" / "a", loss={"preset": "grpo", "kl_coef": 0.0}, train={"max_steps": 2}
    )
    grpo.run(
        given.model_copy(
            update={
                "environments": {
                    **given.environments,
                    **config(parent, tmp_path, environments=environments).environments,
                }
            }
        )
    )
    assert len(ours) == len(theirs) == 2
    for mine, trl in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, trl, rtol=1e-4, atol=1e-5)
    assert any(bool((mine != 0).any()) for mine in ours)


class Interrupted(BaseException):
    """As a kill: nothing in between may catch it."""


ALL = {
    "rollout": {"refills": 1, "updates": 2, "passes": 1},
    "curriculum": {"rollouts": 2, "again_every_steps": 4},
    "validation": {"tasks": 6, "every_steps": 2},
    "train": {"max_steps": 6, "save_steps": 1},
}


@pytest.fixture(scope="module")
def uninterrupted(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "r" / "grpo"
    grpo.run(config(parent, folder, **ALL))
    return folder


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_resumed_at_any_step_it_ends_as_if_it_had_never_stopped(
    parent: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Two updates a batch of rollouts, so that every other checkpoint has rollouts that wait."""
    folder = tmp_path / "r" / "grpo"
    original = PolicyTrainer.after_step

    def stop(self: Any) -> None:
        original(self)
        if self.state.global_step == step + 1:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(PolicyTrainer, "after_step", stop)
        with pytest.raises(Interrupted):
            grpo.run(config(parent, folder, **ALL))
    assert (folder / "checkpoints" / f"checkpoint-{step}").is_dir()
    grpo.run(config(parent, folder, **ALL))
    assert log(folder) == log(uninterrupted)
    assert [row["step"] for row in log(folder)] == [1, 2, 3, 4, 5, 6]
    assert (folder / "validation.json").read_text() == (uninterrupted / "validation.json").read_text()
    prints = [read_artifact(path).fingerprints["weights"] for path in (folder, uninterrupted)]
    assert prints[0] == prints[1]
    samples = [(path / "samples.jsonl").read_text() for path in (folder, uninterrupted)]
    assert samples[0] == samples[1]


def test_a_batch_of_rollouts_serves_its_updates_and_passes(parent: Path, tmp_path: Path) -> None:
    """Four updates from one batch: two parts, twice. The groups are rolled out once."""
    folder = tmp_path / "r" / "grpo"
    grpo.run(config(parent, folder, rollout={"updates": 2, "passes": 2}, train={"max_steps": 4}))
    rolled = [row.get("groups/rolled") for row in log(folder)]
    assert rolled == [8.0, None, None, None]


def test_the_best_held_out_step_is_kept_and_said(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are given, so that the choice is known: step 2 is best, step 3 lets one fall."""
    table = {0: (0.2, 0.6), 1: (0.3, 0.6), 2: (0.5, 0.6), 3: (1.0, 0.2), 4: (0.4, 0.6)}

    def held_out(self: Any, engine: Any, tasks: Any) -> Any:
        coin, rare = table[next(steps)]
        return {
            "coin": {str(n): float(n < coin * 40) for n in range(40)},
            "rare": {str(n): float(n < rare * 40) for n in range(40)},
        }

    steps = iter(range(5))
    monkeypatch.setattr("alloy.rl_sampling.Sampler.held_out", held_out)
    folder = tmp_path / "r" / "grpo"
    seen: dict[int, dict[str, torch.Tensor]] = {}
    original = PolicyTrainer.after_step

    def keep(self: Any) -> None:
        original(self)
        seen[self.state.global_step] = {n: p.detach().clone() for n, p in self.model.named_parameters()}

    monkeypatch.setattr(PolicyTrainer, "after_step", keep)
    artifact = grpo.run(
        config(parent, folder, validation={"tasks": 40, "every_steps": 1}, train={"max_steps": 4})
    )
    told = json.loads((folder / "validation.json").read_text())
    assert told["kept"] == 2
    assert [entry["fell"] for entry in told["steps"]] == [[], [], [], ["rare"], []]
    assert artifact.metrics["validation/kept_step"] == 2
    assert artifact.metrics["validation/coin/gain/value"] == pytest.approx(0.3)
    saved = weights(folder)
    assert all(torch.equal(saved[name], seen[2][name]) for name in saved)
    assert not all(torch.equal(saved[name], seen[4][name]) for name in saved)
    assert not (folder / "best").exists()


def test_where_nothing_is_better_the_parent_is_handed_on(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "alloy.rl_sampling.Sampler.held_out",
        lambda *_: {"coin": {"a": 1.0, "b": 0.0}, "rare": {"a": 0.0, "b": 0.0}},
    )
    artifact = grpo.run(
        config(
            parent, tmp_path / "r" / "grpo", validation={"tasks": 2, "every_steps": 1}, train={"max_steps": 1}
        )
    )
    assert "the parent's weights are handed on" in capsys.readouterr().out
    assert artifact.fingerprints["weights"] == read_artifact(parent).fingerprints["weights"]


def test_a_profile_is_kept_for_the_same_policy_and_made_anew_for_another_sampling(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = alloy.rl_sampling.Sampler.pass_rates

    def count(self: Any, engine: Any, step: int, each: int) -> Any:
        calls.append((step, each))
        return original(self, engine, step, each)

    monkeypatch.setattr(alloy.rl_sampling.Sampler, "pass_rates", count)
    given = {"curriculum": {"rollouts": 3}, "train": {"max_steps": 1}}
    for name, rollout in (("a", {}), ("b", {"refills": 2}), ("c", {"temperature": 0.7})):
        grpo.run(config(parent, tmp_path / "r" / name, rollout=rollout, **given))
    # What refills changes happens after the profile.
    assert calls == [(0, 3), (0, 3)]
    first, second = (json.loads((tmp_path / "r" / n / "profile.json").read_text()) for n in "ab")
    assert first["rates"] == second["rates"]
    assert {round(rate * 3) / 3 for rate in first["rates"]["coin"].values()} == set(
        first["rates"]["coin"].values()
    )


def test_gold_that_loses_stops_the_run_before_its_folder_is_touched(parent: Path, tmp_path: Path) -> None:
    given = config(parent, tmp_path / "r" / "grpo")
    (tmp_path / "losing.py").write_text(
        "from coin_environment import CoinEnvironment\n"
        "from dataclasses import replace\n"
        "class Losing(CoinEnvironment):\n"
        "    def tasks(self, split, count, seed):\n"
        "        told = [{'role': 'assistant', 'content': 'z'}]\n"
        "        return [replace(task, demonstration=told) for task in super().tasks(split, count, seed)]\n"
    )
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        bad = given.environments["coin"].model_copy(update={"environment": "losing:Losing"})
        with pytest.raises(InputError, match=r"12 of 12 known solutions are not judged 1.0 \(coin/train/0"):
            grpo.run(given.model_copy(update={"environments": {"coin": bad}}))
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "r").exists()


def test_a_verifier_s_failure_is_told_counted_and_carries_no_loss(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environments = {
        "coin": {"environment": COIN, "tasks": 12, "options": {"letters": "ets", "broken_every": 1}}
    }
    folder = tmp_path / "r" / "grpo"
    given = config(parent, folder, train={"max_steps": 1})
    given = given.model_copy(
        update={
            "environments": {"coin": config(parent, folder, environments=environments).environments["coin"]}
        }
    )
    artifact = grpo.run(given)
    assert "the verifier of coin: error on coin/train/" in capsys.readouterr().err
    assert artifact.metrics["verdict/error"] == 1.0
    before, after = weights(parent), weights(folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_lora_keeps_the_best_adapter(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter of step 1, the best one, merged: W + alpha / rank x B A."""
    rising = iter((0.25, 0.75, 0.5))

    def held_out(*_: Any) -> Any:
        share = next(rising)
        return {label: {str(n): float(n < share * 4) for n in range(4)} for label in ("coin", "rare")}

    monkeypatch.setattr("alloy.rl_sampling.Sampler.held_out", held_out)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = PolicyTrainer.after_step

    def keep(self: Any) -> None:
        original(self)
        found = dict(self.model.named_parameters())
        low, high = (found[f"{layer}.lora_{part}.default.weight"].detach().clone() for part in "AB")
        seen.append((low, high))

    monkeypatch.setattr(PolicyTrainer, "after_step", keep)
    folder = tmp_path / "r" / "grpo"
    lora = {"rank": 4, "alpha": 8}
    artifact = grpo.run(
        config(parent, folder, lora=lora, train={"max_steps": 2}, validation={"tasks": 4, "every_steps": 1})
    )
    assert artifact.metrics["validation/kept_step"] == 1
    before, after = weights(parent), weights(folder)
    assert after.keys() == before.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    merged = [before[name] + 8 / 4 * high @ low for low, high in seen]
    torch.testing.assert_close(after[name], merged[0], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(merged[0], merged[1], rtol=1e-5, atol=1e-7)


def test_presets() -> None:
    loss = grpo.CONFIG.model_fields["loss"].annotation
    assert loss is not None
    nemotron, paper = loss.model_validate({}), loss.model_validate({"preset": "grpo", "clip_high": 0.3})
    assert (nemotron.kind, nemotron.kl_coef, nemotron.clip_low, nemotron.clip_high) == (
        "dapo",
        0.0,
        0.2,
        0.28,
    )
    assert (nemotron.baseline, nemotron.mask_unfinished, nemotron.importance) == (
        "leave_one_out",
        True,
        "token_mask",
    )
    assert (paper.kind, paper.kl_coef, paper.clip_low, paper.clip_high) == ("grpo", 0.04, 0.2, 0.3)
    assert (paper.baseline, paper.mask_unfinished, paper.importance) == ("group", False, "none")


def test_every_kind_of_environment_at_once(parent: Path, tmp_path: Path) -> None:
    """Rows of a file, generated tasks, and two tool worlds of several turns: each has its place in the batch."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"question": f"What is {n} + 1?", "answer": f"We add 1.\n#### {n + 1}"}) + "\n"
            for n in range(60)
        )
    )
    environments = {
        "mine": {
            "environment": "problems",
            "tasks": 8,
            "options": {
                "path": str(rows),
                "columns": {"prompt": "question", "gold": "answer"},
                "answer_after": "####",
            },
            "system": "Be brief.",
        },
        "choice": {"tasks": 8},
        "schema": {"tasks": 8},
        "python": {"tasks": 4},
        "workplace": {"tasks": 4, "options": {"rows_per_table": 3, "tools_offered": 1}},
    }
    folder = tmp_path / "r" / "grpo"
    given = config(parent, folder, prompts_per_step=5, group_size=2, train={"max_steps": 1, "per_device_batch_size": 10})  # fmt: skip
    values = given.model_dump() | {"environments": environments}
    values["rollout"] |= {"max_turns": 3, "max_completion_tokens": 16}
    artifact = grpo.run(grpo.CONFIG.model_validate(values))
    assert {f"zero_signal/{label}" for label in environments} <= log(folder)[0].keys()
    assert artifact.metrics["verdict/error"] == 0
    assert artifact.metrics["reward/python/last"] == 0.0


def test_gsm8k_is_a_source(parent: Path, tmp_path: Path) -> None:
    data = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl.gz"
    if not data.is_file():
        pytest.skip("GSM8K's rows are not there")
    options = {"path": str(data), "columns": {"prompt": "question", "gold": "answer"}, "answer_after": "####"}
    folder = tmp_path / "r" / "grpo"
    values = config(parent, folder, train={"max_steps": 1, "per_device_batch_size": 8}, prompts_per_step=2).model_dump()  # fmt: skip
    values["environments"] = {"gsm8k": {"environment": "problems", "tasks": 400, "options": options}}
    values["rollout"]["max_completion_tokens"] = 8
    grpo.run(grpo.CONFIG.model_validate(values))
    sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert sample["environment"] == "gsm8k"
    assert len(sample["prompt"]) > 40


def test_a_server_needs_a_gpu_to_be_given_weights(parent: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(InputError, match=r"vllm-server: .* needs a GPU here\. Set rollout\.engine=vllm"):
        grpo.run(config(parent, tmp_path / "r" / "grpo", rollout={"engine": "vllm-server"}))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("world", "changes", "told"),
    [
        ("3", {}, "prompts_per_step = 4: no multiple of the 3 processes"),
        ("4", {"train": {"per_device_batch_size": 8}}, "= 16 is no multiple of .* processes = 8 x 4"),
        (
            "4",
            {"environments": {"rare": {"environment": COIN, "tasks": 3}}},
            "rare.tasks = 3: fewer than the 4",
        ),
    ],
)
def test_what_does_not_fit_the_processes_is_told_before_the_folder_is_touched(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str, changes: Any, told: str
) -> None:
    given = config(parent, tmp_path / "r" / "grpo", **changes)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(InputError, match=told):
        grpo.run(given)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("stage", ["dpo", "evaluate"])
def test_stages_that_open_model_folders_take_no_server(stage: str) -> None:
    from alloy.config import load
    from alloy.evaluate.config import EvaluateConfig
    from dpo.config import DpoConfig

    cls = DpoConfig if stage == "dpo" else EvaluateConfig
    with pytest.raises(InputError, match=r"rollout: .*vllm-server: .* Set rollout\.engine=vllm"):
        load(cls, f"configs/micro/{stage}.yaml", ["rollout.engine=vllm-server"])
