"""A class in TRL's style, as it is: what it asks, what it answers, what it gives, and what is refused."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest
import torch
import yaml
from datasets import Dataset
from scripted_engine import Script
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template

from alloy.environments.arithmetic import ArithmeticEnvironment
from alloy.environments.function_calls import FunctionCallsEnvironment
from alloy.environments.python_tool import PythonEnvironment
from alloy.environments.registry import (
    Environments,
    check_gold,
    fingerprint_environment,
    make_environment,
)
from alloy.environments.row_files import SPLITS
from alloy.environments.task import Message, Task
from alloy.environments.trl_factory import as_trl_environment
from alloy.environments.trl_interface import UNAVAILABLE, TrlEnvironment, TrlWorld
from alloy.environments.workplace import WorkplaceEnvironment
from alloy.errors import InputError
from alloy.policy import load_tokenizer
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out
from alloy.rollout.engine import Sampling
from alloy.template import encode_conversation, encode_prompt
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN

DOCS = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


class WordGuess:
    """A word is to be guessed from its length and the letters that one asks for."""

    def reset(self, word: str, topic: str | None = None, **row: Any) -> str | None:
        self.word, self.guesses = word, []
        return f" It has {len(word)} letters" + (f" and is about {topic}." if topic else ".")

    def guess(self, word: str) -> str:
        """Guess the word.

        Args:
            word: all of its letters.

        Returns:
            Whether it is the word.
        """
        self.guesses.append(word)
        if len(word) != len(self.word):
            raise ValueError(f"{word!r} has {len(word)} letters")
        return "right" if word == self.word else "wrong"

    def letter(self, place: int, case: Literal["lower", "upper"] | None = None) -> str:
        """Ask for a letter.

        Args:
            place: from 1.
            case: how it is written.
        """
        found = self.word[place - 1]
        return found.upper() if case == "upper" else found

    def get_reward(self) -> float:
        return 1 / len(self.guesses) if self.word in self.guesses else 0.0

    @property
    def broken(self) -> str:
        raise AssertionError("nobody reads this")

    def _secret(self) -> str:
        return self.word


class Odd(WordGuess):
    """What environments do that they should not; `get_reward` returns what a row says."""

    def reset(self, gives: Any = 0, **row: Any) -> Any:
        self.gives, self.word = gives, "a"
        return row.get("says")

    def get_reward(self) -> Any:
        if self.gives == "raise":
            raise RuntimeError("the server is gone")
        return float(self.gives) if isinstance(self.gives, str) else self.gives

    def act(self, how: str, items: list[int] | None = None) -> Any:
        """Do it.

        Args:
            how: what is to be done.
            items: some numbers.
        """
        if how == "exit":
            sys.exit("policies end no run")
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "silent":
            raise ValueError
        if how == "sort":
            assert items is not None
            items.sort()
        said = {
            "sort": items,
            "half": "\ud800",
            "text": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}],
            "image": [{"type": "image", "image": "x.png"}],
            "nothing": None,
        }
        return said[how]


class Moody(WordGuess):
    """Says something else each time."""

    def reset(self, **row: Any) -> str:
        self.word = "a"
        return random.choice("abcdefgh") + str(random.random())


class Forgetful(WordGuess):
    """Says the same for so long as nobody changes its mind."""

    mood = "fine"

    def reset(self, **row: Any) -> str:
        self.word = "a"
        if Forgetful.mood == "raise":
            raise ConnectionError("no server")
        return Forgetful.mood


def named(cls: type | Callable[[], Any]) -> str:
    return f"{__name__}:{cls.__name__}"


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def words(*found: str) -> list[dict[str, Any]]:
    return [{"prompt": "Guess the word.", "word": word} for word in found]


def made_of(
    tmp_path: Path, rows: Sequence[Any], cls: type | Callable[[], Any] = WordGuess
) -> tuple[TrlEnvironment, list[Task]]:
    """An environment whose rows are all in test, and its tasks in the order of the rows."""
    path = write(tmp_path / "rows.jsonl", rows)
    environment = TrlEnvironment(named(cls), paths={"test": str(path)})
    tasks = environment.tasks("test", len(environment.rows["test"]), 0)
    order = [row.id for row in environment.rows["test"]]
    return environment, sorted(tasks, key=lambda task: order.index(task.template))


def world_of(tmp_path: Path, row: dict[str, Any], cls: type = WordGuess) -> TrlWorld:
    environment, (task,) = made_of(tmp_path, [row], cls)
    return environment.open(task)


# What is asked, and of whom.


def test_a_task_asks_what_the_row_and_reset_say(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which word?"}]
    rows = [*words("crane"), {"prompt": turns, "word": "sea", "topic": "water"}]
    environment, (one, two) = made_of(tmp_path, rows)
    assert one.messages == [{"role": "user", "content": "Guess the word. It has 5 letters."}]
    assert two.messages == [
        turns[0],
        {"role": "user", "content": "Which word? It has 3 letters and is about water."},
    ]
    assert one.demonstration == []
    assert one.environment == environment.name == "trl"
    assert check_gold(Environments({"trl": environment}), [one, two]) == 0


def test_the_tools_are_the_public_methods(tmp_path: Path) -> None:
    _, (task,) = made_of(tmp_path, words("crane"))
    guess, letter = task.tools
    assert guess == {
        "name": "guess",
        "description": "Guess the word.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "all of its letters."}},
            "required": ["word"],
        },
        "return": {"type": "string", "description": "Whether it is the word."},
    }
    assert letter["name"] == "letter"
    assert letter["parameters"]["required"] == ["place"]


def prompts_of_trl(
    folder: Path, tokenizer: Any, model: Any, rows: list[dict[str, Any]]
) -> list[tuple[Any, list[int]]]:
    """What TRL's own trainer asks in a step with the class: the turns, and their tokens."""
    trainer = GRPOTrainer(
        model=model,
        args=arguments_of_trl(folder, 4, num_generations=2, max_completion_length=4),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        environment_factory=WordGuess,
    )
    trainer.train()
    asked = list(trainer._logs["prompt"])
    return list(zip(asked, trainer._tokenize_prompts(asked)[0], strict=True))


