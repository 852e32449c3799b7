"""The recipe `judge` in small, and what it made judging for real: behind vLLM's own server, on the CPU.

The truth is the procedural preference's own quality, which the judge has never seen but through labels.
"""

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import alloy
from vllm_served import served

import rlhf
from alloy.config import read_yaml
from alloy.environments.chat import ChatEnvironment, attributes
from alloy.evaluate.against import win_rates
from alloy.evaluate.config import WinRateConfig
from alloy.evaluate.statistics import mean_interval
from alloy.judges.comparison import INSTRUCTION, Judgement
from alloy.judges.config import JudgeConfig
from alloy.judges.endpoint import Judge

ROOT = Path(__file__).parents[2]
INSTALLED = importlib.util.find_spec("vllm") is not None
SMALLER = (
    *(
        "base.corpus.0.rows=300",
        "base.shape.hidden_size=64",
        "base.shape.layers=2",
        "base.shape.mlp_size=128",
    ),
    *("sft.train.max_steps=200", "sft.data.sources.0.rows=3200"),
    *("grpo.environments.judge.tasks=64", "grpo.prompts_per_step=8", "grpo.train.max_steps=4"),
    *("grpo.validation.tasks=40", "grpo.validation.every_steps=2", "grpo.logging.every_steps=1"),
    "evaluate.suites.judge.items=200",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage of the recipe, run once through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "judge"
    alloy("run", "judge", "--runs", str(folder), *SMALLER)
    return folder


def test_the_recipe_s_prompt_is_the_judge_s() -> None:
    values, _ = read_yaml(ROOT / "configs" / "judge" / "base.yaml")
    assert values["phrases"][0] == INSTRUCTION


def test_sft_teaches_form_and_taste_and_grpo_trains_on_the_errors(runs: Path) -> None:
    found = json.loads((runs / "evaluate" / "results.json").read_text())["details"]
    for stage in ("sft", "grpo"):
        told = found[stage]["judge"]
        assert told["well_formed"]["value"] > 0.97
        assert told["agrees"]["low"] > 0.5, f"{stage}: {told['agrees']}"
        # 1 less the error of two helpfulnesses and a ranking: 13 in all at most.
        error = (8 * told["helpfulness_error"]["value"] + 5 * told["ranking_error"]["value"]) / 13
        assert told["success"]["value"] == pytest.approx(1 - error, abs=0.02)
    rows = [json.loads(line) for line in (runs / "grpo" / "metrics.jsonl").read_text().splitlines()]
    rewards = [row["reward"] for row in rows if "reward" in row]
    assert len(rewards) == 4
    assert all(0.7 < reward < 1 for reward in rewards)
    steps = json.loads((runs / "grpo" / "validation.json").read_text())["steps"]
    assert [step["step"] for step in steps] == [0, 2, 4]


if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
real = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")


@pytest.fixture(scope="module")
def url(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(runs / "grpo" / "model", tmp_path_factory.mktemp("server"), "judge") as address:
        yield address


def config(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "base_url": url,
        "model": "judge",
        "max_completion_tokens": 64,
        # It was trained without thinking.
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        **changes,
    }


def judge(url: str, **changes: Any) -> Judge:
    return Judge(JudgeConfig.model_validate(config(url, **changes)))


def quality(answer: str, topic: str) -> float:
    return sum(attributes(answer, topic).values())


@pytest.fixture(scope="module")
def pairs() -> list[Any]:
    """Answers of unequal true quality, to prompts of templates that nothing was trained on; the better one first."""
    found = []
    for pair in ChatEnvironment().pairs("test", 120, 0):
        answers = sorted((pair.chosen, pair.rejected), key=lambda a: -quality(a, pair.task.gold["topic"]))
        if quality(answers[0], pair.task.gold["topic"]) > quality(answers[1], pair.task.gold["topic"]):
            found.append((pair.task.messages, *answers))
    return found[:60]


@real
def test_comparisons_parse_and_agree_with_the_truth_above_chance(url: str, pairs: list[Any]) -> None:
    asked = judge(url)
    asked.prepare()
    found = asked.compare(pairs)
    assert len(pairs) == 60
    assert found.missing <= 0.1 * len(pairs)
    assert found.unreadable <= 0.1 * found.requests
    agrees = mean_interval([j.preference() for j in found.judgements if j is not None])
    assert agrees.low > 0.5, str(agrees)
    # The other way round it finds the same, as every pair was asked in both orders.
    swapped = asked.compare([(prompt, worse, better) for prompt, better, worse in pairs[:10]])
    for there, here in zip(found.judgements, swapped.judgements, strict=False):
        assert there is not None
        assert here is not None
        assert here.preference() == 1 - there.preference()


@real
def test_the_form_is_the_server_s_whatever_the_judge_would_say(url: str, pairs: list[Any]) -> None:
    hot = judge(url, temperature=2.0, max_tries=1).compare(pairs[:20])
    assert (hot.missing, hot.unreadable) == (0, 0)
    always_first = {
        "structured_outputs": {"regex": r'\{"helpfulness_1": 5, "helpfulness_2": 1, "ranking": 1\}'}
    }
    extra = {"extra_body": {**config(url)["extra_body"], **always_first}}
    held = judge(url, structured="none", both_orders=True, **extra).compare(pairs[:10])
    # Whichever stands first is much better: in both orders together neither is.
    assert held.judgements == [Judgement((3, 3), 3.5)] * 10
    assert held.steady == [False] * 10


@real
def test_win_rates_by_a_real_judge(url: str, pairs: list[Any]) -> None:
    prompts = {str(n): prompt for n, (prompt, _, _) in enumerate(pairs[:30])}
    answers = {
        "old": {str(n): worse for n, (_, _, worse) in enumerate(pairs[:30])},
        "new": {str(n): better for n, (_, better, _) in enumerate(pairs[:30])},
    }
    (row,) = win_rates(WinRateConfig(reference="old"), prompts, answers, None, judge(url))
    assert (row["by"], row["missing"], row["plain"]["n"]) == ("judge", 0, 30)
    assert row["plain"]["low"] > 0.5
    assert row["controlled"]["low"] > 0.5
    assert row["steady"]["value"] > 0.5


@real
def test_rlhf_by_a_real_judge(url: str, runs: Path, tmp_path: Path) -> None:
    """Two updates of a policy that has learned nothing: what it writes has no form, and is compared all the same."""
    values = {
        "output": str(tmp_path / "r" / "rlhf"),
        "parent": str(runs / "base"),
        "environments": {"chat": {"tasks": 8}},
        "rollout": {"max_completion_tokens": 12, "temperature": 1.0, "thinking_share": 0.5},
        "prompts_per_step": 2,
        "group_size": 4,
        "judge": config(url),
        "held_out_judge": config(url),
        "validation": {"tasks": 4, "every_steps": 2},
        "validation_prompts": 2,
        "optim": {"learning_rate": 1.0e-3, "scheduler": "constant"},
        "train": {"max_steps": 2, "per_device_batch_size": 8},
        "logging": {"every_steps": 1, "tensorboard": False},
    }
    artifact = rlhf.run(rlhf.CONFIG.model_validate(values))
    assert artifact.metrics["judge/missing"] <= 0.1
    rows = [json.loads(line) for line in (tmp_path / "r" / "rlhf" / "metrics.jsonl").read_text().splitlines()]
    assert [row["judge/steady"] <= 1 for row in rows if "judge/steady" in row] == [True, True]
    assert any("validation/chat" in row for row in rows)
