"""Python with unit tests: does the program in a completion pass them?"""

import ast
import json
import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alloy.verify.answer import answer_of
from alloy.verify.sandbox import Limits, Outcome, Sandboxed, run_python
from alloy.verify.verdict import Verdict, unparsable

MAX_PROGRAM = 100_000
"""Characters."""

_FENCE = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


def verify_code(
    completion: str,
    tests: Sequence[str] = (),
    inputs: Sequence[tuple[str, str]] = (),
    entry_point: str | None = None,
    prompt: str = "",
    limits: Limits | None = None,
    thinking_opened: bool = False,
) -> Verdict:
    """Reward 1 when the program passes every test, else 0; `parts["passed"]` is the share that it passes.

    The program is the last fenced Python block, or the whole answer. It runs in one sandbox and the
    tests in another; see alloy/verify/code_peer.py for why. A program that does not end, ends itself
    before its tests or raises has failed them.

    Args:
        tests: each is code that raises when it fails: asserts, HumanEval's `check(candidate)`, functions
            `test_*`, unittest's TestCases. The program's names are there.
        inputs: texts for standard input, and what must stand on standard output then; white space at
            the ends of lines, and at the end, is not compared.
        entry_point: the function that `check` is given.
        prompt: code that the program continues, such as HumanEval's signature; left out where the
            program says it itself.
        limits: of all tests and inputs together. Tests that are not done when the time is over have all
            failed, and so has every input that did not run.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    if not tests and not inputs:
        return Verdict(None, "error", "tests and inputs are both empty: give one of them")
    answer = answer_of(completion, thinking_opened)
    if answer is None:
        return unparsable("the thinking was never closed")
    program = find_program(answer, prompt, entry_point)
    if program is None:
        return unparsable("no Python found")
    if len(program) > MAX_PROGRAM or "\0" in program or not _is_text(program):
        return unparsable(f"a program of more than {MAX_PROGRAM:,} characters, or with some that are none")
    limits = limits or Limits()
    ends = time.monotonic() + limits.seconds
    passed, told = run_tests(program, tests, entry_point, limits) if tests else (0, "")
    for number, (given, expected) in enumerate(inputs, 1):
        left = replace(limits, seconds=max(0.0, ends - time.monotonic()))
        complaint = _check_output(run_python(program, given.encode(), left), expected)
        passed += not complaint
        if complaint:
            told = told or f"input {number}: {complaint}"
    total = len(tests) + len(inputs)
    return Verdict(float(passed == total), "ok", told, {"passed": passed / total})


def find_program(answer: str, prompt: str = "", entry_point: str | None = None) -> str | None:
    """The program that an answer gives; None where there is none."""
    fenced = [text for language, text in _FENCE.findall(answer) if language.lower() in ("", "python", "py", "python3")]  # fmt: skip
    candidates = fenced[::-1] if fenced else [answer]
    for text in candidates:
        whole = bool(entry_point) and re.search(
            rf"^def\s+{re.escape(str(entry_point))}\b", text, re.MULTILINE
        )
        for source in [text] if whole or not prompt else [prompt + text, text]:
            if _parses(source):
                return source
    # What is fenced as Python was meant as it: that it does not parse is for the tests to say.
    return candidates[0] if fenced else None


def _parses(source: str) -> bool:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) for node in tree.body) or "(" in source


def _is_text(program: str) -> bool:
    try:
        program.encode()
    except UnicodeEncodeError:
        return False
    return True


def run_tests(program: str, tests: Sequence[str], entry_point: str | None, limits: Limits) -> tuple[int, str]:
    """How many tests pass, and what is wrong with the first that does not."""
    peer = (Path(__file__).parent / "code_peer.py").read_text(encoding="utf-8")
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs, os.fdopen(reading, "rb") as verdict:
        given: dict[str, Any] = {"program": program, "descriptor": theirs.fileno()}
        with Sandboxed(f"{peer}\n\nbe_program()", limits, [theirs.fileno()], silent=True) as running:
            theirs.close()
            running.tell(given)
            given = {"tests": list(tests), "entry_point": entry_point, "descriptor": ours.fileno(), "verdict": writing}  # fmt: skip
            with Sandboxed(f"{peer}\n\nbe_tests()", limits, [ours.fileno(), writing]) as testing:
                ours.close()
                os.close(writing)
                ended = testing.communicate((json.dumps(given) + "\n").encode())
        said = verdict.read()
    if ended.ended == "late":
        return 0, f"did not end within {limits.seconds:g} s"
    if not said:
        raise RuntimeError(f"the tests ended with status {ended.status}: {_last_line(ended.stderr)}")
    found = json.loads(said)
    return found["passed"], found["first"]


def _check_output(outcome: Outcome, expected: str) -> str:
    if outcome.ended != "itself":
        return "did not end in time" if outcome.ended == "late" else outcome.ended
    if outcome.status:
        return f"status {outcome.status}: {_last_line(outcome.stderr)}"
    said = outcome.stdout.decode(errors="replace")
    return "" if _lines(said) == _lines(expected) else f"said {said[:100]!r}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "nothing was said"