def arguments_of_trl(folder: Path, rows: int, **more: Any) -> GRPOConfig:
    return GRPOConfig(
        str(folder), per_device_train_batch_size=rows, max_steps=1, use_cpu=True, bf16=False,
        report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, **more,
    )  # fmt: skip


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing by more, and loses much to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trl_tokenizer(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny model's, told how calls are written in Alloy's template, as docs/environments.md tells it."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    tokenizer = load_tokenizer(tiny_model_folder)
    tokenizer.response_template = qwen3_template
    return tokenizer


@pytest.mark.usefixtures("_one_thread")
def test_trl_asks_the_same_token_for_token(tmp_path: Path, trl_tokenizer: Any, tiny_model: Any) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": f"Guess word {n}."}], "word": word}
        for n, word in enumerate(("crane", "sea"))
    ]
    _, tasks = made_of(tmp_path, rows)
    ours = [(t.messages, encode_prompt(trl_tokenizer, t.messages, t.tools, True)) for t in tasks]
    theirs = prompts_of_trl(tmp_path, trl_tokenizer, tiny_model.train(), rows)
    assert len(theirs) == 4
    assert all(pair in ours for pair in theirs)
    assert all(pair in theirs for pair in ours)


# Rollouts.


def call(name: str, **arguments: Any) -> str:
    return f"{CALL_OPEN}{json.dumps({'name': name, 'arguments': arguments})}{CALL_CLOSE}"


def roll(
    tokenizer: Any, environment: TrlEnvironment, tasks: Sequence[Task], scripts: Sequence[Sequence[str]]
) -> list[Rollout]:
    return roll_out(
        tasks,
        [False] * len(tasks),
        Script(tokenizer, scripts),
        tokenizer,
        Environments({"trl": environment}),
        RolloutPlan(Sampling(64), max_turns=4),
        0,
    )


def answers(rollout: Rollout) -> list[str]:
    return [turn["content"] for turn in rollout.messages if turn["role"] == "tool"]


def test_rollouts_of_one_task_have_an_instance_each(tmp_path: Path, tiny_tokenizer: Any) -> None:
    environment, (task,) = made_of(tmp_path, words("sea"))
    scripts = [
        [call("letter", place=1), call("guess", word="sky") + call("guess", word="sea"), "It is sea."],
        [call("guess", word="sea"), "It is sea."],
        [call("guess", word="sky"), "I give up."],
        ["It is sea."],
    ]
    rollouts = roll(tiny_tokenizer, environment, [task] * 4, scripts)
    assert [answers(rollout) for rollout in rollouts] == [["s", "wrong", "right"], ["right"], ["wrong"], []]
    assert [r.verdict.reward for r in rollouts if r.verdict] == [0.5, 1.0, 0.0, 0.0]
    assert all(rollout.finished for rollout in rollouts)


def test_a_wrong_call_is_answered_and_the_policy_may_mend_it(tmp_path: Path, tiny_tokenizer: Any) -> None:
    environment, (task,) = made_of(tmp_path, words("sea"))
    script = [
        call("guess", words="sea"),
        call("peek") + call("guess", word="ocean"),
        call("guess", word="sea"),
    ]
    (rollout,) = roll(tiny_tokenizer, environment, [task], [[*script, "It is sea."]])
    assert answers(rollout) == [
        "error: guess: Additional properties are not allowed ('words' was unexpected)",
        "error: there is no tool 'peek'",
        "error: 'ocean' has 5 letters",
        "right",
    ]
    assert rollout.verdict is not None
    assert rollout.verdict.reward == 0.5


