"""The configs that docs/rlhf.md shows are configs."""

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from alloy.evaluate.config import WinRateConfig
from alloy.judges.config import JudgeConfig
from grpo.config import GrpoConfig
from rlhf.config import RewardModelConfig, RlhfConfig

TEXT = (Path(__file__).parents[2] / "docs" / "rlhf.md").read_text(encoding="utf-8")


def block(after: str, number: int = 0) -> dict[str, Any]:
    """An indented block under a heading, read as YAML."""
    found = re.findall(r"(?<=\n\n)((?:    .*\n)+)", "\n" + TEXT.split(f"# {after}\n", 1)[1])
    read: dict[str, Any] = yaml.safe_load(dedent(found[number]))
    return read


def test_the_stages() -> None:
    assert RewardModelConfig.model_validate({**block("A reward model"), "model": "m"}).data.held_out == 400
    rlhf = block("RLHF")
    config = RlhfConfig.model_validate({**rlhf, "parent": "p"})
    assert config.length_control is not None
    own = RlhfConfig.model_validate({**rlhf, **block("Your own prompts"), "parent": "p"})
    assert (own.thinking_share("mine"), own.thinking_share("chat")) == (0.25, 0.5)
    trained = GrpoConfig.model_validate({**block("Training one", 1), "parent": "p"})
    assert trained.validation is not None
    assert trained.validation.patience == 3


def test_the_judges() -> None:
    assert JudgeConfig.model_validate(block("A judge")["judge"]).concurrency == 16
    given = yaml.safe_load(re.findall(r"\n    (judge: \{.*enable_thinking.*)\n", TEXT)[0])
    assert JudgeConfig.model_validate(given["judge"]).extra_body["chat_template_kwargs"] == {"enable_thinking": False}  # fmt: skip
    # What stands for an address is an ellipsis there.
    shown = block("Win rates")["win_rate"] | {"judge": given["judge"]}
    assert WinRateConfig.model_validate(shown).reference == "sft-3"
