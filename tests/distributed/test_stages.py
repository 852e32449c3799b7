"""Every training stage in two processes, under DDP, ZeRO-2 and ZeRO-3: the same updates as in one, killed and resumed.

In float32, the losses and gradient norms of two processes are those of one within 0.2%, and a run that was
killed ends at the weights of one that was not, to the bit.
"""

import importlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alloy.artifact import read_artifact
from alloy.pipeline import load_stage_config
from tests.distributed.launching import launch, shapes, tensors, updates

pytestmark = pytest.mark.distributed

KILLED_AFTER = 2
COMMON = ("train.max_steps=4", "train.save_steps=2", "logging.every_steps=1", "logging.tensorboard=false",
          "train.precision=float32")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A stage.

    Attributes:
        rows: of a micro-batch in one process; two processes take half of it each.
    """

    package: str
    config: str
    rows: int
    overrides: tuple[str, ...] = ()
    part: str = ""

    def given(self, started: Path, processes: int) -> list[str]:
        parents = [f"parent={started / ('base' if self.package == 'sft' else 'sft-3')}"]
        if self.package == "rlhf":
            parents.append(f"reward_model={started / 'reward-model'}")
        rows = f"train.per_device_batch_size={self.rows // processes}"
        return [*COMMON, *parents, rows, *self.overrides]


CASES = {
    "sft": Case("sft", "sft-1", 4),
    # A number of pairs that one and two processes sort by length in the same order.
    "reward-model": Case("rlhf.reward_model", "reward-model", 4, ("data.pairs=48",)),
    # Six pairs: a micro-batch of two divides them evenly. TRL's SFT term is a mean over a micro-batch's tokens,
    # another one where the micro-batch is another.
    "dpo": Case("dpo", "dpo", 2, ("iterations=1", "rollouts_per_task=8", "sft_weight=0"), "iteration-1"),
    "grpo": Case("grpo", "grpo", 8),
    "rlhf": Case("rlhf", "rlhf", 4),
}


@pytest.mark.parametrize("sharding", ["cpu-ddp", "cpu-zero2", "cpu-zero3"])
@pytest.mark.parametrize("stage", CASES)
def test_two_processes_do_what_one_does(
    started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, sharding: str
) -> None:
    case = CASES[stage]
    config = f"configs/micro/{case.config}.yaml"
    given = case.given(started, 2)
    died = launch(
        sharding, "tests.distributed.killed", case.package, str(KILLED_AFTER), str(tmp_path), config, *given,
        check=False,
    )  # fmt: skip
    assert "SIGKILL" in died.stderr, died.stderr[-6000:]
    assert (tmp_path / "whole" / "artifact.json").is_file(), died.stderr[-6000:]
    assert not (tmp_path / "killed" / "artifact.json").exists()
    launch(sharding, case.package, config, f"output={tmp_path / 'killed'}", *given)

    whole, resumed = (tmp_path / name for name in ("whole", "killed"))
    assert read_artifact(whole).world_size == 2
    assert (whole / case.part / "model").is_dir()
    assert len(updates(resumed / case.part)) == 4
    assert updates(resumed / case.part)[-2:] == updates(whole / case.part)[-2:]
    kept, again = (tensors(folder / case.part / "model") for folder in (whole, resumed))
    assert kept.keys() == again.keys()
    for name, value in kept.items():
        assert torch.equal(value, again[name]), name

    alone = run_alone(case, config, started, tmp_path, monkeypatch)
    assert any(norm > 0 for _, norm in updates(alone))
    for found, wanted in zip(updates(whole / case.part), updates(alone), strict=True):
        assert found == pytest.approx(wanted, rel=2e-3, abs=1e-5)
    assert shapes(whole / "model") == shapes(alone / "model")
    auto: Any = AutoModelForSequenceClassification if stage == "reward-model" else AutoModelForCausalLM
    _, told = auto.from_pretrained(whole / "model", output_loading_info=True)
    assert not any(told.values()), told


def run_alone(case: Case, config: str, started: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same stage in this process, on what two processes sampled: where it left its updates."""
    if case.package in ("grpo", "rlhf"):
        _replay(folder, monkeypatch)
    if case.package == "dpo":
        _same_pairs(folder / "whole", monkeypatch)
    overrides = [f"output={folder / 'alone'}", *case.given(started, 1)]
    importlib.import_module(case.package).run(load_stage_config(case.package, Path(config), overrides))
    return folder / "alone" / case.part


def _replay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alloy.rl import PolicyTrainer

    calls = iter(range(1 << 30))

    def replayed(self: Any, count: int) -> dict[str, Any]:
        call = next(calls)
        parts = [pickle.loads((folder / f"rollouts-{rank}-{call}.pickle").read_bytes()) for rank in (0, 1)]
        found = {name: [*value, *parts[1][name]] for name, value in parts[0].items()}
        assert len(found["prompt_ids"]) == count
        self._rewards = found["alloy_reward"]
        return found

    monkeypatch.setattr(PolicyTrainer, "rollouts_of", replayed)


def _same_pairs(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpo.iteration import Loop

    pairs = Loop._pairs

    def same(self: Any, part: Any, *given: Any) -> Any:
        for name in ("pairs.jsonl", "sampled.json"):
            (part.folder / name).write_text((whole / part.folder.name / name).read_text())
        return pairs(self, part, *given)

    monkeypatch.setattr(Loop, "_pairs", same)