def test_a_rollout_is_judged_in_the_environment_that_a_config_names(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    path = write(tmp_path / "rows.jsonl", words("sea", "sky"))
    options = {"environment": named(WordGuess), "paths": {"test": str(path)}}
    environments = Environments.make({"words": options}, {"words": "trl"})
    tasks = environments.tasks("words", "test", 2, 0, system="Be brief.")
    scripts = [[call("guess", word="sea"), "Done."]] * 2
    plan = RolloutPlan(Sampling(64), max_turns=4)
    found = roll_out(
        tasks, [False] * 2, Script(tiny_tokenizer, scripts), tiny_tokenizer, environments, plan, 0
    )
    assert sorted(r.verdict.reward for r in found if r.verdict) == [0.0, 1.0]
    assert {turn["content"] for task in tasks for turn in task.messages if turn["role"] == "system"} == {
        "Be brief."
    }


# Calls.


@pytest.mark.parametrize(
    "name", ["_secret", "reset", "get_reward", "broken", "__init__", "word", "", 7, None]
)
def test_what_is_no_tool_cannot_be_called(tmp_path: Path, name: Any) -> None:
    world = world_of(tmp_path, words("sea")[0])
    assert world.call(name, {}) == f"error: there is no tool {str(name)!r}"
    assert world.instance.guesses == []


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("letter", {"place": 2}, "e"),
        ("letter", {"place": 2, "case": "upper"}, "E"),
        ("letter", {"place": 2, "case": None}, "e"),
        ("letter", {"place": 9}, "error: string index out of range"),
        ("letter", {"place": "2"}, "error: letter: place: '2' is not of type 'integer'"),
        ("letter", {"place": True}, "error: letter: place: True is not of type 'integer'"),
        ("letter", {"place": 2, "case": "bold"}, "error: letter: case: 'bold' is not one of ['lower', 'upper']"),
        ("letter", {}, "error: letter: 'place' is a required property"),
        ("letter", {"place": 1, "word": "x"}, "error: letter: Additional properties are not allowed ('word' was"),
        ("letter", {"place": 1, "self": "x"}, "error: letter: Additional properties are not allowed ('self' was"),
        ("letter", [2], "error: letter: [2] is not of type 'object'"),
        ("letter", None, "error: letter: None is not of type 'object'"),
        ("guess", {"word": "x" * 5000}, "error: 'xxx"),
    ],
)  # fmt: skip
def test_arguments_are_checked_before_the_method_sees_them(
    tmp_path: Path, name: str, arguments: Any, answer: str
) -> None:
    world = world_of(tmp_path, words("sea")[0])
    assert world.call(name, arguments).startswith(answer)


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("exit", "error: policies end no run"),
        ("silent", "error: ValueError"),
        ("unknown", "error: 'unknown'"),
        ("half", "?"),
        ("text", "a b"),
        ("nothing", "None"),
    ],
)
def test_whatever_a_method_does_is_an_answer(tmp_path: Path, how: str, answer: str) -> None:
    environment, (task,) = made_of(tmp_path, [{"prompt": "x", "gives": 1}], Odd)
    world = environment.open(task)
    assert world.call("act", {"how": how}) == answer
    assert environment.judge(task, [], world).reward == 1.0


def test_an_interrupt_is_for_the_run(tmp_path: Path) -> None:
    world = world_of(tmp_path, {"prompt": "x"}, Odd)
    with pytest.raises(KeyboardInterrupt):
        world.call("act", {"how": "interrupt"})


def test_a_method_cannot_change_what_the_policy_wrote(tmp_path: Path) -> None:
    world = world_of(tmp_path, {"prompt": "x"}, Odd)
    arguments = {"how": "sort", "items": [3, 1, 2]}
    assert world.call("act", arguments) == "[1, 2, 3]"
    assert arguments == {"how": "sort", "items": [3, 1, 2]}
    assert world.call("act", {"how": "sort", "items": [3, "1"]}).startswith("error: act: items")


def test_an_image_is_the_environment_s_failure(tmp_path: Path) -> None:
    environment, (task,) = made_of(tmp_path, [{"prompt": "x", "gives": 1}], Odd)
    world = environment.open(task)
    assert world.call("act", {"how": "image"}) == UNAVAILABLE
    assert world.call("act", {"how": "text"}) == UNAVAILABLE
    (verdict,) = Environments({"trl": environment}).judge([(task, [], world)])
    assert (verdict.reward, verdict.status) == (None, "error")
    assert verdict.detail == "act: it returned a block of type 'image', and policies read text"


