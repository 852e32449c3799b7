import re
from typing import Any

import pytest

from alloy.environments.reasoning_gym_tasks import ReasoningGymEnvironment
from alloy.environments.reasoning_gym_tasks_steps import KINDS
from alloy.environments.registry import fingerprint_environment, make_environment
from alloy.environments.task import Task
from alloy.errors import InputError
from alloy.verify.reasoning_gym import verify_reasoning_gym

SPLITS = ("train", "validation", "test")


def steps(dataset: str, **metadata: Any) -> list[str]:
    return KINDS[dataset].steps(metadata)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Task]]:
    environment = ReasoningGymEnvironment(list(KINDS))
    return {split: environment.tasks(split, 8 * len(KINDS), 3) for split in SPLITS}  # type: ignore[arg-type]


def test_every_demonstration_is_judged_right_by_the_task_s_own_scorer(drawn: dict[str, list[Task]]) -> None:
    environment = ReasoningGymEnvironment()
    for task in drawn["train"] + drawn["test"]:
        verdict = verify_reasoning_gym(**environment.row(task, task.demonstration))
        assert verdict.reward == 1.0, (task.template, task.demonstration, verdict)


def test_a_wrong_answer_does_not_win(drawn: dict[str, list[Task]]) -> None:
    environment = ReasoningGymEnvironment()
    for task in drawn["validation"]:
        turn = {"role": "assistant", "content": "The answer is 123456789."}
        assert (verify_reasoning_gym(**environment.row(task, [turn])).reward or 0.0) < 1.0


def test_the_thinking_ends_at_the_answer(drawn: dict[str, list[Task]]) -> None:
    numeric = [task for split in drawn.values() for task in split if task.gold["dataset"] in NUMERIC]
    assert {task.gold["dataset"] for task in numeric} == NUMERIC
    for task in numeric:
        last = task.demonstration[0]["thinking"].splitlines()[-1]
        assert last.rpartition("=")[2].strip() == task.gold["entry"]["answer"], task.demonstration


NUMERIC = {
    "chain_sum",
    "simple_equations",
    "leg_counting",
    "lcm",
    "products",
    "simple_geometry",
    "letter_counting",
}


def test_every_worked_line_is_true(drawn: dict[str, list[Task]]) -> None:
    checked = 0
    for task in drawn["train"]:
        for line in task.demonstration[0]["thinking"].splitlines():
            for a, operation, b, result in re.findall(
                r"(-?\d+) ([-+*/×]|mod) (\d+) = (-?\d+)(?!\d| [-+*/×])", line
            ):
                left, right = int(a), int(b)
                values = {"+": left + right, "-": left - right, "*": left * right}
                values["×"] = values["*"]
                if operation in values and not re.search(rf"[-+*/×)] {a} ", line):
                    assert values[operation] == int(result), line
                    checked += 1
    assert checked > 50


def test_worked_steps_by_hand() -> None:
    assert steps("chain_sum", expression="4 - 1 - 7 + 12") == ["4 - 1 = 3", "3 - 7 = -4", "-4 + 12 = 8"]
    assert steps("simple_equations", equation="5 - 8*e = -51", variable="e") == [
        "-8*e = -51 - 5 = -56",
        "e = -56 / -8 = 7",
    ]
    assert steps("simple_equations", equation="z + 5 = 15", variable="z") == ["1*z = 15 - 5 = 10"]
    assert steps("leg_counting", animals={"spider": 2, "duck": 3}) == [
        "spider: 2 * 8 = 16",
        "duck: 3 * 2 = 6",
        "16 + 6 = 22",
    ]
    assert steps("gcd", numbers=[36, 60]) == ["60 mod 36 = 24", "36 mod 24 = 12", "24 mod 12 = 0"]
    assert steps("lcm", numbers=[4, 6]) == ["6 mod 4 = 2", "4 mod 2 = 0", "4 / 2 = 2", "2 * 6 = 12"]
    assert steps("products", expression="39 * 23") == ["39 * 20 = 780", "39 * 3 = 117", "780 + 117 = 897"]
    assert steps("products", expression="7 * 10") == ["7 * 10 = 70"]
    assert steps("prime_factorization", number=12, factors=[2, 2, 3]) == ["12 = 2 × 6", "6 = 2 × 3"]
    assert steps("spell_backward", word="sun") == ["s u n = n u s backward"]
    assert steps("letter_counting", target_letter="a", span=["Anna", "can"]) == [
        "Anna = 2",
        "can = 1",
        "2 + 1 = 3",
    ]
    assert steps("simple_geometry", n_sides=4, known_angles=[80.0, 55.0, 100.0], total_interior_sum=360) == [
        "(4 - 2) * 180 = 360",
        "80 + 55 = 135",
        "135 + 100 = 235",
        "360 - 235 = 125",
    ]


def test_no_structure_is_in_two_splits_and_each_split_has_every_dataset(drawn: dict[str, list[Task]]) -> None:
    templates = {split: {task.template for task in tasks} for split, tasks in drawn.items()}
    assert not templates["train"] & templates["test"]
    assert not templates["train"] & templates["validation"]
    assert not templates["validation"] & templates["test"]
    for tasks in drawn.values():
        assert {task.gold["dataset"] for task in tasks} == set(KINDS)


def test_a_longer_list_starts_with_the_shorter_and_another_seed_differs() -> None:
    environment = ReasoningGymEnvironment(["gcd", "products"])
    assert environment.tasks("train", 12, 5)[:6] == environment.tasks("train", 6, 5)
    assert environment.tasks("train", 6, 5) != environment.tasks("train", 6, 6)


def test_settings_replace_ours() -> None:
    environment = ReasoningGymEnvironment({"chain_sum": {"max_terms": 2, "max_digits": 1}})
    for task in environment.tasks("train", 20, 0):
        assert re.fullmatch(r"\d+ [-+] \d+", task.gold["entry"]["metadata"]["expression"])


def test_bad_options_are_told_before_anything_is_drawn() -> None:
    with pytest.raises(InputError, match="take some of chain_sum"):
        make_environment("reasoning_gym", {"datasets": ["sudoku"]})
    with pytest.raises(InputError, match=r"datasets.gcd: .*max_valeu"):
        make_environment("reasoning_gym", {"datasets": {"gcd": {"max_valeu": 3}}})
    # One number only, and it is of the validation split.
    environment = ReasoningGymEnvironment({"prime_factorization": {"min_value": 4, "max_value": 4}})
    assert environment.tasks("validation", 1, 0)[0].template == "prime_factorization: 4"
    with pytest.raises(InputError, match="none of .* entries has a structure of the test split"):
        environment.tasks("test", 1, 0)


def test_its_code_counts_in_the_fingerprint() -> None:
    assert len(fingerprint_environment("reasoning_gym")) == 64
