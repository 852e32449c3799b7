"""IFEval's four numbers, by answers whose readings are known."""

import json
from pathlib import Path
from typing import Any

import pytest
from by_prompt import ByPrompt

from alloy.evaluate.config import EvaluateConfig, SuiteConfig
from alloy.evaluate.suites import SuiteResult, evaluate_suite
from alloy.evaluate.summary import summarise
from alloy.evaluate.table import render

ROWS = [
    {
        "prompt": "Write without commas, end with Bye, add a P.S.",
        "instruction_id_list": [
            "punctuation:no_comma",
            "startend:end_checker",
            "detectable_content:postscript",
        ],
        "kwargs": [{}, {"end_phrase": "Bye."}, {"postscript_marker": "P.S."}],
    },
    {"prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
]
ANSWERS = {
    # Strictly the comma of the first line counts; loosely that line is left out. There is no postscript.
    ROWS[0]["prompt"]: "Sure, here:\nwell then. Bye.",
    ROWS[1]["prompt"]: "no comma here",
}


@pytest.fixture
def measured(tmp_path: Path, tiny_tokenizer: Any) -> Any:
    path = tmp_path / "ifeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def measure(answers: dict[str, str], **changes: Any) -> SuiteResult:
        suite = SuiteConfig(environment="benchmark", options={"path": str(path)}, thinking=False, **changes)
        engine: Any = ByPrompt(tiny_tokenizer, {prompt: [answer] for prompt, answer in answers.items()})
        return evaluate_suite("instructions", suite, engine, tiny_tokenizer, 0)

    return measure


def test_prompt_and_instruction_level_strict_and_loose(measured: Any) -> None:
    result = measured(ANSWERS)
    values = {
        name: result.interval(name).value
        for name in ("success", "prompt_loose", "instruction_strict", "instruction_loose")
    }
    # Of four instructions: strictly the end and the second prompt's comma, loosely the first one's, too.
    assert values == {
        "success": 0.5,
        "prompt_loose": 0.5,
        "instruction_strict": 0.5,
        "instruction_loose": 0.75,
    }
    interval = result.interval("instruction_strict")
    # Both prompts drawn twice: the first alone has 1 of 3, the second 1 of 1.
    assert (interval.low, interval.high, interval.n) == (pytest.approx(1 / 3), 1.0, 2)
    families = result.by_group()["instruction"]
    assert {name: (i.value, i.n) for name, i in families.items()} == {
        "punctuation": (0.5, 2),
        "startend": (1.0, 1),
        "detectable_content": (0.0, 1),
    }
    assert "punctuation:no_comma" not in result.scores


def test_an_answer_that_was_cut_off_counts_only_where_it_may(measured: Any) -> None:
    cut = {**ANSWERS, ROWS[1]["prompt"]: "no comma so far..."}
    assert measured(cut).interval("instruction_strict").value == 0.25
    assert measured(cut, judge_unfinished=True).interval("instruction_strict").value == 0.5


def test_two_models_are_compared_by_instructions(measured: Any) -> None:
    better = {**ANSWERS, ROWS[0]["prompt"]: "well then\nP.S. Bye."}
    results = {"a": {"instructions": measured(better)}, "b": {"instructions": measured(ANSWERS)}}
    config = EvaluateConfig.model_validate(
        {
            "suites": {"instructions": {"environment": "benchmark", "options": {"path": "x"}}},
            "models": {"a": "x", "b": "y"},
            "compare": {"a": ["b"]},
        }
    )
    summary = summarise(results, {"a": ["b"], "b": []}, config)
    found = {d["metric"]: d for d in summary["differences"]}
    assert found["success"]["value"] == 0.5
    # Two of the first prompt's three instructions more, of four in all.
    assert found["instruction_strict"]["value"] == 0.5
    # One item differs: its sign is a coin.
    assert (found["instruction_strict"]["p"], found["instruction_strict"]["n"]) == (1.0, 2)
    told = render(summary)
    assert "a              instructions   instruction_strict +50.0 [+0.0, +66.7]" in told
    assert "to b; p = 1, n 2" in told
    assert "instruction punctuation (2)" in told