# Rewards.


@pytest.mark.parametrize("gives", [0, 1, 0.25, True, -3.5, 12])
def test_a_reward_is_what_get_reward_returns(tmp_path: Path, gives: Any) -> None:
    environment, (task,) = made_of(tmp_path, [{"prompt": "x", "gives": gives}], Odd)
    verdict = environment.judge(task, [], environment.open(task))
    assert (verdict.reward, verdict.status) == (float(gives), "ok")


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        ("raise", "get_reward: RuntimeError: the server is gone"),
        ("nan", "get_reward gave nan, a finite number is needed"),
        ("inf", "get_reward gave inf, a finite number is needed"),
        ([1.0], "get_reward: TypeError: float() argument must be"),
        ({}, "get_reward: TypeError: float() argument must be"),
    ],
)
def test_a_reward_that_cannot_be_had_is_an_error_and_no_zero(tmp_path: Path, gives: Any, told: str) -> None:
    environment, (task,) = made_of(tmp_path, [{"prompt": "x", "gives": gives}], Odd)
    verdict = environment.judge(task, [], environment.open(task))
    assert (verdict.reward, verdict.status) == (None, "error")
    assert verdict.detail.startswith(told)


def test_without_a_world_the_calls_are_made_in_a_fresh_one(tmp_path: Path) -> None:
    environment, (task,) = made_of(tmp_path, words("sea"))
    calls = [{"name": "guess", "arguments": {"word": word}} for word in ("sky", "sea")]
    turns = [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "assistant", "content": "Done."},
    ]
    assert environment.judge(task, turns, None).reward == 0.5
    with pytest.raises(TypeError, match="a Strange is no world of trl"):
        environment.judge(task, turns, type("Strange", (), {})())


# Reset.


def test_reset_must_say_the_same_for_the_same_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows.jsonl:1: reset of .*:Moody says something else each time"):
        made_of(tmp_path, [{"prompt": "x"}], Moody)


def test_a_reset_that_fails_later_is_the_environment_s_failure(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, (task,) = made_of(tmp_path, [{"prompt": "x"}], Forgetful)
    for mood, told in (
        ("raise", "reset: ConnectionError: no server"),
        ("new", "reset said 'new', and 'fine' before"),
    ):
        monkeypatch.setattr(Forgetful, "mood", mood)
        (rollout,) = roll(tiny_tokenizer, environment, [task], [[call("guess", word="a"), "Done."]])
        assert answers(rollout) == [UNAVAILABLE]
        assert rollout.verdict is not None
        assert (rollout.verdict.reward, rollout.verdict.detail) == (None, told)
        assert environment.judge(task, [], environment.open(task)).detail == told
    monkeypatch.setattr(Forgetful, "mood", "raise")
    with pytest.raises(InputError, match="rows.jsonl:1: reset of .*: ConnectionError: no server. Correct"):
        environment.tasks("test", 1, 0)


@pytest.mark.parametrize(
    ("says", "asked"),
    [(None, "x"), (" y", "x y"), ([{"type": "text", "text": " y"}, {"type": "text", "text": "z"}], "x yz")],
)
def test_what_reset_returns_is_appended(tmp_path: Path, says: Any, asked: str) -> None:
    _, (task,) = made_of(tmp_path, [{"prompt": "x", "says": says}], Odd)
    assert task.messages == [{"role": "user", "content": asked}]


@pytest.mark.parametrize("says", [7, {"text": "y"}, [1], [{"type": "image", "image": "x.png"}]])
def test_what_reset_returns_must_be_text(tmp_path: Path, says: Any) -> None:
    with pytest.raises(InputError, match="rows.jsonl:1: reset of .*: NotText: it returned"):
        made_of(tmp_path, [{"prompt": "x", "says": says}], Odd)


def test_a_class_may_ask_everything_itself_but_not_nothing(tmp_path: Path) -> None:
    for row in ({"says": "y", "gives": 1}, {"prompt": "", "says": "y"}, {"prompt": None, "says": "y"}):
        _, (task,) = made_of(tmp_path, [row], Odd)
        assert task.messages == [{"role": "user", "content": "y"}]
    with pytest.raises(InputError, match="rows.jsonl:1: nothing is asked: there is no prompt, and reset of"):
        made_of(tmp_path, [{"gives": 1}], Odd)


class Listening(WordGuess):
    def reset(self, prompt: Any, **row: Any) -> str:
        self.word = "a"
        return json.dumps([prompt, row])


class Strict(WordGuess):
    def reset(self, word: str) -> None:  # type: ignore[override]
        self.word = word


def test_reset_is_given_the_row_as_trl_gives_it(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x"}]
    row = {"seed": 3, "names": ["a", "b"], "at": {"x": 1.5}}
    for prompt in (turns, "x"):
        _, (task,) = made_of(tmp_path, [{"prompt": prompt, **row, "empty": None}], Listening)
        assert json.loads(task.messages[0]["content"].removeprefix("x")) == [turns, row]
    _, (task,) = made_of(tmp_path, words("sea"), Strict)
    assert task.messages == [{"role": "user", "content": "Guess the word."}]


# Rows.


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"prompt": "Guess the word.", "word": f"w{n}"} for n in range(count)]


