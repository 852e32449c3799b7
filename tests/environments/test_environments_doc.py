"""What docs/environments.md says: every environment with its options, every verifier with its columns, code that runs."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from alloy.environments.problems_rows import Form
from alloy.environments.registry import ENVIRONMENTS, Environments, check_gold, make_environment
from alloy.verify.registry import VERIFIERS

TEXT = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table with that heading, by the name in their first column."""
    rows = TEXT.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0].strip("` "): row[1:] for row in cells}


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def options(name: str) -> set[str]:
    module, cls = ENVIRONMENTS[name]
    return set(inspect.signature(getattr(import_module(f"alloy.environments.{module}"), cls)).parameters)


def test_every_environment_is_there_with_its_options() -> None:
    told = table("name | asks for | options | judged by")
    assert set(told) == set(ENVIRONMENTS)
    for name, (_, listed, _) in told.items():
        if name != "problems":
            assert names(listed) == options(name), name
    assert set(table("name | example")) == set(ENVIRONMENTS) - {"problems"}
    assert set(table("option | says")) == options("problems")


def test_every_verifier_is_there_with_its_columns() -> None:
    told = table("verifier | columns | demonstration")
    assert set(told) == set(VERIFIERS) - {"workbench"}
    for name, (columns, demonstration) in told.items():
        assert names(columns) | names(demonstration) | {"prompt", "thinking"} == set(Form(name).known), name


def test_the_first_example_of_problems_is_a_config(tmp_path: Path) -> None:
    block = dedent(re.findall(r"\n((?:    .*\n)+)", TEXT.split("## Your own rows", 1)[1])[0])
    given = yaml.safe_load(block)["environments"]["gsm8k"]
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2 + 2?", "answer": "2 + 2 is 4.\\n#### 4"}\n')
    made = make_environment(given["environment"], {**given["options"], "path": None, "paths": {"test": path}})
    assert made.tasks("test", 1, 0)[0].gold == {"gold": "4"}


def test_the_environment_of_one_s_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(b for b in re.findall(r"\n((?:    .*\n|\n)+)", TEXT) if "class ParityEnvironment" in b)
    (tmp_path / "parity.py").write_text(dedent(block))
    monkeypatch.syspath_prepend(tmp_path)
    environment = make_environment("parity:ParityEnvironment", {"largest": 9})
    tasks = environment.tasks("train", 40, 0)
    assert {task.gold["answer"] for task in tasks} == {"yes", "no"}
    assert environment.tasks("train", 5, 0) == tasks[:5]
    assert {t.template for t in tasks}.isdisjoint(t.template for t in environment.tasks("test", 40, 0))
    check_gold(Environments({"parity": environment}), tasks)
