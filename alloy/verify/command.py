"""`python -m alloy verify NAME < in.jsonl > out.jsonl`."""

import argparse
import importlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from alloy.command import Parser
from alloy.errors import InputError
from alloy.verify.pool import VerifierPool
from alloy.verify.registry import VERIFIERS
from alloy.verify.verdict import Verdict

MAX_BLOCK = 2_048
"""Lines judged together, and at most as many waiting."""


_ABOUT = (
    "Judge the rows of standard input, one JSON object a line; write one verdict a line, in the same order."
)


def run(arguments: list[str]) -> int:
    """Judge the rows of standard input, one JSON object a line, and write one verdict a line.

    A line that is no JSON object, or that the verifier cannot use, gets an `error` of its own.

    Returns:
        0, whatever the verdicts are.
    Raises:
        InputError: an unknown verifier or option.
    """
    try:
        options = _parse(arguments)
    except SystemExit:
        return 0  # after --help
    # A reader of its own: the thread that waits in it must not hold up sys.stdin at exit.
    with open(sys.stdin.fileno(), "rb", closefd=False) as lines:
        return judge_lines(options, lines, sys.stdout)


def judge_lines(options: argparse.Namespace, lines: BinaryIO, out: TextIO) -> int:
    given = {"data": options.data} if options.data else {}
    with VerifierPool(options.workers, options.timeout_seconds) as pool:
        try:
            for block in _blocks(lines):
                for verdict in _judge_block(pool, options.name, block, given):
                    out.write(json.dumps(_shown(options.name, verdict)) + "\n")
                out.flush()
        except BrokenPipeError:
            # Nobody reads on, as with `| head`; what is still buffered must not be flushed at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m alloy verify", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(sorted(VERIFIERS))}")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    parser.add_argument("--timeout-seconds", type=float, default=10.0, help="wall clock, for each row")
    parser.add_argument("--data", help="the folder with the benchmark's files, for workbench")
    options = parser.parse_args(arguments)
    if options.name not in VERIFIERS:
        raise InputError(f"{options.name!r} is no verifier. Known: {', '.join(sorted(VERIFIERS))}.")
    if options.workers < 1 or options.timeout_seconds <= 0:
        raise InputError("alloy verify: --workers and --timeout-seconds must be positive.")
    if options.name == "workbench" and not options.data:
        raise InputError(
            "alloy verify workbench: --data is needed. Name the folder with the benchmark's files."
        )
    if options.name == "code":
        from alloy.verify.sandbox import isolation, not_isolated

        told = "; ".join(not_isolated(isolation()))
        print(f"programs are isolated by {isolation()}; a hostile one can still: {told}", file=sys.stderr)
    if options.name == "workbench":
        # What is wrong with the folder is said once and before any row, not in every verdict.
        importlib.import_module("alloy.environments.workbench").row_verifier(Path(options.data))
    return options


def _blocks(lines: BinaryIO) -> Iterator[list[bytes]]:
    """The lines in blocks: whatever has come when the block before is done, in bounded memory."""
    waiting: queue.Queue[bytes | None] = queue.Queue(MAX_BLOCK)

    def read() -> None:
        try:
            for line in lines:
                waiting.put(line)
        finally:
            waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := waiting.get()) is not None:
        block, ended = [line], False
        while len(block) < MAX_BLOCK and not ended and not waiting.empty():
            more = waiting.get()
            ended = more is None
            if more is not None:
                block.append(more)
        yield block
        if ended:
            return


def _judge_block(
    pool: VerifierPool, name: str, block: Sequence[bytes], given: dict[str, Any]
) -> Iterator[Verdict]:
    read = [_read(line) for line in block]
    rows = [row | given for row in read if isinstance(row, dict)]
    judged = iter(pool.judge(name, rows))
    for row in read:
        yield row if isinstance(row, Verdict) else next(judged)


def _read(line: bytes) -> dict[str, Any] | Verdict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Verdict(None, "error", f"not JSON: {error}"[:300])
    if not isinstance(row, dict):
        return Verdict(None, "error", f"not a JSON object but {type(row).__name__}")
    return row


def _shown(name: str, verdict: Verdict) -> dict[str, Any]:
    shown: dict[str, Any] = {"reward": verdict.reward, "status": verdict.status, "detail": verdict.detail}
    if name == "instructions":
        shown["followed"] = [bool(part) for part in verdict.parts.values()] if verdict.parts else None
    elif verdict.parts:
        shown["parts"] = verdict.parts
    return shown