def test_rows_are_split_by_a_hash_of_all_they_say(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*rows_of(1000), *rows_of(20)])
    environment = TrlEnvironment(named(WordGuess), str(path))
    ids = {split: {row.id for row in environment.rows[split]} for split in SPLITS}
    assert sum(map(len, ids.values())) == 1000 == len(set().union(*ids.values()))
    # 90, 5 and 5 of a hundred; five standard deviations.
    assert abs(len(ids["train"]) - 900) < 48
    assert abs(len(ids["validation"]) - 50) < 35
    assert environment.counts["duplicates"] == 20
    more = TrlEnvironment(named(WordGuess), str(write(tmp_path / "b.jsonl", rows_of(1500)[::-1])))
    for split in SPLITS:
        assert ids[split] < {row.id for row in more.rows[split]}


def test_a_longer_list_starts_with_the_shorter_and_the_seed_orders_it(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.jsonl", rows_of(200)))
    environment = TrlEnvironment(named(WordGuess), path, shares={"train": 0.5, "validation": 0, "test": 0.5})
    long = environment.tasks("train", 60, 7)
    assert TrlEnvironment(named(WordGuess), path, shares={"train": 0.5, "validation": 0, "test": 0.5}).tasks("train", 20, 7) == long[:20]  # fmt: skip
    assert environment.tasks("train", 60, 8) != long
    assert len({task.id for task in long}) == 60
    assert {t.template for t in long}.isdisjoint(t.template for t in environment.tasks("test", 60, 7))
    with pytest.raises(InputError, match="1 tasks are asked for, and the validation split has 0 rows"):
        environment.tasks("validation", 1, 0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "x"}, "reset of test_trl_interface:Strict: missing a required argument: 'word'"),
        (
            {"prompt": "x", "word": "a", "seed": 3},
            "reset of test_trl_interface:Strict: got an unexpected keyword argument 'seed'",
        ),
        ({"prompt": 7, "word": "a"}, "`prompt` is int, a text or a list of turns is needed"),
        (
            {"prompt": [{"role": "system", "content": "x"}], "word": "a"},
            "`prompt` does not end with the user's turn",
        ),
        ({"prompt": [{"role": "nobody", "content": "x"}], "word": "a"}, "a turn's role is 'nobody'"),
        ({"prompt": [], "word": "a"}, "`prompt` does not end with the user's turn"),
        ("{", "not JSON"),
        ("[]", "list where an object is needed"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, row: Any, told: str) -> None:
    path = write(tmp_path / "bad.jsonl", [*words("sea"), row])
    with pytest.raises(InputError) as caught:
        TrlEnvironment(named(Strict), paths={"test": str(path)}).tasks("test", 1, 0)
    assert str(caught.value).startswith(f"{path}:2: {told}")
    assert str(caught.value).endswith("1 of 2 rows are bad. Correct or remove them.")


# Classes that do not fit.


class NoReset:
    def act(self) -> str:
        """Act."""
        return ""

    def get_reward(self) -> float:
        return 0.0


class NoReward(WordGuess):
    get_reward = None  # type: ignore[assignment]


class NoTool:
    def reset(self, **row: Any) -> None: ...

    def get_reward(self) -> float:
        return 0.0


class AsyncTool(WordGuess):
    async def wait(self) -> str:
        """Wait."""
        return ""


class AsyncReward(WordGuess):
    async def get_reward(self) -> float:  # type: ignore[override]
        return 0.0


class AsyncReset(WordGuess):
    async def reset(self, **row: Any) -> None:  # type: ignore[override]
        ...


class Demanding(WordGuess):
    def __init__(self, url: str) -> None:
        self.url = url


def make_demanding() -> Demanding:
    return Demanding("http://localhost")


def make_broken() -> WordGuess:
    raise ConnectionError("no server")


