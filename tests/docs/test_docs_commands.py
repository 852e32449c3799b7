"""Every command that the documentation shows has a rule, and would be taken. `make docs-check` runs them."""

import re
from pathlib import Path

import pytest
from parsing import NotTakenError, check
from rules import LITERAL, micro, rule_of
from shown import PAGES, Command, commands

SHOWN = [command for page in PAGES for command in commands(page)]
DISTINCT = {command.text: command for command in SHOWN if command.page not in LITERAL}


def test_every_command_is_covered_by_a_rule() -> None:
    assert len(SHOWN) > 80
    assert [command for command in SHOWN if rule_of(command) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_an_end(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!http)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")
    ):
        end = page.parent / target if target else page
        assert end.is_file(), target
        if anchor:
            assert anchor in _anchors(end), f"{target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", DISTINCT.values(), ids=DISTINCT)
def test_every_command_is_taken(command: Command) -> None:
    rule = rule_of(command)
    assert rule is not None
    if rule.kind in ("run", "serve"):
        check(micro(command, rule, 1))
    elif rule.kind == "parse":
        check(command.text)


@pytest.mark.parametrize(
    "text",
    [
        "python -m alloy report",
        "python -m alloy plan demo --no-such-flag 8",
        "python -m no_such_module",
        "python -m sft configs/micro/no-such.yaml",
        "make no-such-target",
        "accelerate launch --config_file x.yaml --no-such-flag -m sft a.yaml",
        "sbatch configs/accelerate/slurm.sh merge --reasoning A",
    ],
)
def test_a_command_that_would_fail_is_found(text: str) -> None:
    with pytest.raises(NotTakenError):
        check(text)


def test_what_a_page_shows_is_read_as_a_shell_would() -> None:
    tutorial = commands(next(page for page in PAGES if page.name == "tutorial.md"))
    (data,) = [command.text for command in tutorial if command.text.startswith("cat > data/stall/make.py")]
    assert data.endswith("\nEND")
    assert "\n\n\ndef write" in data
    readme = [command.text for command in SHOWN if command.page == "README.md"]
    assert "make demo" in readme
