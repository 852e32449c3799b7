"""The commands that README.md and docs/ show: in indented blocks, and in the text between backticks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_PROGRAMS = (
    "python make accelerate sbatch trl vllm pip git curl printf cat head mkdir source kill export chromium"
)
_FIRST = re.compile(rf"(?:\w+=\$\(|(?:[A-Z_]+=\S* )*)(?:{_PROGRAMS.replace(' ', '|')})\b(?!:)")
_INLINE = re.compile(r"`((?:python -m|make|accelerate launch|sbatch) [^`]+)`")


@dataclass(frozen=True)
class Command:
    """One command as it is shown: on which page, in which line, in an indented block or in the text."""

    page: str
    line: int
    text: str


def commands(page: Path) -> list[Command]:
    """All commands of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Command] = []
    for start, block in _pieces(lines):
        if block[0].startswith("    "):
            inner = [line.removeprefix("    ") for line in block]
            if _FIRST.match(inner[0]):
                found += [Command(page.name, start + at, text) for at, text in _shell(inner)]
        else:
            for at, line in enumerate(block):
                found += [Command(page.name, start + at, text) for text in _INLINE.findall(line)]
    return found


def _pieces(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Indented blocks and the text between them, with the numbers of their first lines; blanks belong to what
    they stand in."""
    piece: list[str] = []
    start = 1
    for number, line in enumerate([*lines, "end"], 1):
        indented = line.startswith("    ")
        if line and piece and (indented != piece[0].startswith("    ") or number > len(lines)):
            yield start, piece
            piece = []
        if line and not piece:
            start = number
        if line or piece:
            piece.append(line)


def _shell(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Each command of a block: lines that go on put together, a text that it is given with it, comments off."""
    at = 0
    while at < len(lines):
        first, text = at, lines[at]
        while text.endswith("\\"):
            at += 1
            text = text.removesuffix("\\").rstrip() + " " + lines[at].strip()
        if end := re.search(r"<<'(\w+)'$", text):
            while lines[at] != end[1]:
                at += 1
                text += "\n" + lines[at]
        else:
            text = re.sub(r"(^|\s+)#(\s.*)?$", "", text)
        at += 1
        # A config may be shown below the command that takes it.
        if text.strip() and not re.match(r"[\w-]+:(\s|$)", text):
            yield first, text
