"""The logits processor in `model.generate`, held against the engine's own loop and the plain machine."""

from typing import Any

import pytest
import torch
from bare_tags import without_tag_tokens

from alloy.chat import THINK_OPEN
from alloy.rollout.budget import BudgetTokens, ThinkingBudget, count_thinking
from alloy.rollout.budget_transformers import ThinkingBudgetLogitsProcessor
from alloy.rollout.engine import Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.template import encode_prompt

GRACE = 4
STEPS = 28


def prompts(tokenizer: Any, count: int, thinking: bool = True) -> list[list[int]]:
    """Of different lengths, inside an opened thinking tag or behind an empty one."""
    asked = [[{"role": "user", "content": f"{'Count. ' * (n % 4)}{n}?"}] for n in range(count)]
    return [[*encode_prompt(tokenizer, one, thinking=thinking), 300 + n] for n, one in enumerate(asked)]


def generate(
    model: Any, tokenizer: Any, given: list[list[int]], processor: Any, **how: Any
) -> list[list[int]]:
    batch = tokenizer.pad({"input_ids": given}, return_tensors="pt")
    written = model.generate(
        **batch,
        max_new_tokens=STEPS,
        **{"do_sample": False, **how},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=[processor],
    )[:, batch["input_ids"].shape[1] :].tolist()
    end = tokenizer.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in written]


@pytest.mark.parametrize("budget", [0, 1, 7, 20, None])
def test_greedy_rows_are_those_of_the_engine(
    lively_model: Any, tiny_tokenizer: Any, budget: int | None
) -> None:
    given = prompts(tiny_tokenizer, 6)
    engine = TransformersEngine(lively_model, tiny_tokenizer, 8, GRACE)
    expected = engine.generate(given, Sampling(STEPS, 0.0), 0, budgets=[budget] * 6)
    processor = ThinkingBudgetLogitsProcessor(tiny_tokenizer, budget, GRACE)
    found = generate(lively_model, tiny_tokenizer, given, processor)
    assert found == [generation.token_ids for generation in expected]
    assert any(any(generation.forced) for generation in expected) == (budget is not None)


def test_every_row_has_its_own_budget_and_sampling_obeys(lively_model: Any, tiny_tokenizer: Any) -> None:
    given = prompts(tiny_tokenizer, 5)
    budgets = [0, 3, 9, None, 12]
    processor = ThinkingBudgetLogitsProcessor(tiny_tokenizer, budgets, GRACE)
    torch.manual_seed(0)
    found = generate(lively_model, tiny_tokenizer, given, processor, do_sample=True, num_return_sequences=3)
    tokens = BudgetTokens.of(tiny_tokenizer)
    forced = 0
    for index, row in enumerate(found):
        budget = budgets[index // 3]
        assert_obeyed(tokens, row, budget)
        forced += budget is not None and count_thinking(tokens, row) >= budget
    assert forced >= 10


def assert_obeyed(tokens: BudgetTokens, written: list[int], budget: int | None) -> None:
    """Wherever the machine demands a token, that token is written."""
    state = ThinkingBudget(tokens, budget, GRACE)
    for token in written:
        demanded = state.force()
        assert demanded in (None, token)
        state.observe(token)


def test_a_tag_of_several_tokens_is_written_to_its_end(lively_model: Any, tiny_tokenizer: Any) -> None:
    bare = without_tag_tokens(tiny_tokenizer)
    tokens = BudgetTokens.of(bare)
    assert len(tokens.close) > 1
    given = prompts(bare, 6)
    assert all(tokens.opened(prompt) for prompt in given), "the tag is found though it is cut into pieces"
    engine = TransformersEngine(lively_model, bare, 8, GRACE)
    expected = engine.generate(given, Sampling(STEPS, 0.0), 0, budgets=[5] * 6)
    found = generate(lively_model, bare, given, ThinkingBudgetLogitsProcessor(bare, 5, GRACE))
    assert found == [generation.token_ids for generation in expected]
    for generation in expected:
        if generation.token_ids[-1] != bare.eos_token_id:
            assert sum(generation.forced) == len(tokens.close)


def test_without_opened_thinking_nothing_is_touched(lively_model: Any, tiny_tokenizer: Any) -> None:
    given = prompts(tiny_tokenizer, 4, thinking=False)
    free = generate(lively_model, tiny_tokenizer, given, ThinkingBudgetLogitsProcessor(tiny_tokenizer, None))
    assert (
        generate(lively_model, tiny_tokenizer, given, ThinkingBudgetLogitsProcessor(tiny_tokenizer, 0, 0))
        == free
    )
    # A prompt that does not show it: nothing unless it is said, or the model opens the tag itself.
    plain = [[5, 300 + n] for n in range(4)]
    told = ThinkingBudgetLogitsProcessor(tiny_tokenizer, 0, opened=True)
    close = BudgetTokens.of(tiny_tokenizer).close
    assert all(tuple(row[:1]) == close for row in generate(lively_model, tiny_tokenizer, plain, told))


def test_thinking_that_the_model_opens_is_counted_from_its_tag(tiny_tokenizer: Any) -> None:
    processor = ThinkingBudgetLogitsProcessor(tiny_tokenizer, 2, 0)
    (opening,) = tiny_tokenizer.encode(THINK_OPEN)
    (close,) = BudgetTokens.of(tiny_tokenizer).close
    written, forced = [5, 6], []
    for wanted in (opening, 40, 41, 42, 43):
        scores = torch.zeros(1, len(tiny_tokenizer))
        scores[0, wanted] = 1.0
        out = processor(torch.tensor([written]), scores)
        written.append(int(out.argmax()))
        forced.append(bool(torch.isinf(out).any()))
    assert written[2:] == [opening, 40, 41, close, 43]
    assert forced == [False, False, False, True, False]


def test_scores_are_not_changed_in_place(tiny_tokenizer: Any) -> None:
    processor = ThinkingBudgetLogitsProcessor(tiny_tokenizer, [0, None], opened=True)
    scores = torch.rand(2, 50 + len(tiny_tokenizer))
    kept = scores.clone()
    out = processor(torch.tensor([[5], [6]]), scores)
    assert torch.equal(scores, kept)
    assert torch.equal(out[1], kept[1])
    assert out[0].isfinite().nonzero().flatten().tolist() == list(BudgetTokens.of(tiny_tokenizer).close)


def test_it_is_made_for_one_call(tiny_tokenizer: Any) -> None:
    processor = ThinkingBudgetLogitsProcessor(tiny_tokenizer, 3)
    processor(torch.ones(2, 4, dtype=torch.long), torch.zeros(2, 600))
    with pytest.raises(ValueError, match="Make a new one for each call"):
        processor(torch.ones(2, 4, dtype=torch.long), torch.zeros(2, 600))
    with pytest.raises(ValueError, match="3 thinking budgets for 2 rows"):
        ThinkingBudgetLogitsProcessor(tiny_tokenizer, [1, 2, 3])(
            torch.ones(2, 4, dtype=torch.long), torch.zeros(2, 600)
        )
