"""The environments by name, and judging what was done in them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_file, fingerprint_json
from alloy.environments.task import Environment, Message, Split, Task, World
from alloy.errors import InputError
from alloy.named import load_named
from alloy.processes import gathered, share
from alloy.verify.verdict import Verdict

# Module and class, so that a name costs no import until it is used.
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "math": ("arithmetic", "ArithmeticEnvironment"),
    "instructions": ("instructions", "InstructionsEnvironment"),
    "chat": ("chat", "ChatEnvironment"),
    "judge": ("judge", "JudgeEnvironment"),
    "prompts": ("prompts", "PromptsEnvironment"),
    "instructed": ("instructed", "InstructedEnvironment"),
    "recall": ("recall", "RecallEnvironment"),
    "long_context": ("long_context", "LongContextEnvironment"),
    "repeat": ("repeat", "RepeatEnvironment"),
    "workplace": ("workplace", "WorkplaceEnvironment"),
    "workbench": ("workbench", "WorkbenchEnvironment"),
    "tool_hallucination": ("tool_hallucination", "ToolHallucinationEnvironment"),
    "reasoning_gym": ("reasoning_gym_tasks", "ReasoningGymEnvironment"),
    "function_calls": ("function_calls", "FunctionCallsEnvironment"),
    "problems": ("problems", "ProblemsEnvironment"),
    "benchmark": ("benchmark", "BenchmarkEnvironment"),
    "choice": ("choices", "ChoiceEnvironment"),
    "schema": ("schemas", "SchemaEnvironment"),
    "python": ("python_tool", "PythonEnvironment"),
    "trl": ("trl_interface", "TrlEnvironment"),
}


READS_FILES = ("problems", "benchmark", "trl", "workbench", "judge", "prompts", "instructed")
"""Those whose tasks come from files: they offer `fingerprint(options) -> str`."""

_IMPORTED = re.compile(r"^\s*from alloy\.environments\.(\w+) import", re.MULTILINE)


def make_environment(name: str, options: Mapping[str, Any] | None = None) -> Environment:
    """An environment with its options; `package.module:Class` names one of the user's own.

    Raises:
        InputError: no such environment, or an option that it does not take.
    """
    module, cls = _find(name)
    factory: Callable[..., Environment] = load_named(f"{module}:{cls}", "environment")
    try:
        return factory(**(options or {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"environment {name!r}: {error}. Mend its options.") from None


def _find(name: str) -> tuple[str, str]:
    """Module and class of an environment."""
    module, colon, cls = name.partition(":")
    if colon and module and cls:
        return module, cls
    if name not in ENVIRONMENTS:
        raise InputError(
            f"environment {name!r}: there is no such one. Known: {', '.join(ENVIRONMENTS)}; one of your own "
            "is named package.module:Class."
        )
    module, cls = ENVIRONMENTS[name]
    return f"alloy.environments.{module}", cls


def fingerprint_environment(name: str, options: Mapping[str, Any] | None = None) -> str:
    """The identity of what makes an environment's tasks: its code, and the files that its options name.

    Raises:
        InputError: no such environment, or a file that is not there; so a stage ends before its folder
            is touched.
    """
    code = _fingerprint_code(name)
    if name not in READS_FILES:
        return code
    module, cls = _find(name)
    return fingerprint_json([code, getattr(import_module(module), cls).fingerprint(options or {})])


@cache
def _fingerprint_code(name: str) -> str:
    """The same code makes the same tasks; of the user's own environment it is its module alone."""
    module = _find(name)[0]
    if ":" in name:
        try:
            spec = find_spec(module)
        except ImportError:
            spec = None
        if spec is None or spec.origin is None:
            raise InputError(f"environment {name!r}: there is no module {module}. Put it on PYTHONPATH.")
        return fingerprint_file(Path(spec.origin))
    folder = Path(__file__).parent
    files = set(folder.glob(f"{module.rpartition('.')[2]}*.py"))
    waiting = list(files)
    while waiting:
        for module in _IMPORTED.findall(waiting.pop().read_text(encoding="utf-8")):
            other = folder / f"{module}.py"
            if other not in files and module not in ("task", "registry"):
                files.add(other)
                waiting.append(other)
    return fingerprint_json([[file.name, fingerprint_file(file)] for file in sorted(files)])


