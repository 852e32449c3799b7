"""`python -m alloy simulate CONFIG.yaml [key.sub=value ...] [--dry-run] [--json]`."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, get_args

from alloy.command import Parser, print_json
from alloy.config import dump, load
from alloy.simulate.config import EndpointConfig, SimulateConfig

TOLD_SECONDS = 10.0
"""Between two words on how far it is."""


def run(arguments: list[str]) -> int:
    """Simulate conversations and keep the successes.

    Returns:
        0, however many are kept.
    Raises:
        InputError: config, tools, scenarios, output folder or endpoint; nothing was written.
        StageError: the endpoint went away; the same command goes on.
    """
    parser = Parser(
        prog="python -m alloy simulate",
        description="A model plays user, assistant and API; rules keep the successes as SFT data.",
    )
    parser.add_argument("config", type=Path, help="a YAML file, as in docs/simulate.md")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings that replace the file's"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the files, print the whole config, stop"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    given = parser.parse_intermixed_args(arguments)
    config = load(SimulateConfig, given.config, given.overrides)
    # What is told on the way goes beside the JSON, not into it.
    with redirect_stdout(sys.stderr) if given.json else nullcontext():
        summary = simulate(config, given.dry_run)
    if given.dry_run:
        print(dump(config), end="")
    elif given.json:
        print_json(summary)
    else:
        print(_table(summary, config))
    return 0


def simulate(config: SimulateConfig, dry_run: bool = False) -> dict[str, Any]:
    """Play what is not played yet, and write the files; the summary."""
    from alloy.simulate.folder import Folder
    from alloy.simulate.play import Settings

    settings = Settings(config)
    if dry_run:
        return {}
    folder = Folder(config, settings.identity())
    todo = folder.todo()
    if todo:
        asyncio.run(_play_all(config, settings, folder, todo))
    else:
        print(f"{config.output}: all {config.conversations} conversations are there.", flush=True)
    with folder.begin():
        return folder.write_files()


async def _play_all(config: SimulateConfig, settings: Any, folder: Any, todo: list[int]) -> None:
    from alloy.simulate.endpoint import Endpoint
    from alloy.simulate.play import play
    from alloy.simulate.roles import Role, Voice

    roles: dict[Role, EndpointConfig] = {
        role: getattr(config.roles, role).endpoint or config.endpoint for role in get_args(Role)
    }
    opened: dict[str, Endpoint] = {}
    for asked in roles.values():
        opened.setdefault(asked.model_dump_json(), Endpoint(asked))
    endpoints = {role: opened[asked.model_dump_json()] for role, asked in roles.items()}
    native = config.calls == "native"
    try:
        await endpoints["user"].prepare(config.roles.user)
        await endpoints["assistant"].prepare(config.roles.assistant, settings.some_tools() if native else ())
        if config.environment is None:
            await endpoints["server"].prepare(config.roles.server)
            if config.scenarios is None:
                await endpoints["scenario"].prepare(config.roles.scenario)
        with folder.begin():
            progress = Progress(config.conversations, config.conversations - len(todo))
            numbers = iter(folder.todo())

            async def work() -> None:
                for number in numbers:
                    voice = Voice(config, endpoints, f"simulate/{config.seed}/{number}")
                    record = await play(settings, voice, number)
                    folder.add(record)
                    progress.add(record["rule"])

            await _together(work() for _ in range(min(config.concurrency, len(todo))))
    finally:
        for endpoint in opened.values():
            await endpoint.close()


async def _together(works: Iterable[Any]) -> None:
    """Run them side by side; the first that fails ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as group:
        raise next(_leaves(group)) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


class Progress:
    """How far it is, told now and then."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._kept = total, done, 0
        self._rules: Counter[str] = Counter()
        self._told = time.monotonic()
        if done:
            print(f"{done} of {total} conversations are there; going on.", flush=True)

    def add(self, rule: str | None) -> None:
        self._done += 1
        self._kept += rule is None
        if rule is not None:
            self._rules[rule] += 1
        if time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            lost = ", ".join(f"{name} {count}" for name, count in self._rules.most_common(4))
            print(f"{self._done}/{self._total}: {self._kept} good{'; ' if lost else ''}{lost}", flush=True)


def _table(summary: dict[str, Any], config: SimulateConfig) -> str:
    total, kept = summary["conversations"], summary["kept"]
    lines = [f"{kept} of {total} conversations kept -> {config.output / 'conversations.jsonl'}"]
    lines += [f"  {rule:10} {count:7}" for rule, count in summary["by_rule"].items()]
    prompt, completion = (
        sum(counts[key] for counts in summary["tokens"].values()) for key in ("prompt", "completion")
    )
    lines.append(f"{summary['requests']} requests, {prompt} tokens read, {completion} written")
    return "\n".join(lines)
