"""Benchmarks' files as they are published: what is asked, what is right, what is refused with its place."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alloy.environments.benchmark import BenchmarkEnvironment
from alloy.environments.registry import Environments, fingerprint_environment, make_environment
from alloy.environments.task import Task
from alloy.errors import InputError
from alloy.verify.registry import judge_row

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_gsm8k = pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="needs gsm8k in ../shared/data")
needs_ifeval = pytest.mark.skipif(not (DATA / "ifeval").is_dir(), reason="needs ifeval in ../shared/data")


def write(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def one(tmp_path: Path, row: dict[str, Any], **options: Any) -> tuple[BenchmarkEnvironment, Task]:
    environment = BenchmarkEnvironment(write(tmp_path / "rows.jsonl", row), **options)
    return environment, environment.tasks("test", None, 0)[0]


def reward(environment: BenchmarkEnvironment, task: Task, answer: str) -> float | None:
    row = environment.row(task, [{"role": "assistant", "content": answer}])
    return judge_row(environment.verifier, row).reward


MATH = [
    ({"question": "How many?", "answer": "2*3=<<2*3=6>>6\n6+1=<<6+1=7>>7\n#### 7"}, "7", {"steps": "2"}),
    ({"problem": "Find x.", "solution": "So \\boxed{7}.", "answer": "7", "level": 3, "subject": "Algebra"}, "7", {"level": "3", "subject": "Algebra"}),
    ({"problem": "Find x.", "solution": "So $x=\\boxed{\\frac{1}{2}}$.", "level": "Level 5"}, "0.5", {"level": "Level 5"}),
    ({"ID": "2024-I-1", "Problem": "Find x.", "Solution": "long", "Answer": 204}, "204", {}),
    ({"question": "Wie viele?", "answer": None, "answer_number": 18}, "18", {}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "right", "labels"), MATH)
def test_math(tmp_path: Path, row: dict[str, Any], right: str, labels: dict[str, str]) -> None:
    environment, task = one(tmp_path, row)
    assert environment.kind == "math"
    question = next(row[key] for key in ("question", "problem", "Problem") if key in row)
    assert task.messages[0]["content"] == (
        f"{question}\n\nReason step by step, and give the final answer in \\boxed{{}}."
    )
    assert reward(environment, task, f"It is \\boxed{{{right}}}.") == 1.0
    assert reward(environment, task, "It is \\boxed{5}.") == 0.0
    assert environment.describe(task) == labels


GPQA = {
    "Question": "Which one?",
    "Correct Answer": "a proton\n",
    "Incorrect Answer 1": "an electron",
    "Incorrect Answer 2": "a neutron",
    "Incorrect Answer 3": "a photon",
    "High-level domain": "Physics",
}
CHOICE = [
    (GPQA, "a proton", 4),
    ({"question": "Which one?", "choices": ["red", "blue", "green"], "answer": 1, "subject": "color"}, "blue", 3),
    ({"question": "Which one?", "options": ["1", "2", "3", "4", "5"], "answer": "C", "answer_index": 2}, "3", 5),
    ({"question": "Which one?", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "3"}, "z", 3),
    ({"Question": "Welche Farbe?", "A": "rot", "B": "blau", "C": "grün", "D": "gelb", "Answer": "D"}, "gelb", 4),
    ({"question": "Which one?", "choices": ["yes", "no"], "answer": "no"}, "no", 2),
    ({"flores_passage": "A dog.", "question": "What?", "mc_answer1": "cat", "mc_answer2": "dog", "mc_answer3": "cow",
      "mc_answer4": "hen", "correct_answer_num": "2"}, "dog", 4),
]  # fmt: skip


@pytest.mark.parametrize(("row", "right", "count"), CHOICE)
def test_choice(tmp_path: Path, row: dict[str, Any], right: str, count: int) -> None:
    environment, task = one(tmp_path, row)
    assert environment.kind == "choice"
    asked = task.messages[0]["content"]
    letter = next(line[0] for line in asked.splitlines() if line[1:] == f") {right}")
    assert task.gold["gold"] == letter
    assert len(task.gold["choices"]) == count
    assert reward(environment, task, f"I think it is \\boxed{{{letter}}}.") == 1.0
    other = "B" if letter == "A" else "A"
    assert reward(environment, task, f"\\boxed{{{other}}}") == 0.0
    if "flores_passage" in row:
        assert asked.startswith("A dog.\n\nWhat?")


def test_choices_are_shuffled_by_the_seed_alone_and_the_right_one_is_anywhere(tmp_path: Path) -> None:
    rows = [
        {"question": f"Question {n}?", "choices": ["right", "b", "c", "d"], "answer": 0} for n in range(800)
    ]
    path = write(tmp_path / "rows.jsonl", *rows)

    def letters(shuffle: int | None, file: Path = path) -> dict[str, str]:
        environment = BenchmarkEnvironment(file, shuffle=shuffle)
        return {
            t.messages[0]["content"].split("\n")[0]: t.gold["gold"]
            for t in environment.tasks("test", None, 0)
        }

    found = letters(0)
    assert found == letters(0)
    assert sum(found[question] != other for question, other in letters(1).items()) > 500
    # A quarter each of 800: five standard deviations are 61.
    assert all(abs(count - 200) < 61 for count in Counter(found.values()).values())
    assert set(letters(None).values()) == {"A"}
    # A row's order is its own, whatever stands beside it.
    assert letters(0, write(tmp_path / "some.jsonl", *rows[:200:-1])).items() <= found.items()


@pytest.mark.parametrize("choice", ["All of the above", "Both A and B", "none of these", "Neither of them"])
def test_a_choice_that_speaks_of_the_others_keeps_its_place(tmp_path: Path, choice: str) -> None:
    for shuffle in range(4):
        row = {"question": "Which?", "choices": ["p", "q", "r", choice], "answer": 3}
        assert one(tmp_path, row, shuffle=shuffle)[1].gold["choices"] == ["p", "q", "r", choice]


HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(n):\n    """Twice n."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * n\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function that doubles a number.",
    "code": "def double(n):\n    return 2 * n",
    "test_setup_code": "import math",
    "test_list": ["assert double(2) == 4", "assert double(math.inf) == math.inf"],
}
CODE = [HUMANEVAL, MBPP, {**MBPP, "test_setup_code": None, "test_imports": ["import math"]}]