LIMIT = 7


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ("WordGuess", "environment = 'WordGuess': name one of yours, package.module:Name."),
        (None, "environment = None: name one of yours"),
        (":A", "environment = ':A': name one of yours"),
        ("no_such_module:A", "No module named 'no_such_module'. Name it package.module:Name, and put it on PYTHONPATH."),
        (f"{__name__}:A", f"module '{__name__}' has no attribute 'A'. Name it package.module:Name"),
        (f"{__name__}:LIMIT", "it is int, and a class or a function is needed. Name one."),
        (named(NoReset), ":NoReset: there is no reset. Give it a method reset(self, ...) that takes a row's columns"),
        (named(NoReward), ":NoReward: there is no get_reward, and Alloy takes no reward function beside a class. Give it"),
        (named(NoTool), ":NoTool: there is no public method, so nothing can be called. Give it one a tool."),
        (named(AsyncTool), ":AsyncTool: wait is async, and Alloy waits for no coroutine. Make it a plain method"),
        (named(AsyncReward), ":AsyncReward: get_reward is async"),
        (named(AsyncReset), ":AsyncReset: reset is async"),
        (named(make_broken), ":make_broken: it cannot be made (ConnectionError: no server). It must be made without"),
    ],
)  # fmt: skip
def test_a_class_that_does_not_fit_is_refused_at_once(tmp_path: Path, environment: Any, told: str) -> None:
    path = str(write(tmp_path / "rows.jsonl", ["not looked at"]))
    with pytest.raises(InputError) as caught:
        make_environment("trl", {"environment": environment, "path": path})
    assert told in str(caught.value)


def test_an_instance_is_made_without_arguments_by_the_class_or_a_function(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be made .*url.*It must be made without arguments"):
        made_of(tmp_path, words("sea"), Demanding)
    environment, (task,) = made_of(tmp_path, words("sea"), make_demanding)
    world = environment.open(task)
    assert world.instance.url == "http://localhost"
    assert world.call("guess", {"word": "sea"}) == "right"


class NoHint(WordGuess):
    def act(self, how) -> str:  # type: ignore[no-untyped-def]
        """Act.

        Args:
            how: somehow.
        """
        return ""


class NoDocstring(WordGuess):
    def act(self) -> str:
        return ""


class NoDescription(WordGuess):
    def act(self, how: str) -> str:
        """Act."""
        return ""


class TakesTensor(WordGuess):
    def act(self, how: torch.Tensor) -> str:
        """Act.

        Args:
            how: a sound.
        """
        return ""


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (NoHint, "Argument how is missing a type hint"),
        (NoDocstring, "it has no docstring"),
        (NoDescription, "the docstring has no description for the argument 'how'"),
        (TakesTensor, "'audio' is not valid under any of the given schemas"),
    ],
)
def test_a_tool_that_cannot_be_described_is_refused(tmp_path: Path, cls: type, told: str) -> None:
    with pytest.raises(InputError) as caught:
        made_of(tmp_path, words("sea"), cls)
    assert f":{cls.__name__}: act cannot be described as a tool (" in str(caught.value)
    assert told in str(caught.value)
    assert str(caught.value).endswith("and a line under Args: in the docstring.")


# Identity.

SMALL = """\
class Small:
    def reset(self, **row): ...
    def get_reward(self): return 1.0
    def act(self) -> str:
        "Act."
        return "done"
"""


def test_the_fingerprint_is_of_the_module_and_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    rows = write(tmp_path / "rows.jsonl", words("sea"))
    for name, text in (("small_a", SMALL), ("small_b", SMALL), ("small_c", SMALL + "# other\n")):
        (tmp_path / f"{name}.py").write_text(text)
    options = {"paths": {"test": str(rows)}}

    def fingerprint(module: str) -> str:
        return fingerprint_environment("trl", {"environment": f"{module}:Small", **options})

    before = fingerprint("small_a")
    assert fingerprint("small_b") == before
    assert fingerprint("small_c") != before
    write(rows, words("sea", "sky"))
    assert fingerprint("small_a") != before
    for wrong, told in (
        ({"environment": "small_x:Small", **options}, "there is no module small_x. Put it on PYTHONPATH."),
        ({"environment": "small_a:Small"}, "path, paths: give one of them"),
        (
            {"environment": "small_a:Small", "path": "none.jsonl"},
            "path: none.jsonl: there is no such file",
        ),
        (options, "environment = None: name one of yours"),
    ):
        with pytest.raises(InputError) as caught:
            fingerprint_environment("trl", wrong)
        assert told in str(caught.value)


