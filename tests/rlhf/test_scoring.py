import random
from pathlib import Path

import pytest
import torch

from alloy.environments.chat import ChatEnvironment
from alloy.judges.reward_model import RewardModel, encode_answer, length_batches

PAIRS = list(ChatEnvironment().pairs("validation", 12, 0))
PROMPTS = [pair.task.messages for pair in PAIRS]
ANSWERS = [pair.chosen + " Gifts are nice." * (n % 4) for n, pair in enumerate(PAIRS)]


def test_a_score_is_the_head_s_value_at_the_last_token(tiny_reward_model: Path) -> None:
    model = RewardModel(tiny_reward_model)
    scores = model.score(PROMPTS, ANSWERS)
    for prompt, answer, score in zip(PROMPTS, ANSWERS, scores, strict=True):
        ids = encode_answer(model.tokenizer, prompt, answer)
        assert ids[-1] == model.tokenizer.eos_token_id
        with torch.no_grad():
            hidden = model.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            expected = model.model.score(hidden).item()
        assert score == pytest.approx(expected, abs=1e-5)


def test_order_and_batch_size_change_no_score(tiny_reward_model: Path) -> None:
    model = RewardModel(tiny_reward_model)
    scores = model.score(PROMPTS, ANSWERS)
    assert len(set(scores)) > 6
    order = list(range(len(PAIRS)))
    random.Random(1).shuffle(order)
    # Some seventy tokens each: three or four at once.
    shuffled = RewardModel(tiny_reward_model, batch_tokens=250).score(
        [PROMPTS[i] for i in order], [ANSWERS[i] for i in order]
    )
    assert shuffled == pytest.approx([scores[i] for i in order], abs=1e-5)
    assert model.score([], []) == []


def test_batches_are_of_like_length_and_within_their_size() -> None:
    lengths = [3, 50, 4, 48, 5, 200]
    # 200 alone is too large for any company; 50 and 48 take 100; 5, 4 and 3 take 15.
    assert list(length_batches(lengths, 100)) == [[5], [1, 3], [4, 2, 0]]
    many = [n % 37 + 1 for n in range(500)]
    batches = list(length_batches(many, 400))
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    padded = sum(len(batch) * max(many[i] for i in batch) for batch in batches)
    assert all(len(batch) * max(many[i] for i in batch) <= 400 for batch in batches)
    assert padded < 1.06 * sum(many)


def test_a_conversation_that_is_too_long_has_no_score(
    tiny_reward_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = RewardModel(tiny_reward_model)
    assert model.most == 512
    short, long = "A fern.", "A fern. " * 300
    scores = model.score([PROMPTS[0]] * 3, [short, long, short])
    assert scores[1] is None
    assert scores[0] == scores[2] == pytest.approx(model.score([PROMPTS[0]], [short])[0], abs=1e-5)
    assert "1 conversations are longer than the 512 tokens" in capsys.readouterr().err
    assert model.too_long == 1


def test_thinking_is_hidden_from_the_reward_model(tiny_reward_model: Path) -> None:
    model = RewardModel(tiny_reward_model)
    text = model.tokenizer.decode(encode_answer(model.tokenizer, PROMPTS[0], "A fern."))
    assert text.endswith("<|im_start|>assistant\n<think></think>\nA fern.<|im_end|>")


def test_the_answer_is_read_where_a_template_rewrites_history() -> None:
    """Under Qwen3's rule the conversation is two sequences: the last one holds the answer."""
    from tests.test_template import bytes_tokenizer

    tokenizer = bytes_tokenizer("qwen3")
    prompt = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "thinking": "t"},
        {"role": "user", "content": "c"},
    ]
    for answer in ("GOOD", "BAD"):
        assert tokenizer.decode(encode_answer(tokenizer, prompt, answer)).endswith(f"{answer}<|im_end|>")