class Environments(dict[str, Environment]):
    """The environments of a run, by the label that a config gives each; its name where it gives none."""

    @classmethod
    def make(
        cls, options: Mapping[str, Mapping[str, Any]], names: Mapping[str, str] | None = None
    ) -> "Environments":
        """Environments with their options by label; `names` has those whose label is not their name."""
        named = names or {}
        return cls(
            {label: make_environment(named.get(label, label), given) for label, given in options.items()}
        )

    def tasks(self, label: str, split: Split, count: int, seed: int, system: str | None = None) -> list[Task]:
        """Tasks that know their environment by its label, with a system prompt in place of their own."""
        found = self[label].tasks(split, count, seed)
        if all(task.environment == label for task in found) and system is None:
            return found
        return [replace(task, environment=label, messages=_under(system, task.messages)) for task in found]

    def judge(self, done: Sequence[tuple[Task, list[Message], World | None]]) -> list[Verdict | None]:
        """A verdict for each, in order; an environment with a `verifier` is judged in the killable pool.

        None from an environment that has none.
        """
        verdicts: list[Verdict | None] = [None] * len(done)
        by_verifier: dict[str, list[int]] = {}
        for index, (task, messages, world) in enumerate(done):
            failure = getattr(world, "failure", "")
            if failure:
                # The world itself broke: nobody's answer can be judged in it.
                verdicts[index] = Verdict(None, "error", failure)
                continue
            environment = self[task.environment]
            verifier = getattr(environment, "verifier", None)
            if verifier is None and has_verdicts(environment):
                verdicts[index] = environment.judge(task, messages, world)
            elif verifier is not None:
                by_verifier.setdefault(verifier, []).append(index)
        for verifier, indices in by_verifier.items():
            rows = [self[done[i][0].environment].row(done[i][0], done[i][1]) for i in indices]  # type: ignore[attr-defined]
            for index, verdict in zip(indices, _pool().judge(verifier, rows), strict=True):
                verdicts[index] = verdict
        return verdicts


def has_verdicts(environment: Environment) -> bool:
    """Whether it says how well a task was done; one that only asks is for RLHF, where a reward model or a judge does."""
    return getattr(environment, "verifier", None) is not None or hasattr(environment, "judge")


def _under(system: str | None, messages: list[Message]) -> list[Message]:
    if system is None:
        return messages
    return [{"role": "system", "content": system}, *(m for m in messages if m["role"] != "system")]


@cache
def _pool() -> Any:
    """The workers that judge for this process; started once, they end with it."""
    from alloy.verify.pool import VerifierPool

    return VerifierPool(workers=2, timeout_seconds=10.0)


def solve(environments: Environments, tasks: Sequence[Task]) -> list[Verdict | None]:
    """What the known solution of each task is judged, its calls made in a fresh world; None without one."""
    done = []
    for task in tasks:
        world = environments[task.environment].open(task) if task.demonstration else None
        for turn in task.demonstration:
            if world is not None:
                for call in turn.get("tool_calls", []):
                    world.call(call["name"], call["arguments"])
        done.append((task, task.demonstration, world))
    verdicts = iter(environments.judge([each for each in done if each[1]]))
    return [next(verdicts) if messages else None for _, messages, _ in done]


def check_gold(environments: Environments, tasks: Iterable[Task]) -> int:
    """Every known solution must win before anyone trains on the verdicts.

    Returns: how many tasks have a known solution.
    Raises:
        InputError: with the tasks whose own solution is judged below 1, or an environment that has no verdicts.
    """
    silent = [label for label, environment in environments.items() if not has_verdicts(environment)]
    if silent:
        raise InputError(
            f"environments.{silent[0]}: it has no verdicts to train on. Take it in rlhf, with a reward model or a judge."
        )
    with_gold = [task for task in tasks if task.demonstration and task.environment != "chat"]
    # Every process judges its share.
    verdicts = gathered(solve(environments, share(with_gold)))
    losing = [(task.id, v) for task, v in zip(with_gold, verdicts, strict=True) if v and v.reward != 1.0]
    if losing:
        told = "; ".join(f"{name}: {v.status} {v.detail}" for name, v in losing[:3])
        raise InputError(
            f"{len(losing)} of {len(with_gold)} known solutions are not judged 1.0 ({told}). Mend the verifier."
        )
    return len(with_gold)
