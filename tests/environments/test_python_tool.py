"""The python tool: programs that really run, mistakes told as such, and a sandbox that fails told apart from them."""

import time
from typing import Any, get_args

import pytest

from alloy.data.checks import check
from alloy.data.shapes import Conversation
from alloy.environments import python_tool
from alloy.environments.python_tool import (
    LIMITS,
    MAX_CHARACTERS,
    MAX_CODE,
    UNAVAILABLE,
    PythonEnvironment,
    PythonWorld,
    open_world,
)
from alloy.environments.python_tool_problems import KINDS, LEADS
from alloy.environments.registry import Environments, check_gold, make_environment
from alloy.environments.task import Split
from alloy.errors import InputError
from alloy.verify.registry import judge_row
from alloy.verify.sandbox import Limits

SPLITS: tuple[Split, ...] = get_args(Split)


def run(code: str) -> str:
    world = PythonWorld()
    answer = world.call("python", {"code": code})
    assert (world.calls, world.failures, world.failure) == (1, 0, "")
    return answer


# The world.


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("print(6 * 7)", "42"),
        ("print(1)\nprint(2)\n", "1\n2"),
        ("print('  é\\n\\n')", "  é"),
        ("from __future__ import annotations\nprint(__name__)", "__main__"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(20))", "2432902008176640000"),
        ("import sys\nprint('seen')\nsys.exit(0)", "seen"),
        ("6 * 7", "(nothing was printed)"),
        ("", "(nothing was printed)"),
        ("1 / 0", "error: ZeroDivisionError: division by zero"),
        ("print('before')\nx = y", "error: NameError: name 'y' is not defined"),
        ("print(os.name)", "error: NameError: name 'os' is not defined"),
        ("print(", "error: SyntaxError: '(' was never closed"),
        ("input()", "error: EOFError: EOF when reading a line"),
        ("import numpy", "error: ModuleNotFoundError: No module named 'numpy'"),
        ("import sys\nsys.exit(3)", "error: it ended with status 3"),
        ("import os\nos._exit(7)", "error: it ended with status 7"),
        ("x = [0] * 10**9", "error: MemoryError"),
        ("print('x' * 70_000)", "error: it printed more than 65,536 bytes"),
        ("\0", "error: ValueError: source code string cannot contain null bytes"),
    ],
)
def test_what_a_program_is_answered(code: str, answer: str) -> None:
    assert run(code) == answer


def test_text_that_is_no_utf_8_is_the_program_s_mistake() -> None:
    assert run("x = '\ud800'").startswith("error: SyntaxError")
    assert run("import os\nos.write(1, b'\\xff')") == "\N{REPLACEMENT CHARACTER}"


def test_an_answer_is_cut_at_the_number_that_the_tool_states() -> None:
    assert f"at most {MAX_CHARACTERS} characters" in python_tool.PYTHON_TOOL["description"]
    assert run(f"print('x' * {MAX_CHARACTERS})") == "x" * 1000
    assert run("print('x' * 3456)") == "x" * 1000 + " ... (2,456 more characters)"
    assert run("raise ValueError('x' * 3456)").endswith(" ... (2,475 more characters)")  # error: ValueError:


def test_every_call_is_a_process_of_its_own() -> None:
    world = PythonWorld()
    assert (
        world.call("python", {"code": "x = 1\nopen('/tmp/kept', 'w').write('x')"}) == "(nothing was printed)"
    )
    assert world.call("python", {"code": "print(x)"}) == "error: NameError: name 'x' is not defined"
    found = world.call("python", {"code": "import os\nprint(os.path.exists('/tmp/kept'))"})
    # Without namespaces the file system is the machine's, as docs/verifiers.md says.
    assert found == "False" or python_tool.isolation() == "limits"
    assert world.calls == 3


def test_programs_without_end_are_told_so() -> None:
    began = time.monotonic()
    assert run("while True: pass") == "error: it did not end within 2 s of computing"
    assert time.monotonic() - began < LIMITS.seconds


def test_a_program_that_only_waits_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tool, "LIMITS", Limits(seconds=1.5))
    assert run("import time\ntime.sleep(60)") == "error: it did not end within 1.5 s"


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("pyhton", {"code": "print(1)"}, "error: there is no tool 'pyhton'"),
        (None, {"code": "print(1)"}, "error: there is no tool 'None'"),
        ("python", {}, 'error: python takes one argument, "code"'),
        ("python", {"code": "print(1)", "seconds": 60}, 'error: python takes one argument, "code"'),
        ("python", "print(1)", 'error: python takes one argument, "code"'),
        ("python", None, 'error: python takes one argument, "code"'),
        ("python", {"code": 1}, 'error: "code" must be a string'),
        (
            "python",
            {"code": "#" * (MAX_CODE + 1)},
            "error: the code has 20,001 characters, 20,000 are allowed",
        ),
    ],
)
def test_wrong_calls_are_answered_and_run_nothing(name: Any, arguments: Any, answer: str) -> None:
    world = PythonWorld()
    assert world.call(name, arguments) == answer
    assert (world.calls, world.failures) == (0, 0)


def test_the_longest_program_runs() -> None:
    program = "print('x')\n#"
    assert run(program + "\N{GRINNING FACE}" * (MAX_CODE - len(program))) == "x"


