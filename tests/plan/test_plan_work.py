"""What each stage's package says of its config, counted by hand; and rules that the planner repeats."""

from pathlib import Path
from typing import Any

from alloy.environments.registry import ENVIRONMENTS
from alloy.evaluate.config import EvaluateConfig
from alloy.plan import evaluation
from alloy.plan.launch import Launch
from alloy.plan.tasks import WORLDS, turns_of
from alloy.plan.work import Sampling
from dpo.config import DpoConfig
from dpo.plan import work as dpo_work
from grpo.config import GrpoConfig
from grpo.plan import work as grpo_work
from merge.config import MergeConfig
from merge.plan import work as merge_work
from rlhf.config import RewardModelConfig, RlhfConfig
from rlhf.plan import BATCH_TOKENS
from rlhf.plan import work as rlhf_work
from rlhf.reward_model_plan import work as reward_model_work
from sft.config import SftConfig
from sft.plan import work as sft_work

OPTIM = {"learning_rate": 1e-4}
SFT: dict[str, Any] = {
    "data": {"sources": [{"environment": "math", "rows": 300}, {"environment": "chat", "rows": 100}]},
    "optim": OPTIM,
    "train": {
        "max_steps": 50, "per_device_batch_size": 4, "gradient_accumulation_steps": 2,
        "max_sequence_tokens": 256,
    },
}  # fmt: skip
GRPO: dict[str, Any] = {
    "environments": {"math": {"tasks": 100}, "workplace": {"tasks": 60}},
    "rollout": {"max_completion_tokens": 32, "max_turns": 3, "batch_size": 24},
    "prompts_per_step": 8,
    "group_size": 4,
    "optim": OPTIM,
    "train": {"max_steps": 10, "per_device_batch_size": 8},
}
TWO = Launch(devices=2, prompt_tokens=100)


def sampled(found: tuple[Sampling, ...]) -> dict[str, Sampling]:
    return {sampling.what: sampling for sampling in found}


def test_sft() -> None:
    work = sft_work(SftConfig.model_validate(SFT), TWO)
    assert work.training is not None
    assert work.training.tokens(2) == 50 * 2 * 4 * 256 * 2
    assert (work.examples, work.training.attention, work.training.bfloat16_base) == (400, "documents", False)
    alone = SFT | {"data": {**SFT["data"], "packing": "none"}}
    notes = sft_work(SftConfig.model_validate(alone), TWO).notes
    assert "800 examples drawn from 400 rows: 2.0 times each" in notes
    lora = SFT | {"lora": {"rank": 4}, "train": {**SFT["train"], "precision": "auto"}}
    training = sft_work(SftConfig.model_validate(lora), TWO).training
    assert training is not None
    assert (training.precision, training.bfloat16_base) == ("bfloat16", True)
    whole = SFT | {"data": {"sources": [{"path": "x.jsonl"}]}}
    assert sft_work(SftConfig.model_validate(whole), TWO).examples is None


def test_grpo_counts_rollouts_and_what_is_trained_on_them() -> None:
    given = GRPO | {
        "rollout": {**GRPO["rollout"], "refills": 1},
        "curriculum": {"rollouts": 3, "again_every_steps": 4},
        "validation": {"tasks": 20, "every_steps": 4},
    }
    work = grpo_work(GrpoConfig.model_validate(given), TWO)
    assert work.training is not None
    # Conversations of three turns behind prompts of 100 tokens; 32 completions an update, 16 on each device.
    assert (work.training.length, work.training.scored) == (196, 96)
    assert (work.training.rows, work.training.micro_batches) == (8, 2)
    assert work.training.tokens(2) == 10 * 32 * 196
    found = sampled(work.sampling)
    assert found["rollouts"].completions == 10 * 32 * 2  # with one round of refills
    assert (found["rollouts"].rows, found["rollouts"].multi_turn) == (16, True)
    # Before the first step and after steps 4 and 8; of 10 the last is measured, not profiled.
    assert found["pass rates"].completions == 160 * 3 * 3
    assert found["validation"].completions == 20 * 2 * (1 + 3)
    assert found["validation"].rows == 20
    assert (work.scoring, work.held, work.candidates) == ((), (), 2)


