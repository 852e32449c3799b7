"""What engines over the sharp model are asked, and what they must agree on whatever lies between."""

from typing import Any

import pytest

from alloy.rollout.engine import Generation, Sampling

GREEDY = Sampling(32, temperature=0.0)
BUDGETS: list[list[int | None]] = [[0, 3, None], [1, 9, 31], [5, 5, 40]]


def prompts(engine: Any) -> list[list[int]]:
    return [engine.tokenizer.encode(text) for text in ("one two", "three four five\nsix a b", "c")]


def tokens(generations: list[Generation]) -> list[list[int]]:
    return [generation.token_ids for generation in generations]


def assert_greedy_agrees(ours: Any, theirs: Any) -> None:
    found, expected = ours.generate(prompts(ours), GREEDY, 0), theirs.generate(prompts(ours), GREEDY, 0)
    assert tokens(found) == tokens(expected)
    for mine, other in zip(found, expected, strict=True):
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert mine.forced == [0] * len(mine.token_ids)
        assert mine.finished == other.finished


def assert_budgets_agree(ours: Any, theirs: Any, budgets: list[int | None]) -> None:
    found = ours.generate(prompts(ours), GREEDY, 0, budgets=budgets)
    expected = theirs.generate(prompts(ours), GREEDY, 0, budgets=budgets)
    assert [(g.token_ids, g.forced) for g in found] == [(g.token_ids, g.forced) for g in expected]
    assert sum(sum(generation.forced) for generation in found) >= 1