def test_a_sandbox_that_fails_is_not_the_program_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    world = PythonWorld()
    assert world.call("python", {"code": "print(1)"}) == "1"
    # With so little memory no interpreter starts; with so little time none is there before it ends.
    for limits in (Limits(memory_bytes=2**20), Limits(seconds=0.001)):
        monkeypatch.setattr(python_tool, "LIMITS", limits)
        assert world.call("python", {"code": "print(1)"}) == UNAVAILABLE
    assert (world.calls, world.failures) == (3, 2)
    assert world.failure.startswith("the sandbox failed in 2 of 3 calls: ")
    monkeypatch.setattr(python_tool, "LIMITS", LIMITS)
    assert world.call("python", {"code": f"print({UNAVAILABLE!r})"}) == UNAVAILABLE
    assert world.failures == 2  # to say so is not to be so


def test_a_machine_without_a_sandbox_is_told_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    python_tool._check_sandbox.cache_clear()
    monkeypatch.setattr(python_tool, "LIMITS", Limits(memory_bytes=2**20))
    task = PythonEnvironment().tasks("train", 1, 0)[0]
    with pytest.raises(
        InputError, match=r"python: no program can be run in a sandbox here \(status \d+, .*verifiers.md"
    ):
        PythonEnvironment().open(task)
    monkeypatch.setattr(python_tool, "LIMITS", LIMITS)
    assert isinstance(PythonEnvironment().open(task), PythonWorld)
    assert open_world([]) is None


# The problems.


def test_every_demonstrated_program_prints_the_gold() -> None:
    environment = PythonEnvironment()
    ran = dict.fromkeys(KINDS, 0)
    for task in [task for split in SPLITS for task in environment.tasks(split, 50, 2)]:
        call, answer, last = task.demonstration
        (made,) = call["tool_calls"]
        world = environment.open(task)
        assert world is not None
        assert world.call(made["name"], made["arguments"]) == answer["content"] == task.gold["answer"], task
        assert last["content"] == f"The answer is {task.gold['answer']}."
        ran[task.gold["kind"]] += 1
    assert min(ran.values()) >= 3, ran


def test_golds_by_hand() -> None:
    by_hand: dict[str, list[tuple[dict[str, Any], int]]] = {
        "digit_sum": [({"a": 2, "b": 15}, 26)],
        "multiples": [({"low": 3, "high": 10, "k": 3}, 18), ({"low": 4, "high": 5, "k": 3}, 0)],
        "primes": [({"low": 1, "high": 10}, 4), ({"low": 7, "high": 11}, 2)],
        "divisors": [({"n": 36}, 9), ({"n": 97}, 2)],
        "largest_prime_factor": [({"n": 84}, 7), ({"n": 97}, 97), ({"n": 128}, 2)],
        "gcd": [({"a": 36, "b": 60}, 12)],
        "lcm": [({"a": 4, "b": 6}, 12)],
        "remainder": [({"a": 3, "b": 4, "m": 7}, 4)],
        "halvings": [({"n": 6}, 8)],
        "ones": [({"n": 11}, 3)],
        "days": [
            ({"start": "2024-02-28", "end": "2024-03-01"}, 2),
            ({"start": "1999-12-31", "end": "2001-01-01"}, 367),
        ],
        "letters": [({"text": "bacaba", "letter": "a"}, 3)],
    }
    assert set(by_hand) == set(KINDS)
    for name, cases in by_hand.items():
        for values, answer in cases:
            assert KINDS[name].solve(**values) == answer, name
            assert run(KINDS[name].code.format(**values)) == str(answer), name


def test_demonstrations_win_and_are_good_data() -> None:
    environment = PythonEnvironment()
    tasks = environment.tasks("train", 60, 0)
    check_gold(Environments({"python": environment}), tasks)
    for task in tasks:
        check(Conversation([*task.messages, *task.demonstration], task.tools), None)
        said = [{"role": "assistant", "content": f"The answer is {int(task.gold['answer']) + 1}."}]
        assert judge_row("math", environment.row(task, said)).reward == 0.0


def test_no_template_is_in_two_splits_and_every_kind_is_in_each() -> None:
    templates = {
        split: {task.template for task in PythonEnvironment().tasks(split, 2000, 0)} for split in SPLITS
    }
    assert [len(templates[split]) for split in SPLITS] == [12 * 15, 12 * 5, 12 * 5]
    assert len(set().union(*templates.values())) == 12 * 25
    assert all(len(kind.asks) == len(LEADS) == 5 for kind in KINDS.values())


def test_the_same_seed_makes_the_same_tasks() -> None:
    long = PythonEnvironment().tasks("test", 12, 3)
    assert PythonEnvironment().tasks("test", 5, 3) == long[:5]
    assert PythonEnvironment().tasks("test", 5, 4) != long[:5]
    assert len({task.id for task in long}) == 12


def test_kinds() -> None:
    assert {task.gold["kind"] for task in PythonEnvironment(["gcd", "days"]).tasks("train", 40, 0)} == {
        "gcd",
        "days",
    }
    for kinds in (["roots"], [], "gcd"):
        with pytest.raises(InputError, match="take some of digit_sum, multiples"):
            make_environment("python", {"kinds": kinds})
