"""The user's rows: which split they are in, what is asked of whom, what is refused with its place."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alloy.environments.problems import ProblemsEnvironment
from alloy.environments.python_tool import PYTHON_TOOL, PythonWorld
from alloy.environments.registry import Environments, check_gold, fingerprint_environment, make_environment
from alloy.environments.row_files import SPLITS
from alloy.environments.task import Split, Task
from alloy.errors import InputError
from alloy.verify.registry import judge_row
from alloy.verify.verdict import Verdict

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl.gz"
needs_gsm8k = pytest.mark.skipif(not GSM8K.is_file(), reason="needs gsm8k in ../shared/data")
IFEVAL = Path(__file__).parents[3] / "shared" / "data" / "ifeval" / "prompts.jsonl"
needs_ifeval = pytest.mark.skipif(not IFEVAL.is_file(), reason="needs ifeval in ../shared/data")
WORKED: dict[str, Any] = {"columns": {"prompt": "question", "gold": "answer"}, "answer_after": "####"}


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sums(first: int, count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {n} + 1?", "gold": n + 1} for n in range(first, first + count)]


def all_tasks(environment: ProblemsEnvironment, split: Split) -> list[Task]:
    return environment.tasks(split, len(environment.problems[split]), 0)


def asked(environment: ProblemsEnvironment, split: Split) -> set[str]:
    return {task.messages[-1]["content"] for task in all_tasks(environment, split)}


def judge(environment: ProblemsEnvironment, task: Task, content: str, thinking: str = "") -> Verdict:
    turn = {"role": "assistant", "content": content, **({"thinking": thinking} if thinking else {})}
    return judge_row(environment.verifier, environment.row(task, [turn]))


def one(tmp_path: Path, row: dict[str, Any], **options: Any) -> tuple[ProblemsEnvironment, Task]:
    environment = ProblemsEnvironment(paths={"test": write(tmp_path / "rows.jsonl", [row])}, **options)
    return environment, environment.tasks("test", 1, 0)[0]


# Splits.


def test_one_file_is_cut_by_hash_and_keeps_its_shares(tmp_path: Path) -> None:
    environment = ProblemsEnvironment(write(tmp_path / "rows.jsonl", sums(0, 2000)))
    parts = {split: asked(environment, split) for split in SPLITS}
    assert sum(map(len, parts.values())) == 2000 == len(set().union(*parts.values()))
    # 90, 5 and 5 of a hundred; five standard deviations.
    assert abs(len(parts["train"]) - 1800) < 67
    assert abs(len(parts["validation"]) - 100) < 49
    assert abs(len(parts["test"]) - 100) < 49
    assert environment.counts == {
        "rows": 2000, "rejected": 0, "duplicates": 0, "in_another_split": 0,
        **{split: len(part) for split, part in parts.items()},
    }  # fmt: skip


def test_a_question_stays_in_its_split_when_rows_are_added_moved_or_worded_anew(tmp_path: Path) -> None:
    before = ProblemsEnvironment(write(tmp_path / "a.jsonl", sums(0, 300)))
    rows = sums(0, 600)[::-1]
    rows = [{**row, "prompt": row["prompt"].replace(" ", "  ")} for row in rows]
    after = ProblemsEnvironment(write(tmp_path / "b.jsonl", rows), template="Now:\n{prompt}")
    for split in SPLITS:
        ids = {task.id for task in all_tasks(before, split)}
        assert ids <= {task.id for task in all_tasks(after, split)}
        assert len(ids) > 3


def test_validation_is_cut_from_train_where_only_test_has_a_file(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", sums(0, 1000))
    test = write(tmp_path / "test.jsonl", sums(990, 60))
    environment = ProblemsEnvironment(paths={"train": train, "test": test}, shares={"train": 0.8, "validation": 0.2, "test": 0})  # fmt: skip
    parts = {split: asked(environment, split) for split in SPLITS}
    assert parts["test"] == {row["prompt"] for row in sums(990, 60)}
    assert parts["train"].isdisjoint(parts["validation"])
    assert parts["train"] | parts["validation"] == {row["prompt"] for row in sums(0, 990)}
    assert abs(len(parts["validation"]) - 198) < 63
    assert environment.counts["in_another_split"] == 10


def test_a_question_of_validation_and_test_is_tested(tmp_path: Path) -> None:
    environment = ProblemsEnvironment(
        paths={
            "validation": write(tmp_path / "v.jsonl", sums(0, 5)),
            "test": write(tmp_path / "t.jsonl", sums(3, 5)),
        }
    )
    assert len(asked(environment, "validation")) == 3
    assert len(asked(environment, "test")) == 5
    with pytest.raises(InputError, match="1 tasks are asked for, and the train split has 0 rows"):
        environment.tasks("train", 1, 0)


# Order and number.


def test_the_seed_orders_the_rows_and_a_longer_list_starts_with_the_shorter(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", sums(0, 200))
    environment = ProblemsEnvironment(path)
    long = environment.tasks("train", 100, 7)
    assert ProblemsEnvironment(path).tasks("train", 40, 7) == long[:40]
    assert environment.tasks("train", 100, 8)[:20] != long[:20]
    assert len({task.id for task in long}) == 100
    assert all(task.template == task.id.rpartition("/")[2] for task in long)
    # A row that is taken away leaves the order of the others.
    rows = [row for row in sums(0, 200) if row["prompt"] != long[3].messages[0]["content"]]
    shorter = ProblemsEnvironment(write(tmp_path / "shorter.jsonl", rows)).tasks("train", 99, 7)
    assert shorter == [task for task in long if task.id != long[3].id]


def test_more_tasks_than_rows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", sums(0, 3))
    environment = ProblemsEnvironment(paths={"test": path})
    with pytest.raises(InputError) as caught:
        environment.tasks("test", 4, 0)
    assert str(caught.value) == (
        f"{path}: 4 tasks are asked for, and the test split has 3 rows. Ask for 3 or fewer (`tasks`, `items`, "
        "`rows`), or give it more."
    )


# Files.


def test_the_same_rows_from_every_kind_of_file_are_the_same_tasks(tmp_path: Path) -> None:
    rows = [{**row, "gold": str(row["gold"])} for row in sums(0, 50)]
    paths: list[Path] = [write(tmp_path / "rows.jsonl", rows), write(tmp_path / "rows.jsonl.gz", rows)]
    paths.append(tmp_path / "rows.parquet")
    pq.write_table(pa.Table.from_pylist(rows), paths[-1])
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "rows.jsonl", rows)
    paths.append(tmp_path / "folder")
    drawn = [ProblemsEnvironment(str(path)).tasks("train", 30, 0) for path in paths]
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3]


def test_a_folder_s_own_splits_are_named_as_those_of_a_hub_dataset(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", sums(0, 20))
    write(tmp_path / "test.jsonl", sums(100, 7))
    environment = ProblemsEnvironment(
        paths={split: {"hub": str(tmp_path), "split": split} for split in ("train", "test")}
    )
    assert len(asked(environment, "test")) == 7
    assert environment.counts["train"] + environment.counts["validation"] == 20


def test_the_fingerprint_is_of_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", sums(0, 3))
    options = {"paths": {"test": str(path)}}
    before = ProblemsEnvironment.fingerprint(options)
    assert ProblemsEnvironment.fingerprint({"paths": {"test": path}}) == before
    whole = fingerprint_environment("problems", options)
    write(path, sums(0, 4))
    assert ProblemsEnvironment.fingerprint(options) != before
    assert fingerprint_environment("problems", options) != whole
    pinned, other = (
        ProblemsEnvironment.fingerprint({"path": {"hub": "org/name", "revision": revision}})
        for revision in ("abc", "abd")
    )
    assert pinned != other
    path.unlink()
    with pytest.raises(InputError, match=r"paths.test: .*rows.jsonl: there is no such file"):
        ProblemsEnvironment.fingerprint(options)


# What a verifier is given, and what demonstrates it.


def test_worked_math_its_reasoning_and_its_gold(tmp_path: Path) -> None:
    row = {"question": "2 + 2, times 10?", "answer": "2 + 2 is 4.\n4 * 10 is 40.\n#### 40"}
    environment, task = one(tmp_path, row, **WORKED)
    assert task.messages == [{"role": "user", "content": "2 + 2, times 10?"}]
    assert task.gold == {"gold": "40"}
    assert task.demonstration == [
        {"role": "assistant", "content": "The answer is 40.", "thinking": "2 + 2 is 4.\n4 * 10 is 40."}
    ]
    assert judge(environment, task, "It is \\boxed{40}.").reward == 1.0
    assert judge(environment, task, "It is \\boxed{4}.").reward == 0.0


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (0.5, "The answer is 0.5."),
        (-3, "The answer is -3."),
        ("\\frac{1}{2}", "The answer is $\\frac{1}{2}$."),
        ("$\\sqrt{2}$", "The answer is $\\sqrt{2}$."),
        ("\\text{east}", "The answer is $\\text{east}$."),
        ("(1, 2)", "The answer is (1, 2)."),
        ("x^2 + 1", "The answer is x^2 + 1."),
        ("Monday", "The answer is Monday."),
    ],
)
def test_a_math_demonstration_says_the_gold_and_wins(tmp_path: Path, gold: Any, said: str) -> None:
    environment, task = one(tmp_path, {"prompt": "Which?", "gold": gold})
    assert task.demonstration == [{"role": "assistant", "content": said}]
    assert judge_row("math", environment.row(task, task.demonstration)).reward == 1.0


@pytest.mark.parametrize("gold", ["B", "b", "green", 1])
def test_a_choice_by_letter_by_text_and_by_place(tmp_path: Path, gold: Any) -> None:
    row = {"prompt": "Which is a color?", "gold": gold, "choices": ["seven", "green", "up"]}
    environment, task = one(tmp_path, row, verifier="choice")
    assert task.messages[0]["content"] == "Which is a color?\nA) seven\nB) green\nC) up"
    assert task.demonstration == [{"role": "assistant", "content": "B"}]
    assert judge_row("choice", environment.row(task, task.demonstration)).reward == 1.0
    assert judge(environment, task, "The answer is C.").reward == 0.0


def test_a_template_words_prompt_and_choices_and_leaves_braces_alone(tmp_path: Path) -> None:
    row = {"prompt": "What is {choices}?", "gold": "A", "choices": ["one", "two"]}
    template = "{choices}\n\n{prompt} Answer in \\boxed{}."
    _, task = one(tmp_path, row, verifier="choice", template=template)
    assert task.messages[0]["content"] == "A) one\nB) two\n\nWhat is {choices}? Answer in \\boxed{}."


def test_the_same_question_with_other_choices_is_another(tmp_path: Path) -> None:
    rows = [{"prompt": "Which?", "gold": "A", "choices": choices} for choices in (["a", "b"], ["c", "d"])]
    environment = ProblemsEnvironment(paths={"test": write(tmp_path / "r.jsonl", rows)}, verifier="choice")
    assert len(environment.problems["test"]) == 2


def test_a_schema_as_an_object_or_as_text_with_and_without_a_solution(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["age"], "properties": {"age": {"maximum": 9}}}
    for given in (schema, json.dumps(schema)):
        row = {"ask": "A pet.", "wanted": given}
        columns = {"prompt": "ask", "schema": "wanted"}
        environment, task = one(tmp_path, row, verifier="schema", columns=columns)
        assert task.gold == {"schema": schema}
        assert task.demonstration == []
        assert judge(environment, task, '{"age": 4}').reward == 1.0
        assert judge(environment, task, '{"age": 10}').reward == 0.0
    columns["solution"] = "one"
    _, task = one(tmp_path, {**row, "one": '{"age": 1}'}, verifier="schema", columns=columns)
    assert task.demonstration == [{"role": "assistant", "content": '{"age": 1}'}]


def test_code_with_its_tests_and_what_it_continues(tmp_path: Path) -> None:
    row = {
        "prompt": "Write add.",
        "signature": "def add(a, b):\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3",
        "entry_point": "add",
        "canonical": "    return a + b\n",
    }
    columns = {"code_prompt": "signature", "tests": "test", "solution": "canonical"}
    environment, task = one(tmp_path, row, verifier="code", columns=columns)
    assert task.gold["prompt"] == "def add(a, b):\n"
    assert task.gold["tests"] == [row["test"]]
    check_gold(Environments({"problems": environment}), [task])
    assert judge(environment, task, "    return a - b\n").reward == 0.0


def test_instructions_of_flat_files(tmp_path: Path) -> None:
    row = {
        "prompt": "Write.",
        "instruction_id_list": '["keywords:existence", "punctuation:no_comma"]',
        "kwargs": '[{"keywords": ["sea"]}, null]',
        "solution": "The sea is wide.",
    }
    environment, task = one(tmp_path, row, verifier="instructions")
    assert judge_row("instructions", environment.row(task, task.demonstration)).reward == 1.0
    assert judge(environment, task, "The sea, wide.").reward == 0.0
    assert judge(environment, task, "The land is wide.").reward == 0.0


def test_format_and_length_see_the_thinking(tmp_path: Path) -> None:
    environment, task = one(tmp_path, {"prompt": "Think."}, verifier="format")
    assert judge(environment, task, "Done.", "well").reward == 1.0
    assert judge(environment, task, "Done.").reward == 1.0  # reasoning was off
    assert judge(environment, task, "", "well").reward == 0.0
    assert judge(environment, task, "Done.</think>", "well").reward == 0.0
    row = {"prompt": "Think.", "part": "thinking", "maximum": 2}
    environment, task = one(tmp_path, row, verifier="length")
    assert judge(environment, task, "a b c d", "one two").reward == 1.0
    assert judge(environment, task, "a", "one two three").reward == 0.0


def test_turns_instead_of_a_text(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    environment, task = one(tmp_path, {"prompt": turns, "gold": "2"})
    assert task.messages == turns
    with pytest.raises(InputError, match="a template takes a text"):
        one(tmp_path, {"prompt": turns, "gold": "2"}, template="{prompt}!")
    with pytest.raises(InputError, match="does not end with the user's turn"):
        one(tmp_path, {"prompt": turns[:1], "gold": "2"})
    assert environment.open(task) is None


def test_the_python_tool_is_on_offer(tmp_path: Path) -> None:
    environment, task = one(tmp_path, {"prompt": "2 to the power of 70?", "gold": 2**70}, tools=["python"])
    assert task.tools == [PYTHON_TOOL]
    world = environment.open(task)
    assert isinstance(world, PythonWorld)
    assert world.call("python", {"code": "print(2 ** 70)"}) == task.gold["gold"]


# Bad rows.


def refusal(tmp_path: Path, rows: Sequence[Any], **options: Any) -> str:
    path = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(InputError) as caught:
        ProblemsEnvironment(paths={"test": path}, **options).tasks("test", 1, 0)
    return str(caught.value).replace(str(path), "bad.jsonl")


GOOD = {"prompt": "1 + 1?", "gold": "2"}


@pytest.mark.parametrize(
    ("row", "options", "reason"),
    [
        ("{", {}, "not JSON"),
        ('["a"]', {}, "list where an object is needed"),
        ({"gold": "2"}, {}, "has gold, and its prompt is to be in `prompt`. Say with `columns` which is which"),
        ({"prompt": None, "gold": "2"}, {}, "its prompt is to be in `prompt`"),
        ({"prompt": "  ", "gold": "2"}, {}, "`prompt` = '  ': a text or a list of turns is needed"),
        ({"prompt": 7, "gold": "2"}, {}, "`prompt` = 7: a text"),
        ({"prompt": "x"}, {}, "`gold` = None: a text or number is needed"),
        ({"prompt": "x", "gold": " "}, {}, "`gold` = ' ': a text or number is needed"),
        ({"prompt": "x", "gold": True}, {}, "`gold` = True: a text or number is needed"),
        ({"prompt": "x", "gold": "2"}, {"answer_after": "####"}, "`gold` has no '####': '2'"),
        ({"prompt": "x", "gold": "2 ####"}, {"answer_after": "####"}, "`gold` = '': a text"),
        ({"prompt": "x"}, {"answer_after": "####"}, "its gold is to be in `gold`"),
        ({"prompt": "x", "gold": "2", "thinking": 3}, {}, "`thinking` is int, a text is needed"),
        (
            {"prompt": "x", "gold": "D", "choices": ["a", "b"]},
            {"verifier": "choice"},
            "choice: gold = 'D': write one of A, B, or a choice's text",
        ),
        (
            {"prompt": "x", "gold": 2, "choices": ["a", "b"]},
            {"verifier": "choice"},
            "gold = 2: a number is a choice's place, from 0 to 1",
        ),
        ({"prompt": "x", "gold": "A", "choices": "a, b"}, {"verifier": "choice"}, "choices is a text and no JSON"),
        (
            {"prompt": "x", "gold": "A"},
            {"verifier": "choice", "template": "{prompt} {choices}"},
            "`choices` is not there",
        ),
        ({"prompt": "x", "schema": {"type": "none"}}, {"verifier": "schema"}, "schema: schema: 'none'"),
        ({"prompt": "x"}, {"verifier": "schema"}, "schema: schema is needed"),
        ({"prompt": "x"}, {"verifier": "code"}, "code: tests and inputs are both empty"),
        (
            {"prompt": "x", "instruction_id_list": ["no:such"], "kwargs": [{}]},
            {"verifier": "instructions"},
            "instructions: instruction_id_list: 'no:such' is no IFEval instruction",
        ),
        ({"prompt": "x", "unit": "tokens"}, {"verifier": "length"}, "length: tokens is needed for unit tokens"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_its_line(
    tmp_path: Path, row: Any, options: dict[str, Any], reason: str
) -> None:
    told = refusal(tmp_path, [row], **options)
    assert told.startswith("bad.jsonl:1: ")
    assert reason in told
    assert told.endswith("1 of 1 rows are bad, max_rejected_share = 0 are allowed. Correct or remove them.")


def test_a_line_is_told_and_an_empty_one_is_none(tmp_path: Path) -> None:
    told = refusal(tmp_path, [GOOD, "", {"prompt": "x"}, {"gold": 1}])
    assert told.startswith("bad.jsonl:3: `gold` = None: a text or number is needed; bad.jsonl:4: has gold")
    assert "2 of 3 rows are bad" in told


def test_some_bad_rows_may_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*sums(0, 9), {"prompt": "x"}])
    environment = ProblemsEnvironment(paths={"test": path}, max_rejected_share=0.1)
    assert len(environment.tasks("test", 9, 0)) == 9
    assert environment.counts["rejected"] == 1
    assert "max_rejected_share = 0.05 are allowed" in refusal(
        tmp_path, [*sums(0, 9), "{"], max_rejected_share=0.05
    )


def test_equal_rows_are_dropped_and_contradictions_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, sums(7, 1)[0], {**GOOD, "prompt": "1  + 1?"}, GOOD])
    environment = ProblemsEnvironment(paths={"test": path})
    assert len(environment.problems["test"]) == 2
    assert environment.counts["duplicates"] == 2
    told = refusal(tmp_path, [GOOD, {**GOOD, "gold": "3"}])
    assert told.startswith("bad.jsonl:2: asks the same as bad.jsonl:1, and is to be judged otherwise.")


def test_a_column_that_no_row_has(tmp_path: Path) -> None:
    told = refusal(tmp_path, [GOOD], columns={"thinking": "thoughts"})
    assert told == "columns: no row has 'thoughts'; there are gold, prompt. Correct it."


# Bad options, told before any file is read.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "path, paths: give one of them"),
        ({"path": "a.jsonl", "paths": {"test": "a.jsonl"}}, "path, paths: give one of them"),
        ({"paths": {"dev": "a.jsonl"}}, "a file for some of train, validation, test is needed"),
        ({"paths": {}}, "a file for some of train, validation, test is needed"),
        ({"path": "no/such/file"}, "path: no/such/file: there is no such file. Name a JSONL or Parquet file."),
        ({"path": "none.jsonl.gz"}, "path: none.jsonl.gz: there is no such file"),
        ({"path": {"hub": "org/name", "share": 0.5}}, "path: 'share' is none of path, hub, subset"),
        ({"path": {"hub": "org/name", "rows": 0}}, "path: rows = 0: Input should be greater than 0"),
        ({"verifier": "maths"}, "verifier = 'maths': take one of math, instructions, choice"),
        ({"verifier": "workbench"}, "verifier = 'workbench': take one of math"),
        ({"columns": {"question": "prompt"}}, "columns.question: math reads prompt, thinking, gold."),
        ({"columns": {"solution": "x"}}, "columns.solution: math reads prompt, thinking, gold."),
        ({"verifier": "schema", "answer_after": "##"}, "answer_after = '##': schema has no gold"),
        ({"template": "Answer:"}, "template = 'Answer:': {prompt} is needed"),
        ({"template": "{prompt} {choices}"}, "math has no {choices}"),
        ({"shares": {"train": 1.0}}, "train, validation, test are needed, adding up to 1"),
        ({"shares": {"train": 0.9, "validation": 0.9, "test": 0}}, "adding up to 1"),
        ({"tools": ["bash"]}, "tools = ['bash']: take some of python"),
        ({"tools": "python"}, "tools = 'python': take some of python"),
        ({"max_rejected_share": 1}, "max_rejected_share = 1: a share from 0 to below 1"),
        ({"gold": "answer"}, "'gold'"),
    ],
)  # fmt: skip
def test_bad_options(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    path = {"path": str(write(tmp_path / "rows.jsonl", ["not looked at"]))}
    given = options if not options or {"path", "paths"} & set(options) else path | options
    with pytest.raises(InputError) as caught:
        make_environment("problems", given)
    assert told in str(caught.value)


# Real rows.


@needs_gsm8k
def test_gsm8k_is_read_and_its_solutions_win() -> None:
    environment = ProblemsEnvironment(str(GSM8K), **WORKED)
    tasks = environment.tasks("train", 400, 0)
    assert environment.counts["rows"] == 7473
    assert sum(environment.counts[split] for split in SPLITS) == 7473
    assert all("####" not in turn["thinking"] for task in tasks for turn in task.demonstration)
    check_gold(Environments({"problems": environment}), tasks)
    wrong = [replace(task, demonstration=other.demonstration) for task, other in pairwise(tasks[:40])]
    same = sum(task.gold == other.gold for task, other in pairwise(tasks[:40]))
    with pytest.raises(InputError, match=f"{39 - same} of 39 known solutions are not judged 1.0"):
        check_gold(Environments({"problems": environment}), wrong)


@needs_ifeval
def test_ifeval_is_read() -> None:
    environment = ProblemsEnvironment(paths={"test": str(IFEVAL)}, verifier="instructions")
    tasks = environment.tasks("test", 541, 0)
    assert len({task.id for task in tasks}) == 541
    assert all(task.demonstration == [] for task in tasks)
