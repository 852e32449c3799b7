"""The suites that `python -m alloy evaluate` knows by name, with data of its own making or with the user's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alloy.errors import InputError

Suite = dict[str, Any]

GENERATED: dict[str, Suite] = {
    "math": {"environment": "math", "items": 300, "max_completion_tokens": 256},
    "instructions": {"environment": "instructions", "items": 300, "max_completion_tokens": 256},
    "choice": {"environment": "choice", "items": 300, "max_completion_tokens": 256},
    "tools": {"environment": "workplace", "items": 300, "max_turns": 6, "max_completion_tokens": 256},
    "functions": {
        "environment": "function_calls",
        "items": 400,
        "max_turns": 1,
        "max_completion_tokens": 512,
        "options": {"held_out": False},
    },
    "chat": {"environment": "chat", "items": 200, "max_completion_tokens": 256},
    "long": {
        "environment": "long_context",
        "items": 100,
        "lengths": [512, 2048],
        "max_completion_tokens": 256,
    },
    "budget": {
        "environment": "math",
        "items": 200,
        "budgets": [0, 16, 32, 64, 128, None],
        "grace_tokens": 16,
        "max_completion_tokens": 512,
        "options": {"min_steps": 2, "max_steps": 4},
    },
}
"""Suites whose tasks the project makes itself."""

FROM_DATA: dict[str, Suite] = {
    "math": {"options": {"kind": "math"}, "max_completion_tokens": 2048},
    # As IFEval's public scripts have it: 1,280 tokens, and what is cut off there is judged as it stands.
    "instructions": {
        "options": {"kind": "instructions"},
        "max_completion_tokens": 1280,
        "judge_unfinished": True,
    },
    "choice": {"options": {"kind": "choice"}, "max_completion_tokens": 2048},
    "code": {"options": {"kind": "code"}, "max_completion_tokens": 1024},
    "budget": {
        "options": {"kind": "math"},
        "budgets": [0, 128, 256, 512, 1024, None],
        "grace_tokens": 500,
        "max_completion_tokens": 4096,
    },
    "tools": {"environment": "workbench", "items": 480, "max_turns": 16, "max_completion_tokens": 512},
    "chat": {"environment": "prompts", "items": 200, "max_completion_tokens": 1024},
}
"""Suites over a benchmark's file, a WorkBench folder (tools), or prompts (chat)."""

NAMES = tuple(dict.fromkeys([*GENERATED, *FROM_DATA]))


def standard_suites(names: Sequence[str], data: Mapping[str, str]) -> dict[str, Suite]:
    """The named suites; those that `data` names over its files.

    Args:
        data: by suite, a file, a folder, or `org/name[:subset[:split]]` on the Hub.
    Raises:
        InputError: no such suite, one that needs data and has none, or data for one that takes none.
    """
    unknown = [name for name in [*names, *data] if name not in NAMES]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no suite. Known: {', '.join(NAMES)}; others are told in a --config."
        )
    idle = [name for name in data if name not in names]
    if idle:
        raise InputError(f"--data {idle[0]}: the suite is not asked for. Name it in --suites.")
    return {name: _suite(name, data.get(name)) for name in names}


def _suite(name: str, given: str | None) -> Suite:
    if given is None:
        if name not in GENERATED:
            raise InputError(f"{name}: this suite measures on a file. Name it: --data {name}=FILE.")
        return GENERATED[name]
    if name not in FROM_DATA:
        raise InputError(f"--data {name}: this suite makes its own tasks. Leave it out.")
    suite = {"environment": "benchmark", **FROM_DATA[name]}
    options = dict(suite.get("options", {}))
    if suite["environment"] == "workbench":
        options["data"] = given
    elif suite["environment"] == "prompts":
        options["paths"] = {"test": read_place(given)}
    else:
        options["path"] = read_place(given)
    return {**suite, "options": options}


def read_place(given: str) -> Any:
    """A file as it is; `org/name[:subset[:split]]`, which is no file, as the keys of a source."""
    hub, *rest = given.split(":")
    if not rest or Path(given).exists() or len(rest) > 2:
        return given
    subset, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0])
    return {"hub": hub, "subset": subset or None, "split": split}
