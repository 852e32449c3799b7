"""A tool that runs Python, and problems whose answer is easier computed than thought.

What a policy writes runs in the sandbox of `alloy.verify.sandbox`, within limits short enough for thousands
of calls. Its own mistakes are told to it as errors. Where the sandbox itself fails, the answer says that
the tool is not available, and the world says in `failure` that what came of the task is nobody's fault.
"""

import contextlib
import os
import random
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.python_tool_problems import KINDS, LEADS
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError
from alloy.verify.sandbox import Limits, Outcome, Sandboxed, isolation, not_isolated

MAX_CODE = 20_000
"""Characters of a program."""
MAX_CHARACTERS = 1_000
"""Of an answer; what a program prints beyond is counted and left out."""
LIMITS = Limits(
    # The wall clock is generous, so that a busy machine costs nobody a call: computing time is what counts.
    seconds=8.0,
    cpu_seconds=2,
    memory_bytes=256 * 2**20,
    file_bytes=2**20,
    output_bytes=2**16,
)
UNAVAILABLE = "error: the tool is not available; this is no fault of the program"

PYTHON_TOOL: dict[str, Any] = {
    "name": "python",
    "description": (
        "Runs a Python program and answers with what it prints, at most "
        f"{MAX_CHARACTERS} characters. Every call is a new process; nothing is kept."
    ),
    "parameters": {
        "type": "object",
        "properties": {"code": {"type": "string"}},
        "required": ["code"],
        "additionalProperties": False,
    },
}


class SandboxFailed(RuntimeError):
    """The sandbox did not come so far as to run the program."""


class PythonWorld:
    """The tool `python`; every call is a process of its own, so there is no state but the counts.

    Attributes:
        calls: that ran a program or would have.
        failures: those of them in which the sandbox itself failed.
        failure: what is to be told of these; empty where there were none. What a policy does after a
            failure says nothing of it: whoever judges gives an `error`, no reward.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.failure = ""

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """What the program printed, or a text that begins with "error:"."""
        if name != PYTHON_TOOL["name"]:
            return f"error: there is no tool {str(name)[:40]!r}"
        if not isinstance(arguments, dict) or set(arguments) != {"code"}:
            return 'error: python takes one argument, "code"'
        code = arguments["code"]
        if not isinstance(code, str):
            return 'error: "code" must be a string'
        if len(code) > MAX_CODE:
            return f"error: the code has {len(code):,} characters, {MAX_CODE:,} are allowed"
        self.calls += 1
        try:
            return answer_of(run_program(code))
        except SandboxFailed as error:
            self.failures += 1
            self.failure = f"the sandbox failed in {self.failures} of {self.calls} calls: {error}"
            return UNAVAILABLE


# The byte says that the sandbox is made and what follows is the program's own doing; the program itself
# comes by standard input, where its size meets no limit of the command line.
_START = (
    "__import__('os').write({0}, b'1'); __import__('os').close({0}); "
    "exec(compile(__import__('sys').stdin.buffer.read(), '<code>', 'exec'))"
)


def run_program(code: str) -> Outcome:
    """Run a program to its end within `LIMITS`.

    Raises:
        SandboxFailed: it was never begun.
    """
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise SandboxFailed(str(error)) from None
    try:
        os.set_blocking(reading, False)
        with Sandboxed(_START.format(writing), LIMITS, [writing]) as running:
            outcome = running.communicate(code.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(BlockingIOError):
            if os.read(reading, 1):
                return outcome
    except (OSError, RuntimeError) as error:
        raise SandboxFailed(str(error)) from None
    finally:
        os.close(reading)
        os.close(writing)
    told = "late" if outcome.ended == "late" else _last_line(outcome.stderr)
    raise SandboxFailed(f"status {outcome.status}, {told or 'nothing was said'}")


def answer_of(outcome: Outcome) -> str:
    """How a program's end is told to who wrote it."""
    if outcome.ended == "late":
        return f"error: it did not end within {LIMITS.seconds:g} s"
    if outcome.ended == "too much output":
        return f"error: it printed more than {LIMITS.output_bytes:,} bytes"
    if outcome.status in _OUT_OF_TIME:
        return f"error: it did not end within {LIMITS.cpu_seconds} s of computing"
    if outcome.status:
        told = _last_line(outcome.stderr) or f"it ended with status {outcome.status}"
        return _trimmed(f"error: {told}")
    return _trimmed(outcome.stdout.decode(errors="replace").rstrip()) or "(nothing was printed)"


_OUT_OF_TIME = (128 + 9, 128 + 24)
"""Statuses of a program that the kernel ended at its limit of computing time."""


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _trimmed(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} ... ({len(text) - MAX_CHARACTERS:,} more characters)"


def open_world(tools: Sequence[dict[str, Any]]) -> PythonWorld | None:
    """A fresh world where `python` is on offer; None where nothing is.

    Raises:
        InputError: programs cannot be run here at all.
    """
    if not tools:
        return None
    _check_sandbox()
    return PythonWorld()


@cache
def _check_sandbox() -> None:
    """Say once what a program can reach, and refuse to begin where none can run."""
    try:
        outcome = run_program("print(6 * 7)")
    except SandboxFailed as error:
        raise InputError(
            f"python: no program can be run in a sandbox here ({error}). See docs/verifiers.md, or take the "
            "tool out of the tasks."
        ) from None
    if answer_of(outcome) != "42":
        raise InputError(
            f"python: print(6 * 7) was answered {answer_of(outcome)!r} in the sandbox. See docs/verifiers.md."
        )
    if isolation() == "limits":
        told = "; ".join(not_isolated("limits"))
        print(f"python: programs are held by limits alone; a hostile one can: {told}", file=sys.stderr)


class PythonEnvironment:
    """Problems for a program: sums under a condition, primes, divisors, dates, counts in a text.

    The answer is judged as a number, however the policy came by it: calling the tool is allowed, not asked.

    Args:
        kinds: of problems, drawn evenly.
    """

    name = "python"
    verifier = "math"

    def __init__(self, kinds: Sequence[str] = tuple(KINDS)) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if isinstance(kinds, str) or unknown or not kinds:
            raise InputError(f"kinds = {kinds!r}: take some of {', '.join(KINDS)}.")
        self.kinds = tuple(kinds)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        return [self._task(split, seed, index) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return open_world(task.tools)

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", "gold": task.gold["answer"]}

    def _task(self, split: Split, seed: int, index: int) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        name = rng.choice(self.kinds)
        kind = KINDS[name]
        lead, ask = rng.choice(split_grid(len(LEADS), len(kind.asks), split))
        values = kind.draw(rng)
        answer = str(kind.solve(**values))
        code = kind.code.format(**values)
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"{name}, lead {lead}, ask {ask}",
            messages=[{"role": "user", "content": f"{LEADS[lead]} {kind.asks[ask].format(**values)}"}],
            tools=[PYTHON_TOOL],
            gold={"answer": answer, "kind": name},
            demonstration=[
                {
                    "role": "assistant",
                    "thinking": "a program can tell",
                    "content": "",
                    "tool_calls": [{"name": "python", "arguments": {"code": code}}],
                },
                {"role": "tool", "content": answer},
                {
                    "role": "assistant",
                    "thinking": f"it printed {answer}",
                    "content": f"The answer is {answer}.",
                },
            ],
        )