def test_grpo_with_a_reference_and_with_vllm() -> None:
    kl = GRPO | {"loss": {"kl_coef": 0.1}}
    work = grpo_work(GrpoConfig.model_validate(kl), TWO)
    assert [(s.model, s.tokens) for s in work.scoring] == [("reference", 320 * 196)]
    assert [(h.role, h.sharded) for h in work.held] == [("reference", True)]
    # Under an adapter the policy without it is the reference.
    lora = grpo_work(GrpoConfig.model_validate(kl | {"lora": {"rank": 4}}), TWO)
    assert ([s.model for s in lora.scoring], lora.held) == (["policy"], ())
    rollout = {**GRPO["rollout"], "engine": "vllm", "vllm_max_model_tokens": 128}
    vllm = grpo_work(GrpoConfig.model_validate(GRPO | {"rollout": rollout}), TWO)
    assert vllm.training is not None
    # A prompt and its completion together are as long as the engine takes.
    assert (vllm.training.length, vllm.sampling[0].prompt, vllm.sampling[0].completion) == (128, 32, 96)
    assert [s.what for s in vllm.scoring] == ["the sampler's policy"]


def test_rollouts_that_serve_several_updates() -> None:
    rollout = {**GRPO["rollout"], "updates": 2, "passes": 3}
    work = grpo_work(GrpoConfig.model_validate(GRPO | {"rollout": rollout}), TWO)
    # Ten updates need two batches of two updates' rollouts, each trained on three times.
    assert work.sampling[0].completions == 2 * 2 * 32
    assert [s.tokens for s in work.scoring] == [2 * 2 * 32 * 196]


def test_a_launch_that_grpo_refuses() -> None:
    notes = grpo_work(GrpoConfig.model_validate(GRPO), Launch(devices=3)).notes
    assert notes[0].startswith("the stage refuses to start: 8 prompts x 4 completions cannot be divided")
    assert not grpo_work(GrpoConfig.model_validate(GRPO), TWO).notes


def test_dpo_counts_all_its_iterations() -> None:
    config = DpoConfig.model_validate(
        {
            "environments": {"workplace": {"tasks": 30, "validation_tasks": 10}},
            "rollout": {"max_completion_tokens": 20, "max_turns": 2, "batch_size": 8},
            "iterations": 3,
            "rollouts_per_task": 4,
            "pairing": {"pairs_per_task": 2},
            "optim": OPTIM,
            "train": {"max_steps": 5, "per_device_batch_size": 4},
        }
    )
    work = dpo_work(config, TWO)
    assert work.training is not None
    assert (work.training.steps, work.training.rows, work.training.length) == (15, 8, 140)
    found = sampled(work.sampling)
    assert (found["rollouts"].completions, found["validation"].completions) == (30 * 4 * 3, 10 * 4)
    assert (found["rollouts"].rows, found["rollouts"].beside_training) == (8, False)
    assert [s.tokens for s in work.scoring] == [2 * 30 * 2 * 3 * 140]
    assert work.models == 4  # one an iteration, and the kept one


def test_rlhf_holds_a_reward_model_that_scores_everything() -> None:
    given = {**GRPO, "environments": {"chat": {"tasks": 50}}, "reward_model": "rm", "validation_prompts": 25}
    work = rlhf_work(RlhfConfig.model_validate(given), TWO)
    # One environment of single turns: 320 rollouts, and 25 prompts answered on and off, before and after.
    assert [(s.model, s.tokens) for s in work.scoring] == [("reward model", (320 + 100) * 132)]
    assert [(h.role, h.parent) for h in work.held] == [("reward model", "reward_model")]
    answers = sampled(work.sampling)["answers to held-out prompts"]
    assert (answers.completions, answers.divided, answers.beside_training) == (100, True, True)
    url = {k: v for k, v in given.items() if k != "reward_model"} | {"reward_model_url": "http://x"}
    served = rlhf_work(RlhfConfig.model_validate(url), TWO)
    assert "the reward model is served elsewhere and not counted" in served.notes
    assert not served.scoring


