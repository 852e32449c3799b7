"""A server of rollouts that disappears: what is said, what is kept, and the weights of a run that never lost it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_rollouts import GivenOverHttp, RolloutServer
from stages import run_stage, weights
from urllib3.util.retry import Retry

from alloy.artifact import read_artifact
from alloy.checkpoints import broken, checkpoints
from alloy.command import main
from alloy.policy import load_tokenizer
from alloy.rl import PolicyTrainer


@pytest.fixture
def server(micro_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RolloutServer]:
    """A server that GRPO trains with on a CPU: how it is given weights is all that differs from TRL's."""
    monkeypatch.setattr("grpo.train.check_launch", lambda config: None)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", GivenOverHttp)
    # TRL's client waits for a minute between its tries.
    monkeypatch.setattr(Retry, "sleep", lambda *_: None)
    found = RolloutServer(len(load_tokenizer(micro_runs / "sft-3" / "model")))
    found.start()
    yield found
    found.vanish()


@pytest.mark.parametrize("moment", ["in mid-rollout", "before it has the weights"])
def test_training_stops_with_what_was_saved_and_goes_on_to_the_same_weights(
    micro_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: RolloutServer,
    moment: str,
) -> None:
    given = [
        *("rollout.engine=vllm-server", f"rollout.server_url={server.url}", "rollout.server_timeout_seconds=0.1"),
        # Its log-probabilities are invented: corrected for, nothing would be learned.
        *("loss.importance=none", "train.max_steps=3", "train.save_steps=1"),
    ]  # fmt: skip
    whole, folder = tmp_path / "r" / "whole", tmp_path / "r" / "grpo"

    def run() -> int:
        return main(lambda _: int(run_stage("grpo", micro_runs, folder, *given) is None), [])

    run_stage("grpo", micro_runs, whole, *given)
    assert weights(whole, "grpo") != read_artifact(micro_runs / "sft-3").fingerprints["weights"]
    rollouts_of = PolicyTrainer.rollouts_of

    def lose(self: Any, count: int) -> Any:
        if self.state.global_step == 2:
            if moment == "in mid-rollout":
                server.lost_after = server.completions + 5
            else:
                server.vanish()
        return rollouts_of(self, count)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyTrainer, "rollouts_of", lose)
        capsys.readouterr()
        assert run() == 1
    told = capsys.readouterr().err
    assert f"failed: the vLLM server at {server.url} stopped answering (" in told
    assert told.endswith("What it printed says why. Start it, then run the same command to go on.\n")
    assert "Traceback" not in told
    kept = checkpoints(folder / "checkpoints")
    assert [path.name for path in kept] == ["checkpoint-1", "checkpoint-2"]
    assert [broken(path) for path in kept] == ["", ""]
    assert not (folder / "artifact.json").exists()

    assert run() == 1
    assert f"failed: rollout.server_url = {server.url}: no vLLM server answers within 0.1 s" in (
        capsys.readouterr().err
    )
    assert checkpoints(folder / "checkpoints") == kept

    server.start()
    rolled = server.completions
    assert run() == 0
    assert weights(folder, "grpo") == weights(whole, "grpo")
    assert server.completions > rolled