@pytest.mark.parametrize("row", CODE)
def test_code(tmp_path: Path, row: dict[str, Any]) -> None:
    environment, task = one(tmp_path, row)
    assert environment.kind == "code"
    asked = task.messages[0]["content"]
    assert str(row.get("text", row.get("prompt", ""))).strip() in asked
    assert task.demonstration, "the data's own solution is one"
    assert reward(environment, task, task.demonstration[0]["content"]) == 1.0
    assert reward(environment, task, "```python\ndef double(n):\n    return n + 3\n```") == 0.0
    if row is HUMANEVAL:
        assert reward(environment, task, "```python\n    return n + n\n```") == 1.0, "the completion alone"


IFEVAL = {
    "key": 1,
    "prompt": "Write without commas, and end with Bye.",
    "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
    "kwargs": [{"num_words": None}, {"end_phrase": "Bye."}],
}


def test_instructions_and_those_that_nobody_here_checks(tmp_path: Path) -> None:
    other = {
        **IFEVAL,
        "prompt": "Write a palindrome.",
        "instruction_id_list": ["punctuation:no_comma", "made:up"],
    }
    path = write(tmp_path / "rows.jsonl", IFEVAL, other, {**other, "prompt": "Write two."})
    environment = BenchmarkEnvironment(path)
    (task,) = environment.tasks("test", None, 0)
    assert environment.left_out == {"made:up": 2}
    assert task.messages == [{"role": "user", "content": IFEVAL["prompt"]}]
    assert reward(environment, task, "Well then. Bye.") == 1.0
    assert reward(environment, task, "Well, then. Bye.") == 0.0
    nothing = BenchmarkEnvironment(write(tmp_path / "none.jsonl", other))
    with pytest.raises(InputError, match=r"no row can be measured on.*made:up.*1"):
        nothing.tasks("test", None, 0)


def test_columns_of_another_name_and_a_template_of_one_s_own(tmp_path: Path) -> None:
    row = {"Frage": "Was ist 2+2?", "Antwort": "4"}
    columns = {"question": "Frage", "answer": "Antwort"}
    _, task = one(tmp_path, row, columns=columns, template="{prompt} Antworte kurz.")
    assert (task.messages[0]["content"], task.gold) == ("Was ist 2+2? Antworte kurz.", {"gold": "4"})


