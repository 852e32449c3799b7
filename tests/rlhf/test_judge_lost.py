"""A judge that goes in the middle of a run, and its key, which stays where it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import longer, serving
from test_rlhf_train import config

import rlhf
from alloy.artifact import read_artifact
from alloy.errors import StageError
from alloy.rl import PolicyTrainer

KEY, TOKEN = "sk-Zq7-never-shown-1", "hf_Zq7NeverShown2"


def test_a_judge_that_goes_costs_nothing_and_its_key_is_written_nowhere(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SURVIVAL_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folders = [tmp_path / "r" / name for name in ("whole", "rlhf")]
    lost = False

    def answer(body: dict[str, Any], number: int) -> Any:
        # What an endpoint that refuses a key says, with the key in it.
        return (401, {"error": {"message": f"bad key {KEY}"}}) if lost else longer(body, number)

    with serving(answer) as server:
        given = {
            "judge": {"base_url": server.url, "model": "judge", "api_key_env": "SURVIVAL_KEY"},
            "validation": None,
            "train": {"max_steps": 3, "per_device_batch_size": 8, "save_steps": 1},
            "logging": {"every_steps": 1},
        }
        rlhf.run(config(tiny_model_folder, folders[0], **given))
        after_step = PolicyTrainer.after_step

        def go(self: Any) -> bool:
            nonlocal lost
            lost = self.state.global_step == 2
            return after_step(self)

        monkeypatch.setattr(PolicyTrainer, "after_step", go)
        with pytest.raises(StageError, match="run the same command to go on") as told:
            rlhf.run(config(tiny_model_folder, folders[1], **given))
        assert f"Bearer {KEY}" in server.keys
        left = sorted(path.name for path in (folders[1] / "checkpoints").glob("checkpoint-*"))
        assert left == ["checkpoint-1", "checkpoint-2"]
        # Checkpoints, TensorBoard's files and configs lie there: all that a run writes.
        said = "".join(capfd.readouterr()) + str(told.value)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {"config.yaml", "training_args.bin"} <= {path.name for path in files}
        assert any(path.name.startswith("events.") for path in files)
        for secret in (KEY, TOKEN):
            assert secret not in said
            assert not [path for path in files if secret.encode() in path.read_bytes()]
        lost = False
        monkeypatch.setattr(PolicyTrainer, "after_step", after_step)
        rlhf.run(config(tiny_model_folder, folders[1], **given))
    prints = [read_artifact(folder).fingerprints["weights"] for folder in folders]
    assert prints[0] == prints[1]
    logs = [(folder / "metrics.jsonl").read_text().splitlines() for folder in folders]
    rewards = [[row["reward"] for row in map(json.loads, log) if "reward" in row] for log in logs]
    assert rewards[0] == rewards[1]