def test_a_reward_model_passes_both_answers_at_once() -> None:
    config = RewardModelConfig.model_validate(
        {
            "data": {"environment": "chat", "pairs": 100, "held_out": 30},
            "optim": OPTIM,
            "train": {"max_steps": 20, "per_device_batch_size": 4, "max_sequence_tokens": 64},
        }
    )
    work = reward_model_work(config, TWO)
    assert work.training is not None
    assert (work.training.rows, work.training.tokens(2), work.makes) == (8, 20 * 8 * 64 * 2, "scorer")
    assert [s.tokens for s in work.scoring] == [2 * 30 * 64]
    assert "160 pairs drawn from 100: 1.6 times each" in work.notes


def test_a_sweep_evaluates_every_point() -> None:
    suites = {"math": {"environment": "math", "items": 10, "max_completion_tokens": 8}}
    sweep = {"alphas": "0.1:0.9:0.2", "suites": suites, "groups": ["attention", "mlp"], "rounds": 2}
    work = merge_work(MergeConfig.model_validate({"sweep": sweep}), TWO)
    # Five alphas; then two groups along five, twice.
    assert work.sampling[0].completions == 10 * (5 + 2 * 2 * 5)
    assert (work.start, work.host_models, work.sampling[0].divided) == ("reasoning", 2, False)
    plain = merge_work(MergeConfig.model_validate({"alpha": 0.5}), TWO)
    assert (plain.sampling, plain.host_models) == ((), 0)


def test_evaluation_measures_every_model() -> None:
    config = EvaluateConfig.model_validate(
        {
            "models": {"a": "x", "b": "y"},
            "suites": {
                "budget": {"environment": "math", "items": 10, "budgets": [4, 8, None]},
                "tools": {"environment": "workplace", "items": 5, "samples": 2, "temperature": 1.0},
                "long": {"environment": "long_context", "items": 3, "lengths": [100, 4000]},
                "own": {"environment": "benchmark", "options": {"path": "x"}},
            },
        }
    )
    work = evaluation.work(config, TWO)
    found = sampled(work.sampling)
    assert {name: s.completions for name, s in found.items()} == {
        "suite budget": 2 * 30, "suite tools": 2 * 10, "suite long": 2 * 6,
    }  # fmt: skip
    assert (found["suite tools"].completion, found["suite long"].prompt) == (6 * 128, 4000)
    assert work.notes[0] == "suite own: its items are a benchmark's own and are not counted"
    assert work.makes == "nothing"


def test_conversations_that_go_on_are_those_with_a_world() -> None:
    """Environments without files make a task here, and say whether a world stands behind it."""
    from alloy.environments.registry import READS_FILES, make_environment

    for name in ENVIRONMENTS:
        if name in READS_FILES or name == "python":  # `python` needs a sandbox to open one
            continue
        environment = make_environment(name)
        worlds = [environment.open(task) is not None for task in environment.tasks("train", 8, 0)]
        assert any(worlds) == (name in WORLDS), name
    assert (turns_of("math", 6), turns_of("workplace", 6), turns_of("my.module:World", 6)) == (1, 6, 6)


def test_the_reward_model_s_batch_is_the_one_it_has() -> None:
    from alloy.judges import reward_model

    assert BATCH_TOKENS == reward_model.BATCH_TOKENS


def test_vllm_s_cache_on_a_cpu_is_the_one_it_takes() -> None:
    from alloy.plan.memory import _VLLM_CPU_CACHE

    text = (Path(__file__).parents[2] / "alloy" / "rollout" / "vllm_process.py").read_text()
    assert "_MAX_CPU_CACHE_BYTES = 2 << 30" in text
    assert _VLLM_CPU_CACHE == 2 << 30
