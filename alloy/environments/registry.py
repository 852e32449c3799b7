"""The environments by name, and judging what was done in them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_file, fingerprint_json
from alloy.environments.task import Environment, Message, Task, World
from alloy.errors import InputError
from alloy.verify.verdict import Verdict

# Module and class, so that a name costs no import until it is used.
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "math": ("arithmetic", "ArithmeticEnvironment"),
    "instructions": ("instructions", "InstructionsEnvironment"),
    "chat": ("chat", "ChatEnvironment"),
    "recall": ("recall", "RecallEnvironment"),
    "long_context": ("long_context", "LongContextEnvironment"),
    "repeat": ("repeat", "RepeatEnvironment"),
    "workplace": ("workplace", "WorkplaceEnvironment"),
    "reasoning_gym": ("reasoning_gym_tasks", "ReasoningGymEnvironment"),
    "function_calls": ("function_calls", "FunctionCallsEnvironment"),
}


_IMPORTED = re.compile(r"^\s*from alloy\.environments\.(\w+) import", re.MULTILINE)


def make_environment(name: str, options: Mapping[str, Any] | None = None) -> Environment:
    """An environment with its options.

    Raises:
        InputError: no such environment, or an option that it does not take.
    """
    module, cls = _find(name)
    factory: Callable[..., Environment] = getattr(import_module(f"alloy.environments.{module}"), cls)
    try:
        return factory(**(options or {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"environment {name!r}: {error}. Mend its options.") from None


def _find(name: str) -> tuple[str, str]:
    if name not in ENVIRONMENTS:
        raise InputError(f"environment {name!r}: there is no such one. Known: {', '.join(ENVIRONMENTS)}.")
    return ENVIRONMENTS[name]


@cache
def fingerprint_environment(name: str) -> str:
    """The identity of the code that makes an environment's tasks: the same code makes the same tasks.

    Raises:
        InputError: no such environment; so a stage with a wrong name ends before its folder is touched.
    """
    folder = Path(__file__).parent
    files = set(folder.glob(f"{_find(name)[0]}*.py"))
    waiting = list(files)
    while waiting:
        for module in _IMPORTED.findall(waiting.pop().read_text(encoding="utf-8")):
            other = folder / f"{module}.py"
            if other not in files and module not in ("task", "registry"):
                files.add(other)
                waiting.append(other)
    return fingerprint_json([[file.name, fingerprint_file(file)] for file in sorted(files)])


class Environments(dict[str, Environment]):
    """The environments of a run, by name."""

    @classmethod
    def make(cls, options: Mapping[str, Mapping[str, Any]]) -> "Environments":
        return cls({name: make_environment(name, given) for name, given in options.items()})

    def judge(self, done: Sequence[tuple[Task, list[Message], World | None]]) -> list[Verdict]:
        """A verdict for each, in order; an environment with a `verifier` is judged in the killable pool."""
        verdicts: list[Verdict | None] = [None] * len(done)
        by_verifier: dict[str, list[int]] = {}
        for index, (task, messages, world) in enumerate(done):
            environment = self[task.environment]
            verifier = getattr(environment, "verifier", None)
            if verifier is None:
                verdicts[index] = environment.judge(task, messages, world)
            else:
                by_verifier.setdefault(verifier, []).append(index)
        for verifier, indices in by_verifier.items():
            rows = [self[done[i][0].environment].row(done[i][0], done[i][1]) for i in indices]  # type: ignore[attr-defined]
            for index, verdict in zip(indices, _pool().judge(verifier, rows), strict=True):
                verdicts[index] = verdict
        return [verdict for verdict in verdicts if verdict is not None]


@cache
def _pool() -> Any:
    """The workers that judge for this process; started once, they end with it."""
    from alloy.verify.pool import VerifierPool

    return VerifierPool(workers=2, timeout_seconds=10.0)


def check_gold(environments: Environments, tasks: Iterable[Task]) -> None:
    """Every known solution must win before anyone trains on the verdicts.

    Raises:
        InputError: with the tasks whose own solution is judged below 1.
    """
    with_gold = [task for task in tasks if task.demonstration and task.environment != "chat"]
    done = []
    for task in with_gold:
        world = environments[task.environment].open(task)
        for turn in task.demonstration:
            if world is not None:
                for call in turn.get("tool_calls", []):
                    world.call(call["name"], call["arguments"])
        done.append((task, task.demonstration, world))
    verdicts = environments.judge(done)
    losing = [(task.id, v) for task, v in zip(with_gold, verdicts, strict=True) if v.reward != 1.0]
    if losing:
        told = "; ".join(f"{name}: {v.status} {v.detail}" for name, v in losing[:3])
        raise InputError(
            f"{len(losing)} of {len(with_gold)} known solutions are not judged 1.0 ({told}). Mend the verifier."
        )
