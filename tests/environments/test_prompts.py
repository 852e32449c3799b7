"""Prompts from files: what a row may be, where a bad one stands, and what has no verdict."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alloy.environments.prompts import PromptsEnvironment
from alloy.environments.registry import (
    Environments,
    check_gold,
    fingerprint_environment,
    has_verdicts,
    make_environment,
)
from alloy.errors import InputError

ASKED = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "Be brief."}


def rows(folder: Path, *given: Any, name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in given))
    return path


def read(folder: Path, *given: Any, **options: Any) -> list[list[dict[str, Any]]]:
    """The turns of every row, in the file's order, all in the train split."""
    options = {"shares": {"train": 1.0, "validation": 0.0, "test": 0.0}, **options}
    environment = PromptsEnvironment(rows(folder, *given), **options)
    return [row.messages for row in environment.rows["train"]]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "q"}, [ASKED]),
        ({"prompt": [SYSTEM, ASKED]}, [SYSTEM, ASKED]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [ASKED]),
        ({"messages": [ASKED, ANSWER]}, [ASKED]),
        ({"messages": [SYSTEM, ASKED, ANSWER, {"role": "user", "content": "more"}]},
         [SYSTEM, ASKED, ANSWER, {"role": "user", "content": "more"}]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, [ASKED]),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, [ASKED]),
        ({"chosen": [ASKED, ANSWER], "rejected": [ASKED, {"role": "assistant", "content": "b"}]}, [ASKED]),
        ({"prompt": "q", "system": "Be brief."}, [SYSTEM, ASKED]),
    ],
)  # fmt: skip
def test_what_a_row_may_be(tmp_path: Path, row: Any, turns: Any) -> None:
    assert read(tmp_path, row) == [turns]


def test_a_system_prompt_of_the_row_goes_before_the_option(tmp_path: Path) -> None:
    given = [
        {"question": "1", "said": "Be kind."},
        {"question": "2", "said": None},
        {"question": [SYSTEM, ASKED], "said": "Not this one."},
    ]
    found = read(tmp_path, *given, columns={"prompt": "question", "system": "said"}, system="Be honest.")
    assert [turns[0]["content"] for turns in found] == ["Be kind.", "Be honest.", "Be brief."]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "not JSON"),
        ({"text": "q"}, "has text, and needs `prompt`"),
        ({"prompt": " "}, "`prompt` is empty"),
        ({"prompt": 3}, "`prompt` is int, a text or a list of turns is needed"),
        ({"prompt": [ASKED, ANSWER]}, "`prompt` does not end with the user's turn"),
        ({"messages": [SYSTEM, ANSWER]}, "it has no user turn"),
        ({"messages": [ASKED], "tools": [{"name": "f"}]}, "it offers tools, whose calls nobody answers here"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"chosen": [ASKED, ANSWER], "rejected": [ASKED, ANSWER]}, "chosen and rejected are equal"),
        ({"prompt": "q", "system": 7}, "system is int, a text is needed"),
    ],
)
def test_a_bad_row_is_told_with_file_and_line(tmp_path: Path, row: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, {"prompt": "fine"}, row)
    assert f"{tmp_path / 'prompts.jsonl'}:2: " in str(caught.value)
    assert told in str(caught.value)
    assert "1 of 2 rows are bad, max_rejected_share = 0.01 are allowed" in str(caught.value)


def test_few_bad_rows_are_left_out_and_counted_and_equal_prompts_are_one(tmp_path: Path) -> None:
    given = [{"prompt": f"q {n}"} for n in range(99)]
    environment = PromptsEnvironment(rows(tmp_path, *given, {"prompt": ""}, {"prompt": "q 7"}))
    found = environment.rows
    assert sum(map(len, found.values())) == 99
    assert (environment.files.counts["rejected"], environment.files.counts["duplicates"]) == (1, 1)


def test_splits_share_no_prompt_and_the_seed_draws(tmp_path: Path) -> None:
    path = rows(tmp_path, *({"prompt": f"q {n}"} for n in range(200)))
    environment = make_environment(
        "prompts", {"path": str(path), "shares": {"train": 0.6, "validation": 0.2, "test": 0.2}}
    )
    train, held_out = environment.tasks("train", 60, 0), environment.tasks("validation", 20, 0)
    assert {task.template for task in train}.isdisjoint(task.template for task in held_out)
    assert environment.tasks("train", 5, 0) == train[:5]
    assert environment.tasks("train", 60, 1) != train
    with pytest.raises(InputError, match=r"500 tasks are asked for, and the train split has \d+ rows"):
        environment.tasks("train", 500, 0)
    own = make_environment("prompts", {"paths": {"train": str(path), "test": str(rows(tmp_path, {"prompt": "t"}, name="t.jsonl"))}})  # fmt: skip
    assert [task.messages[0]["content"] for task in own.tasks("test", 1, 0)] == ["t"]


def test_a_dataset_that_datasets_loads(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows(folder, *({"prompt": f"q {n}"} for n in range(8)), name="train.jsonl")
    environment = PromptsEnvironment(
        {"hub": str(folder)}, shares={"train": 1.0, "validation": 0.0, "test": 0.0}
    )
    assert sorted(task.messages[0]["content"] for task in environment.tasks("train", 8, 0)) == [
        f"q {n}" for n in range(8)
    ]
    rows(folder, {"prompt": "q"}, {"prompt": ""}, name="train.jsonl")
    with pytest.raises(InputError, match="set/train:1: `prompt` is empty"):
        PromptsEnvironment({"hub": str(folder)}).tasks("train", 1, 0)


def test_the_file_is_part_of_the_fingerprint_and_a_missing_one_stops(tmp_path: Path) -> None:
    path = rows(tmp_path, {"prompt": "q"})
    before = fingerprint_environment("prompts", {"path": str(path)})
    rows(tmp_path, {"prompt": "other"})
    assert fingerprint_environment("prompts", {"path": str(path)}) != before
    with pytest.raises(InputError, match="nowhere.jsonl: there is no such file"):
        fingerprint_environment("prompts", {"path": "nowhere.jsonl"})
    with pytest.raises(InputError, match="columns: no row has 'question'; there are prompt"):
        read(tmp_path, {"prompt": "q"}, columns={"system": "question"})


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "q"}\n'))
    assert PromptsEnvironment(paths={"test": path}).tasks("test", 1, 0)[0].messages == [ASKED]


def test_there_is_no_verdict_and_nobody_trains_on_one(tmp_path: Path) -> None:
    environment = PromptsEnvironment(
        rows(tmp_path, {"prompt": "q"}), shares={"train": 1, "validation": 0, "test": 0}
    )
    environments = Environments({"mine": environment})
    assert not has_verdicts(environment)
    assert has_verdicts(make_environment("chat"))
    assert has_verdicts(make_environment("math")), "a verifier's"
    tasks = environments.tasks("mine", "train", 1, 0, "Be brief.")
    assert tasks[0].messages == [SYSTEM, ASKED]
    assert environments.judge([(tasks[0], [ANSWER], None)]) == [None]
    with pytest.raises(
        InputError, match="environments.mine: it has no verdicts to train on. Take it in rlhf"
    ):
        check_gold(environments, tasks)
