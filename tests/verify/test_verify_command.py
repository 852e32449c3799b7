import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alloy.errors import InputError
from alloy.verify.command import _parse, judge_lines, run
from alloy.verify.registry import VERIFIERS

WORKBENCH = Path(__file__).parents[3] / "shared" / "data" / "workbench"


def judged(name: str, *lines: object, arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    given = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    out = io.StringIO()
    options = _parse([name, "--workers", "1", *arguments])
    assert judge_lines(options, io.BytesIO(given.encode("utf-8", "surrogatepass")), out) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_for_a_line_in_order_and_never_stopping_at_a_bad_one() -> None:
    verdicts = judged(
        "math",
        {"completion": "The answer is 42.", "gold": "42", "extra": 1},
        "not JSON",
        "",
        "[1]",
        {"completion": "142", "gold": "42"},
        {"gold": "42"},
        {"completion": 42, "gold": "42"},
        {"completion": "no idea", "gold": "42"},
        "[" * 100_000,
    )
    assert [(verdict["reward"], verdict["status"]) for verdict in verdicts] == [
        (1.0, "ok"),
        (None, "error"),
        (None, "error"),
        (None, "error"),
        (0.0, "ok"),
        (None, "error"),
        (None, "error"),
        (0.0, "unparsable"),
        (None, "error"),
    ]
    assert set(verdicts[0]) == {"reward", "status", "detail"}
    assert verdicts[1]["detail"].startswith("not JSON: ")
    assert verdicts[3]["detail"] == "not a JSON object but list"
    assert verdicts[5]["detail"] == "completion is needed"
    assert verdicts[6]["detail"].startswith("completion = 42: ")


def test_instructions_tell_what_was_followed() -> None:
    row = {
        "completion": "Sure,\nno such mark",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"num_words": 2, "relation": "at least"}],
    }
    strict, loose, short = judged("instructions", row, row | {"loose": True}, row | {"kwargs": [{}]})
    assert (strict["reward"], strict["followed"]) == (0.0, [False, True])
    assert loose["reward"] == 1.0
    assert (short["status"], short["followed"]) == ("error", None)
    assert short["detail"] == "kwargs has 1 items for 2 instructions"


@pytest.mark.parametrize(
    ("name", "row", "reward"),
    [
        ("choice", {"completion": "The answer is (B).", "gold": "B"}, 1.0),
        ("schema", {"completion": '{"a": 1}', "schema": {"required": ["a"]}}, 1.0),
        ("format", {"completion": "a</think>b", "thinking_opened": True}, 1.0),
        ("length", {"completion": "one two", "maximum": 1}, 0.0),
        ("reasoning_gym", {"completion": "24", "dataset": "basic_arithmetic", "answer": "24"}, 1.0),
        (
            "reasoning_gym",
            {"completion": "24", "dataset": "basic_arithmetic", "entry": {"answer": "24", "metadata": {}}},
            1.0,
        ),
    ],
)
def test_every_verifier_reads_its_row(name: str, row: dict[str, Any], reward: float) -> None:
    verdict = VERIFIERS[name](row)
    assert (verdict.reward, verdict.status) == (reward, "ok")


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_a_bad_row_is_an_error_that_names_the_key(name: str) -> None:
    verdict = VERIFIERS[name]({"completion": ["x"]})
    assert (verdict.reward, verdict.status) == (None, "error")
    assert ("data" if name == "workbench" else "completion") in verdict.detail


@pytest.mark.skipif(not WORKBENCH.is_dir(), reason=f"{WORKBENCH} is not there")
def test_workbench_rows() -> None:
    row = {"query": "Nothing to do.", "calls": [], "gold": []}
    right, lost = judged(
        "workbench", row, row | {"error": "it crashed"}, arguments=("--data", str(WORKBENCH))
    )
    assert (right["reward"], right["status"]) == (1.0, "ok")
    assert lost["reward"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maths"], "'maths' is no verifier. Known: choice, "),
        ([], "required: NAME"),
        (["math", "--workers", "0"], "must be positive"),
        (["math", "--workers", "many"], "invalid int value"),
        (["math", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["workbench"], "--data is needed"),
        (["workbench", "--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_wrong_command_line_is_an_input_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        run(arguments)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "NAME" in capsys.readouterr().out


def test_a_verdict_comes_before_the_next_line_is_there() -> None:
    program = "import sys; from alloy.verify.command import run; sys.exit(run(['length', '--workers', '1']))"
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert command.stdin
    assert command.stdout
    for length in range(1, 4):
        command.stdin.write(json.dumps({"completion": "word " * length}) + "\n")
        command.stdin.flush()
        assert json.loads(command.stdout.readline())["detail"] == f"{length} words"
    command.stdin.close()
    assert command.stdout.read() == ""
    assert command.wait() == 0
    command.stdout.close()


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    program = "import sys; from alloy.verify.command import run; sys.exit(run(['length', '--workers', '1']))"
    lines = (json.dumps({"completion": "word"}) + "\n") * 5000
    command = subprocess.run(
        f'{sys.executable} -c "{program}" | head -n 1; exit ${{PIPESTATUS[0]}}',
        shell=True,
        executable="/bin/bash",
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (command.returncode, command.stderr) == (0, "")
    assert command.stdout.count("\n") == 1