GOOD = {"question": "How many?", "answer": "7"}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"a": 1}], {}, r"rows.jsonl:1: has a, and no kind of benchmark has that \(instructions: prompt.*Set `kind`"),
        ([GOOD, {"question": "?"}], {}, r"rows.jsonl:2: has question, and a row of math has .*Say with `columns`"),
        ([GOOD, "{"], {}, r"rows.jsonl:2: not JSON"),
        (["[]"], {}, r"rows.jsonl:1: list where an object is needed"),
        ([GOOD, {"question": "Two?", "answer": "  "}], {}, r"rows.jsonl:2: `gold` = '  ': a text or number is needed"),
        ([{"question": "?", "choices": ["a", "b"], "answer": 2}], {}, r"rows.jsonl:1: the answer 2 is none of the 2"),
        ([{"question": "?", "choices": ["a", "b"], "answer": "c"}], {}, r"rows.jsonl:1: the answer 'c' is none"),
        ([{"question": "?", "choices": ["a"], "answer": 0}], {}, r"rows.jsonl:1: choices = \['a'\]: a list of 2 to 26"),
        ([{**MBPP, "test_list": []}], {}, r"rows.jsonl:1: test_list = \[\]: a list of tests is needed"),
        ([{**IFEVAL, "kwargs": [{}]}], {}, r"rows.jsonl:1: instructions: .*kwargs has 1 items for 2 instructions"),
        ([{**IFEVAL, "kwargs": [{}, {"what": 1}]}], {}, r"rows.jsonl:1: instructions: kwargs of startend:end_checker"),
        ([GOOD], {"kind": "maths"}, r"kind = 'maths': take one of auto, instructions, code, choice, math"),
        ([GOOD], {"columns": {"question": "q"}}, r"rows.jsonl:1: columns: there is no 'q' in answer, question"),
        ([], {}, r"rows.jsonl: there are no rows in it"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, rows: list[Any], options: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(InputError, match=message):
        make_environment("benchmark", {"path": str(path), **options}).tasks("test", None, 0)  # type: ignore[arg-type]


def test_all_rows_are_for_measuring(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *[{"question": f"{n}?", "answer": str(n)} for n in range(30)])
    environment = BenchmarkEnvironment(path)
    assert len(environment.tasks("test", None, 0)) == 30 == len(environment.tasks("test", 99, 0))
    ten = environment.tasks("test", 10, 0)
    assert ten == environment.tasks("test", 30, 0)[:10]
    with pytest.raises(InputError, match="split = train: all rows of a benchmark are in the split test"):
        environment.tasks("train", 1, 0)
    with pytest.raises(InputError, match=r"nowhere.jsonl: there is no such file"):
        BenchmarkEnvironment(tmp_path / "nowhere.jsonl")


def test_other_rows_are_another_benchmark(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD)
    before = fingerprint_environment("benchmark", {"path": str(path)})
    assert before == fingerprint_environment("benchmark", {"path": str(path)})
    write(path, {**GOOD, "answer": "8"})
    assert before != fingerprint_environment("benchmark", {"path": str(path)})


@needs_gsm8k
def test_gsm8k_whole(tmp_path: Path) -> None:
    environment = BenchmarkEnvironment(DATA / "gsm8k" / "train.jsonl.gz")
    tasks = environment.tasks("test", None, 0)
    assert (len(tasks), environment.counts["rows"]) == (7473, 7473)
    some = tasks[:40]
    rows = [(task, [{"role": "assistant", "content": f"\\boxed{{{task.gold['gold'].rpartition('####')[2]}}}"}], None)
            for task in some]  # fmt: skip
    verdicts = Environments({"benchmark": environment}).judge(rows)
    assert [verdict.reward for verdict in verdicts if verdict] == [1.0] * 40
    assert {environment.describe(task)["steps"] for task in some} <= {str(n) for n in range(1, 12)}


@needs_ifeval
def test_ifeval_whole() -> None:
    environment = BenchmarkEnvironment(DATA / "ifeval" / "prompts.jsonl")
    tasks = environment.tasks("test", None, 0)
    assert (len(tasks), environment.left_out) == (541, {})
    assert sum(len(task.gold["instruction_id_list"]) for task in tasks) == 834