def test_a_config_is_read_without_torch(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    rows = str(write(tmp_path / "rows.jsonl", words("sea")))
    code = f"""
        import sys
        from alloy.environments.registry import fingerprint_environment, make_environment
        options = {{"environment": "small:Small", "paths": {{"test": {rows!r}}}}}
        fingerprint_environment("trl", options)
        assert "small" not in sys.modules
        environment = make_environment("trl", options)
        print(*({{"torch", "transformers", "datasets"}} & set(sys.modules)))
        print(environment.tasks("test", 1, 0)[0].tools[0]["name"])
    """
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\nact\n"


def test_the_config_in_the_docs_is_one(tmp_path: Path) -> None:
    section = DOCS.split("## A class written for TRL", 1)[1].split("\n## ", 1)[0]
    block = dedent(re.findall(r"\n((?:    .*\n)+)", section)[0])
    given = yaml.safe_load(block)["environments"]["words"]
    path = str(write(tmp_path / "rows.jsonl", rows_of(given["tasks"] * 2)))
    assert set(given["options"]) == {"environment", "path"}
    options = {"environment": named(WordGuess), "path": path}
    environments = Environments.make({"words": options}, {"words": given["environment"]})
    assert len(environments.tasks("words", "train", given["tasks"], 0)) == given["tasks"]


# The other direction.


def workplace_task() -> tuple[WorkplaceEnvironment, Task]:
    environment = WorkplaceEnvironment(
        kinds=["write"], rows_per_table=3, words=8, tools_offered=1, thinking=False
    )
    return environment, environment.tasks("train", 1, 0)[0]


def nll(model: Any, tokenizer: Any, task: Task, turns: list[Message]) -> torch.Tensor:
    """Of all that the assistant writes in a conversation, in nats."""
    (encoded,) = encode_conversation(tokenizer, [*task.messages, *turns], task.tools, True)
    ids = torch.tensor(encoded.input_ids)
    logprobs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
    told = logprobs.gather(1, ids[1:, None])[:, 0]
    return -(told * torch.tensor(encoded.completion_mask[1:])).sum()


@pytest.mark.usefixtures("_one_thread")
def test_a_plain_trainer_of_trl_learns_in_the_workplace(
    tmp_path: Path, trl_tokenizer: Any, tiny_model: Any
) -> None:
    environment, task = workplace_task()
    found = as_trl_environment(environment, [task])
    (tool,) = task.tools
    method = getattr(found["environment_factory"], tool["name"])
    shown = replace(task, tools=[get_json_schema(method)["function"]])
    # A policy that half the time does what is asked, and half the time only says so.
    acting, idle = task.demonstration, [{"role": "assistant", "content": "Done."}]
    optimizer = torch.optim.AdamW(tiny_model.train().parameters(), lr=0.01)
    for _ in range(300):
        both = torch.stack([nll(tiny_model, trl_tokenizer, shown, turns) for turns in (acting, idle)])
        if both.max() < 1.5:
            break
        optimizer.zero_grad()
        both.sum().backward()
        optimizer.step()
    before = both.detach()
    assert before.max() < 1.5  # nats; half the time is 0.69
    trainer = GRPOTrainer(
        model=tiny_model,
        args=arguments_of_trl(
            tmp_path, 16, num_generations=16, max_completion_length=120, learning_rate=1e-3
        ),
        processing_class=trl_tokenizer,
        **found,
    )
    trainer.train()
    rewards = list(trainer._logs["rewards"]["verdict"])
    completions = list(trainer._logs["completion"])
    assert set(rewards) == {0.0, 1.0}
    assert len(rewards) == 16
    wanted = acting[0]["tool_calls"][0]
    for reward, completion in zip(rewards, completions, strict=True):
        calls = [call["function"] for turn in completion for call in turn.get("tool_calls") or []]
        assert reward == (calls == [wanted])
        assert [turn["content"] for turn in completion if turn["role"] == "tool"] == (
            [acting[1]["content"]] if reward else []
        )
    # One step, and what was asked is done more often.
    with torch.no_grad():
        after = torch.stack([nll(tiny_model, trl_tokenizer, shown, turns) for turns in (acting, idle)])
    assert after[0] < before[0]
    assert after[1] > before[1]


def turn_of_trl(content: str, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {"tool_calls": [{"type": "function", "function": call} for call in calls]} if calls else {}
    return {"role": "assistant", "content": content, **made, **more}


def test_what_trl_collected_is_judged_by_alloy_s_verifier() -> None:
    environment = PythonEnvironment()
    tasks = environment.tasks("train", 2, 0)
    found = as_trl_environment(environment, tasks)
    rows = list(found["train_dataset"])
    assert [row["prompt"] for row in rows] == [task.messages for task in tasks]
    instances = [found["environment_factory"]() for _ in range(4)]
    for instance, row in zip(instances, [rows[0], *rows, rows[1]], strict=True):
        assert instance.reset(**row) is None
    code = {"name": "python", "arguments": {"code": "print(6 * 7)"}}
    said = instances[0].python(code="print(6 * 7)")
    assert said == "42"
    assert instances[0].python(program="x") == 'error: python takes one argument, "code"'
    right, wrong = (tasks[n].gold["answer"] for n in (0, 1))
    rewards = found["reward_funcs"](
        prompts=[],
        completions=[
            [turn_of_trl("", code), {"role": "tool", "name": "python", "content": said}, turn_of_trl(right)],
            [turn_of_trl("I cannot tell.")],
            [turn_of_trl(wrong, reasoning_content="so")],
            [turn_of_trl("", code), {"role": "tool", "name": "python", "content": wrong}],
        ],
        environments=instances,
        task=[],
    )
    assert rewards == [1.0, 0.0, 1.0, 0.0]
    instances[2]._world.failure = "the sandbox failed"
    assert found["reward_funcs"](completions=[[turn_of_trl(wrong)]], environments=instances[2:3]) == [None]


class Lamp:
    """Tools as schemas say them, and a world that says what it was called with."""

    name = "lamp"

    def __init__(self, *tools: dict[str, Any]) -> None:
        self.offered = list(tools)

    def task(self) -> Task:
        return Task("lamp/0", self.name, "t", [{"role": "user", "content": "Light."}], self.offered)

    def open(self, task: Task) -> Any:
        return self

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        return json.dumps([name, arguments])


def lamp_tool(name: str = "set", needed: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(needed)}
    return {"name": name, "description": "Set it.", "parameters": parameters}


def test_a_method_says_what_the_tool_says() -> None:
    tool = lamp_tool(
        needed=["size", "on"], on={"type": "boolean"}, size={"type": "number", "description": "in cm"},
        color={"type": "string", "enum": ["red", "blue"]}, level={"type": "integer"}, more={"type": "object"},
    )  # fmt: skip
    lamp = Lamp(tool, lamp_tool("off"))
    cls = as_trl_environment(lamp, [lamp.task()])["environment_factory"]  # type: ignore[arg-type]
    parameters = get_json_schema(cls.set)["function"]["parameters"]
    assert sorted(parameters.pop("required")) == ["on", "size"]
    assert parameters == {
        "type": "object",
        "properties": {
            "on": {"type": "boolean", "description": "on"},
            "size": {"type": "number", "description": "in cm"},
            "color": {"type": "string", "enum": ["red", "blue"], "description": "color"},
            "level": {"type": "integer", "description": "level"},
            "more": {"type": "object", "description": "more"},
        },
    }
    assert get_json_schema(cls.off)["function"]["description"] == "Set it."
    instance = cls()
    instance.reset(task="lamp/0", prompt=[])
    assert instance.set(size=3, colour="red") == '["set", {"size": 3, "colour": "red"}]'


@pytest.mark.parametrize(
    "tool",
    [
        lamp_tool(size={"type": "integer", "minimum": 1}),
        lamp_tool(size={"type": ["integer", "null"]}),
        lamp_tool(rooms={"type": "array", "items": {"type": "string"}}),
        lamp_tool("reset"),
        lamp_tool("get_reward"),
        lamp_tool("_set"),
        lamp_tool(**{"a-b": {"type": "string"}}),
        lamp_tool(a={"type": "string", "description": ""}, b={"type": "string"}),
        lamp_tool(self={"type": "string"}),
        {**lamp_tool(), "description": "Set it.\n\nArgs:\n    a: b"},
    ],
)  # fmt: skip
def test_a_tool_that_no_method_can_say_is_refused(tool: dict[str, Any]) -> None:
    lamp = Lamp(tool)
    with pytest.raises(
        InputError, match=f"{tool['name']}: no Python method says this tool's schema. Take tasks"
    ):
        as_trl_environment(lamp, [lamp.task()])  # type: ignore[arg-type]


def test_tasks_where_nothing_answers_are_refused() -> None:
    for environment in (ArithmeticEnvironment(), FunctionCallsEnvironment()):
        with pytest.raises(
            InputError, match="nothing answers a call here. Take tasks with tools and a world."
        ):
            as_trl_environment(environment, environment.tasks("train", 2, 0))
    with pytest.raises(InputError, match="workplace: nothing answers a call here"):
        as_trl_environment(WorkplaceEnvironment(), [])


def test_every_tool_of_the_workplace_can_be_said() -> None:
    environment = WorkplaceEnvironment()
    tasks = environment.tasks("train", 100, 0)
    cls = as_trl_environment(environment, tasks)["environment_factory"]
    offered = {tool["name"]: tool for task in tasks for tool in task.tools}
    assert len(offered) > 15
    for name, tool in offered.items():
        said = get_json_schema(getattr(cls, name))["function"]
        assert said["description"] == tool["description"]
        assert list(said["parameters"]["properties"]) == list(tool["parameters"]["properties"])
