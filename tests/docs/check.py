"""`make docs-check`: every command of README.md and docs/ is run, or read, or passed over with a reason.

A copy of the project is made, the micro recipe runs in it, and then the commands: those of the tutorial as they
stand, the others in their micro form (rules.py). The last lines are a table; exit status 1 on any failure, and
on any command that no rule covers. `python tests/docs/check.py tutorial.md` checks the pages named.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parsing import NotTakenError, check
from rules import LITERAL, micro, rule_of
from shown import PAGES, ROOT, Command, commands

SECONDS = 600
"""That one command may take."""


def main() -> int:
    began = time.monotonic()
    pages = [page for page in PAGES if page.name in (sys.argv[1:] or [page.name])]
    shown = [command for page in pages for command in commands(page)]
    with tempfile.TemporaryDirectory(prefix="docs-check-") as place:
        copy = Path(place) / "alloy"
        _copy(copy)
        lines, failures = _go_through(shown, copy)
    width = max(len(told) for told, *_ in lines)
    for told, where, text in lines:
        print(f"{told:{width}}  {where:22} {text.splitlines()[0][:120]}")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    counts = {
        kind: sum(told.startswith(kind) for told, *_ in lines) for kind in ("run", "read", "passed over")
    }
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"\n{len(lines)} commands: {told}; {len(failures)} failed; {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


def _copy(copy: Path) -> None:
    """The project without what it has made: what a clone would have, and an input for `alloy verify`."""
    left_out = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / "in.jsonl").write_text('{"completion": "The answer is 7.", "gold": "7"}\n')
    (copy / "out").mkdir()


def _go_through(shown: list[Command], copy: Path) -> tuple[list[tuple[str, str, str]], list[str]]:
    """A line a command (what was done, where it stands, what it is), and what failed."""
    lines: list[tuple[str, str, str]] = []
    failures: list[str] = []
    if any(command.page not in LITERAL for command in shown):
        failures = _run("python -m alloy run micro", copy, "the micro recipe")
    done: dict[str, str] = {}
    for number, command in enumerate(shown):
        where, rule = f"{command.page}:{command.line}", rule_of(command)
        if rule is None:
            failures.append(f"{where}: no rule for: {command.text}")
            lines.append(("NO RULE", where, command.text))
            continue
        if command.text in done and command.page not in LITERAL:
            lines.append((done[command.text], where, command.text))
            continue
        failed: list[str] = []
        began = time.monotonic()
        if rule.kind in ("run", "serve"):
            do = _run if rule.kind == "run" else _serve
            failed = do(micro(command, rule, number), copy, where)
            told = f"run {time.monotonic() - began:5.1f} s"
        elif rule.kind == "parse":
            told = f"read: {rule.why}"
            try:
                check(command.text)
            except NotTakenError as error:
                failed = [f"{where}: {command.text}\n{error}"]
        else:
            told = f"passed over: {rule.why}"
        failures += failed
        done[command.text] = told = "FAILED" if failed else told
        lines.append((told, where, command.text))
        print(f"{told}  {where}", file=sys.stderr, flush=True)
    return lines, failures


def _run(text: str, copy: Path, where: str) -> list[str]:
    """Run a command in the copy; what is to be told when it fails."""
    with _started(text, copy) as process:
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return [f"{where}: {text}\nnot done after {SECONDS} s"]
    if process.returncode == 0:
        return []
    return [f"{where}: {text}\nexit status {process.returncode}\n{said[-1500:]}"]


def _serve(text: str, copy: Path, where: str) -> list[str]:
    """Start a server in the copy and end it once it says that it serves."""
    said = ""
    with _started(text, copy) as process:
        timer = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.startswith("serving "):
                timer.cancel()
                return []
        timer.cancel()
    return [f"{where}: {text}\nit ended, or did not serve after {SECONDS} s\n{said[-1500:]}"]


@contextmanager
def _started(text: str, copy: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell that runs a command in the copy; it and all that it started are gone at the end."""
    stamp = ROOT / ".venv" / ".installed"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(copy),
        "PYTHONUNBUFFERED": "1",
        "ALLOY_CACHE": str(copy / ".cache"),
        # The copy has no installation: make takes this one and holds it for up to date.
        "MAKEFLAGS": f"-o {stamp} VENV={ROOT / '.venv'}",
    }
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
        process.communicate()


if __name__ == "__main__":
    sys.exit(main())
