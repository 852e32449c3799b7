import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alloy.environments.chat import ChatEnvironment
from alloy.environments.task import Task
from alloy.errors import InputError
from alloy.policy import save_policy, seed_everything
from alloy.rollout.conversation import Rollout
from rlhf.scoring import RewardModel, encode_answer
from rlhf.train import answer_scores
from rlhf.train_reward_model import _fitting, held_out_accuracy


@pytest.fixture(scope="module")
def reward_model_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, tiny_tokenizer: Any
) -> Path:
    from transformers import AutoModelForSequenceClassification

    seed_everything(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
    model.config.pad_token_id = tiny_tokenizer.pad_token_id
    folder = tmp_path_factory.mktemp("reward") / "model"
    save_policy(model, tiny_tokenizer, folder)
    return folder


PAIRS = list(ChatEnvironment().pairs("validation", 12, 0))
PROMPTS = [pair.task.messages for pair in PAIRS]
ANSWERS = [pair.chosen + " Gifts are nice." * (n % 4) for n, pair in enumerate(PAIRS)]


def test_a_score_is_the_head_s_value_at_the_last_token(reward_model_folder: Path) -> None:
    model = RewardModel(reward_model_folder)
    scores = model.score(PROMPTS, ANSWERS)
    for prompt, answer, score in zip(PROMPTS, ANSWERS, scores, strict=True):
        ids = encode_answer(model.tokenizer, prompt, answer)
        assert ids[-1] == model.tokenizer.eos_token_id
        with torch.no_grad():
            hidden = model.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            expected = model.model.score(hidden).item()
        assert score == pytest.approx(expected, abs=1e-5)


def test_order_and_batch_size_change_no_score(reward_model_folder: Path) -> None:
    model = RewardModel(reward_model_folder)
    scores = model.score(PROMPTS, ANSWERS)
    assert len(set(scores)) > 6
    order = list(range(len(PAIRS)))
    random.Random(1).shuffle(order)
    shuffled = RewardModel(reward_model_folder, batch_size=3).score(
        [PROMPTS[i] for i in order], [ANSWERS[i] for i in order]
    )
    assert shuffled == pytest.approx([scores[i] for i in order], abs=1e-5)
    assert model.score([], []) == []


def test_thinking_is_hidden_from_the_reward_model(reward_model_folder: Path) -> None:
    model = RewardModel(reward_model_folder)
    text = model.tokenizer.decode(encode_answer(model.tokenizer, PROMPTS[0], "A fern."))
    assert text.endswith("<|im_start|>assistant\n<think></think>\nA fern.<|im_end|>")


def test_accuracy_counts_a_tie_as_half() -> None:
    scores = {"good": 1.0, "bad": 0.0}
    model: Any = SimpleNamespace(score=lambda prompts, answers: [scores[a] for a in answers])
    pairs: Any = [
        SimpleNamespace(prompt=[], chosen=chosen, rejected=rejected)
        for chosen, rejected in (("good", "bad"), ("good", "bad"), ("bad", "good"), ("good", "good"))
    ]
    assert held_out_accuracy(model, pairs).value == (1 + 1 + 0 + 0.5) / 4


def rollout(answer: str, finished: bool = True, thinking: str = "") -> Rollout:
    turn = {"role": "assistant", "content": answer} | ({"thinking": thinking} if thinking else {})
    return Rollout(Task("t", "chat", "t", []), True, [1], messages=[turn], finished=finished)


class Lengths:
    """A reward model that likes long answers, so that what it was shown can be read from its scores."""

    def score(self, prompts: Any, answers: list[str]) -> list[float]:
        return [float(len(answer)) for answer in answers]


def test_an_unfinished_completion_is_below_the_others_in_their_own_units() -> None:
    config: Any = SimpleNamespace(hide_thinking=True, unfinished_reward=-2.0)
    model: Any = Lengths()
    score = answer_scores(model, config)
    # Finished: 2 and 6, mean 4, standard deviation 2; the unfinished one gets 4 - 2 * 2.
    assert score([rollout("ab"), rollout("abcdef"), rollout("a" * 90, finished=False)]).rewards == [
        2.0,
        6.0,
        0.0,
    ]
    # Nothing to compare with: the unit is 1.
    assert score([rollout("abc"), rollout("", finished=False)]).rewards == [3.0, 1.0]


def test_hide_thinking() -> None:
    model: Any = Lengths()
    for hide, expected in ((True, 2.0), (False, 6.0)):
        config: Any = SimpleNamespace(hide_thinking=hide, unfinished_reward=-2.0)
        assert answer_scores(model, config)([rollout("ab", thinking="abc")]).rewards == [
            expected
        ]  # abc, newline, ab


def test_pairs_that_do_not_fit_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"chosen_ids": [1] * c, "rejected_ids": [1] * r} for c, r in ((4, 5), (5, 6), (6, 4))]
    assert _fitting(rows, 6) == rows
    assert capsys.readouterr().out == ""
    assert _fitting(rows, 5) == rows[:1]
    assert (
        "2 of 3 pairs are longer than train.max_sequence_tokens = 5 and left out" in capsys.readouterr().out
    )
    with pytest.raises(InputError, match=r"none of the 3 pairs fits into train.max_sequence_tokens = 4"):
        _fitting(rows, 4)


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
