"""Micro's training stages, run in this process on what a whole run of micro left."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.artifact import Artifact, read_artifact
from alloy.pipeline import load_stage_config
from tests.chaos import without_clocks


@dataclass(frozen=True)
class Stage:
    """A stage's package, its needs by role, and where in its folder it trains."""

    package: str
    needs: dict[str, str]
    part: str = ""


STAGES = {
    "sft-1": Stage("sft", {"parent": "base"}),
    "sft-2": Stage("sft", {"parent": "sft-1"}),
    "grpo": Stage("grpo", {"parent": "sft-3"}),
    "dpo": Stage("dpo", {"parent": "grpo"}, "iteration-1"),
    "reward-model": Stage("rlhf.reward_model", {"parent": "sft-3"}),
    "rlhf": Stage("rlhf", {"parent": "dpo", "reward_model": "reward-model"}),
}


def run_stage(name: str, micro: Path, output: Path, *overrides: str) -> Artifact:
    stage = STAGES[name]
    needs = [f"{role}={micro / parent}" for role, parent in stage.needs.items()]
    config: Any = load_stage_config(
        stage.package,
        Path(f"configs/micro/{name}.yaml"),
        [f"output={output}", "logging.tensorboard=false", *needs, *overrides],
    )
    found: Artifact = importlib.import_module(stage.package).run(config)
    return found


def weights(folder: Path, name: str) -> str:
    """The fingerprint of what a stage trained."""
    return read_artifact(folder / STAGES[name].part).fingerprints["weights"]


def logged(folder: Path, name: str) -> list[dict[str, Any]]:
    """What a stage logged while it trained, without what clocks say."""
    lines = (folder / STAGES[name].part / "metrics.jsonl").read_text().splitlines()
    return [without_clocks(json.loads(line)) for line in lines]
