"""What docs/evaluate.md says: its commands are taken, its YAML is a config, its tables name what there is."""

import inspect
import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from alloy.environments.benchmark import BenchmarkEnvironment
from alloy.environments.benchmark_formats import KINDS
from alloy.evaluate import command
from alloy.evaluate.config import EvaluateConfig
from alloy.evaluate.standard import FROM_DATA, GENERATED, NAMES
from alloy.evaluate.throughput import parse_shapes

TEXT = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
BLOCKS = [dedent(block) for block in re.findall(r"\n\n((?:    .*\n)+)", TEXT)]
COMMANDS = [
    line
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("python -m alloy evaluate")
]


def column(heading: str, number: int = 0) -> list[str]:
    rows = TEXT.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [row.strip("|").split(" | ")[number].strip("` ") for row in rows]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_taken(line: str) -> None:
    given = command._parser().parse_intermixed_args(shlex.split(line)[4:])
    if given.throughput:
        assert parse_shapes(given.throughput)
    elif not given.lm_eval:
        config = command.configure(given)
        assert given.suites is None or list(config.suites) == given.suites.split(",")
    assert given.throughput or given.out


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 11


def test_the_yaml_is_a_config() -> None:
    (block,) = [block for block in BLOCKS if block.startswith("suites:")]
    config = EvaluateConfig.model_validate({"models": {"m": "x"}, **yaml.safe_load(block)})
    assert config.suites["gsm8k"].samples == 8
    assert config.suites["needles"].lengths == [4096, 16384]


def test_the_tables_name_what_there_is() -> None:
    names = column("name | without data | with `--data NAME=PLACE`")
    assert sorted(names) == sorted(NAMES)
    without = column("name | without data | with `--data NAME=PLACE`", 1)
    with_data = column("name | without data | with `--data NAME=PLACE`", 2)
    for name, own, given in zip(names, without, with_data, strict=True):
        assert (own != "-") == (name in GENERATED), name
        assert (given != "-") == (name in FROM_DATA), name
    assert set(column("kind | a row has | judged by")) == set(KINDS)
    assert set(column("option | says")) == set(inspect.signature(BenchmarkEnvironment).parameters)
    flags = {flag for cell in column("flag | says") for flag in re.findall(r"--[\w-]+", cell)}
    told = set(command._parser()._option_string_actions)
    assert flags <= told
    assert told - flags <= {"-h", "--help", "--suites", "--data", "--out", "--throughput", "--requests", "--rounds",
                            "--lm-eval", "--lm-eval-args"}  # fmt: skip
