"""What every single-turn environment promises: disjoint templates, the same tasks for a seed, gold that wins."""

from collections.abc import Callable
from statistics import fmean
from typing import Any, get_args

import pytest

from alloy.environments.chat import ATTRIBUTES, ChatEnvironment, attributes
from alloy.environments.instructions import CONSTRAINTS
from alloy.environments.phrasing import split_grid, split_templates
from alloy.environments.registry import Environments, check_gold, make_environment
from alloy.environments.task import Split, Task
from alloy.errors import InputError
from alloy.verify.instructions import verify_instructions
from alloy.verify.math import verify_math
from alloy.verify.verdict import Verdict

NAMES = ("math", "instructions", "chat", "recall")
SPLITS: tuple[Split, ...] = get_args(Split)

VERIFIERS: dict[str, Callable[[dict[str, Any]], Verdict]] = {
    "math": lambda row: verify_math(row["completion"], row["gold"]),
    "instructions": lambda row: verify_instructions(
        row["completion"], row["instruction_id_list"], row["kwargs"]
    ),
}


def judge(environment: Any, task: Task, completion: list[dict[str, Any]]) -> Verdict:
    """As the pool would, in this process."""
    verifier = getattr(environment, "verifier", None)
    if verifier is None:
        return environment.judge(task, completion, None)
    return VERIFIERS[verifier](environment.row(task, completion))


@pytest.mark.parametrize("name", NAMES)
def test_no_template_is_in_two_splits(name: str) -> None:
    environment = make_environment(name)
    templates = {split: {task.template for task in environment.tasks(split, 600, 0)} for split in SPLITS}
    assert all(templates.values())
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or templates[one].isdisjoint(templates[other])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_makes_the_same_tasks_and_a_longer_list_starts_with_the_shorter(name: str) -> None:
    short, long = make_environment(name).tasks("train", 5, 3), make_environment(name).tasks("train", 12, 3)
    assert long[:5] == short
    assert make_environment(name).tasks("train", 5, 4) != short
    assert len({task.id for task in long}) == 12


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["math", "instructions", "recall"])
def test_every_demonstration_wins_and_a_wrong_answer_does_not(name: str, split: Split) -> None:
    environment = make_environment(name)
    for task in environment.tasks(split, 40, 1):
        assert task.tools == []
        verdict = judge(environment, task, task.demonstration)
        assert (verdict.reward, verdict.status) == (1.0, "ok"), (task, verdict)
        wrong = judge(environment, task, [{"role": "assistant", "content": "I do not know!"}])
        if name != "instructions":
            assert wrong.reward == 0.0


def test_every_constraint_can_be_missed_and_is_drawn() -> None:
    environment = make_environment("instructions")
    missed: set[str] = set()
    drawn: set[str] = set()
    for task in environment.tasks("train", 300, 0):
        names = task.gold["instruction_id_list"]
        drawn |= set(names)
        for bad in ("I like it. MANY people love it, often! My friends like many people. " * 3, ""):
            verdict = judge(environment, task, [{"role": "assistant", "content": bad}])
            if len(names) == 1 and verdict.reward == 0.0:
                missed.add(names[0])
    assert drawn == set(CONSTRAINTS)
    assert missed == drawn


def test_arithmetic_is_worked_step_by_step() -> None:
    environment = make_environment("math", {"min_steps": 2, "max_steps": 5, "max_value": 60})
    for task in environment.tasks("train", 300, 0):
        turn = task.demonstration[0]
        lines = turn["thinking"].split("\n")
        assert len(lines) == task.gold["steps"]
        assert 2 <= len(lines) <= 5
        value = None
        for line in lines:
            left, right = line.split("=")
            operator = next(sign for sign in "+-*" if sign in left)
            a, b = map(int, left.split(operator))
            assert value in (None, a)
            value = {"+": a + b, "-": a - b, "*": a * b}[operator]
            assert value == int(right)
            assert 0 <= value <= 60
            assert str(b) in task.messages[0]["content"]
        assert turn["content"] == f"The answer is {value}."
        assert task.gold["answer"] == str(value)


