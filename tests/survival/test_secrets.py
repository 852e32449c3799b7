"""Keys stay in the environment: in no file that is left and in nothing that is said, whatever an endpoint answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from json_served import json_served

from alloy.__main__ import run
from alloy.artifact import Run
from alloy.command import main
from alloy.errors import InputError, StageError
from alloy.judges.config import JudgeConfig
from alloy.judges.endpoint import Judge
from alloy.secrets import without_key

KEY = "sk-Qz81-never-shown"
OTHERS = {"HF_TOKEN": "hf_Qz82NeverShown", "WANDB_API_KEY": "Qz83nevershown", "VLLM_API_KEY": "Qz84-never"}


def padded(text: str) -> str:
    """The text over the place where a message is cut."""
    return "x" * (300 - len(text) // 2) + text


# What an endpoint may say with the key in it: a status and a body.
ANSWERS: dict[str, tuple[int, Any]] = {
    "it refuses the key": (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}),
    "a proxy's page shows the headers": (403, f"<html>Authorization: Bearer {KEY}</html>".encode()),
    "the message is cut in the key": (401, {"error": {"message": padded(KEY)}}),
    "the request is sent back": (200, {"headers": {"authorization": f"Bearer {KEY}"}}),
    "sent back, cut in the key": (200, {"headers": [padded(KEY)]}),
    "an error of the server": (500, {"error": {"message": f"upstream refused {KEY}"}}),
    "no JSON": (200, f"{{{KEY}".encode()),
}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CANARY_KEY": KEY, **OTHERS}.items():
        monkeypatch.setenv(name, value)


def parts(secret: str) -> list[bytes]:
    """Pieces of it that are long enough to be told from anything else."""
    return [secret[start : start + 7].encode() for start in range(len(secret) - 6)]


def assert_nowhere(folder: Path, said: str) -> None:
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for secret in (KEY, *OTHERS.values()):
        for part in parts(secret):
            assert part.decode() not in said
            assert not [path for path, held in files.items() if part in held]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "in the middle"])
@pytest.mark.parametrize("case", ANSWERS)
def test_simulation(tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str, later: bool) -> None:
    asked: list[str] = []

    def respond(body: dict[str, Any], key: str) -> tuple[int, Any]:
        asked.append(key)
        if later and body["messages"][0]["content"] == "Say yes.":
            message = {"role": "assistant", "content": "yes"}
            return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return ANSWERS[case]

    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"name": "look", "description": "d", "parameters": {"type": "object"}}]))
    config = tmp_path / "simulate.yaml"
    with json_served(respond, [{"id": "m"}]) as url:
        endpoint = {"base_url": url, "model": "m", "api_key_env": "CANARY_KEY", "max_retries": 0}
        values = {
            "output": str(tmp_path / "out"),
            "conversations": 2,
            "tools": str(tools),
            "endpoint": endpoint,
        }
        config.write_text(yaml.safe_dump(values))
        main(run, ["simulate", str(config)])
    assert f"Bearer {KEY}" in asked
    said = "".join(capfd.readouterr())
    assert said
    assert_nowhere(tmp_path, said)


@pytest.mark.parametrize("case", ANSWERS)
def test_a_judge(tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    pair = ([{"role": "user", "content": "Hello."}], "a", "b")
    with json_served(lambda body, key: ANSWERS[case], []) as url:
        config = JudgeConfig(base_url=url, model="m", api_key_env="CANARY_KEY", max_retries=0, max_tries=1)
        judge = Judge(config)
        told = []
        for ask in (judge.prepare, lambda: judge.compare([pair])):
            with pytest.raises((InputError, StageError)) as raised:
                ask()
            told.append(str(raised.value))
    assert all(told)
    assert_nowhere(tmp_path, "".join([*told, *capfd.readouterr()]))


def test_the_key_goes_before_the_text_is_cut() -> None:
    assert without_key("a  key\nis k1 here", "k1") == "a key is *** here"
    assert without_key("xxxxk1", "k1", 5) == "xxxx*"
    assert without_key("no key", None) == without_key("no key", "") == "no key"


def test_an_artifact_and_its_logs_hold_nothing_of_the_environment(
    micro_runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints, TensorBoard's files, the record of versions: all that a run writes."""
    from stages import run_stage

    finish: Callable[..., Any] = Run.finish
    held: list[str] = []

    def keep(self: Run, *given: Any, **named: Any) -> Any:
        # Before checkpoints are removed.
        held.extend(path.name for path in self.folder.rglob("*"))
        assert_nowhere(self.folder, "")
        return finish(self, *given, **named)

    monkeypatch.setattr(Run, "finish", keep)
    run_stage("sft-1", micro_runs, tmp_path / "r" / "sft-1", "train.save_steps=6", "logging.tensorboard=true")
    assert {"training_args.bin", "optimizer.pt", "config.yaml"} <= set(held)
    assert any(name.startswith("events.") for name in held)
    assert (tmp_path / "r" / "sft-1" / "artifact.json").is_file()
    assert_nowhere(tmp_path, "".join(capfd.readouterr()))