def test_recall_asks_for_a_line_that_stands_there_once() -> None:
    for task in make_environment("recall", {"lines": 20}).tasks("test", 40, 0):
        key = task.demonstration[0]["thinking"].split('"')[1]
        text = task.messages[0]["content"]
        assert text.count(f'"{key}"') == 2  # its line and the question
        assert task.gold["answer"] in text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Happy to help. How about a tea mug? It is useful because it lasts long.", (1, 1, 1, 1, 1)),
        ("Hm. How about a tea mug?", (1, 0, 0, 1, 1)),
        ("Good question. How about a music book? It is useful because it lasts long.", (0, 1, 1, 1, 1)),
        ("How about a tea mug and a music book?", (0, 0, 0, 1, 1)),
        ("How about a tea mug? Buy it now!", (1, 0, 0, 0, 1)),
        ("Happy to help. Happy to help. How about a tea mug?", (1, 0, 1, 1, 0)),
        ("Happy to help.", (0, 0, 1, 0, 1)),
        ("", (0, 0, 0, 0, 0)),
    ],
)
def test_the_true_quality_of_a_chat_answer(answer: str, expected: tuple[int, ...]) -> None:
    assert attributes(answer, "tea") == dict(zip(ATTRIBUTES, map(float, expected), strict=True))
    environment = ChatEnvironment()
    task = Task("chat/x", "chat", "t", [], gold={"topic": "tea"})
    verdict = environment.judge(task, [{"role": "assistant", "content": answer}], None)
    assert verdict.reward == sum(expected) / 5
    assert verdict.parts == attributes(answer, "tea")


def test_length_is_no_part_of_the_quality() -> None:
    short = "Happy to help. How about a tea mug? It is useful because it lasts long."
    assert attributes(short, "tea") == attributes(short + " Gifts are nice. Many shops have it.", "tea")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_chat_demonstrations_leave_the_room_that_they_say(share: float) -> None:
    environment = ChatEnvironment(share)
    qualities = [
        environment.judge(task, task.demonstration, None).reward or 0.0
        for task in environment.tasks("train", 500, 0)
    ]
    # Four attributes are there with that share, nothing is said twice; five standard deviations of 2000 draws.
    assert fmean(qualities) == pytest.approx((4 * share + 1) / 5, abs=0.045)


def test_split_helpers() -> None:
    assert [split_templates(range(10), split) for split in SPLITS] == [[0, 1, 2, 5, 6, 7], [3, 8], [4, 9]]
    cells = {split: set(split_grid(5, 5, split)) for split in SPLITS}
    assert [len(cells[split]) for split in SPLITS] == [15, 5, 5]
    assert set().union(*cells.values()) == {(r, c) for r in range(5) for c in range(5)}
    assert {r for r, _ in cells["train"]} == {c for _, c in cells["train"]} == set(range(5))


def test_unknown_environments_and_options() -> None:
    with pytest.raises(InputError, match="environment 'maths': there is no such one. Known: math,"):
        make_environment("maths")
    with pytest.raises(InputError, match="environment 'math': .*'steps'.* Mend its options."):
        make_environment("math", {"steps": 3})


def test_check_gold_names_what_does_not_win() -> None:
    class Strict(ChatEnvironment):
        def judge(self, task: Task, completion: Any, world: Any) -> Verdict:
            return Verdict(float(task.id.endswith(("0", "2"))), detail="not so")

    environment = Strict()
    tasks = [
        Task(t.id, "strict", t.template, t.messages, demonstration=t.demonstration)
        for t in environment.tasks("train", 4, 0)
    ]
    environments = Environments({"strict": environment})
    check_gold(environments, [tasks[0], tasks[2]])
    with pytest.raises(InputError) as caught:
        check_gold(environments, tasks)
    assert str(caught.value) == (
        "2 of 4 known solutions are not judged 1.0 (chat/train/0/1: ok not so; chat/train/0/3: ok not so). "
        "Mend the verifier."
    )
