"""The command against a real model server: vLLM's own, on the CPU, over a model that writes at random."""

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import alloy
from scripted_endpoint import TOOLS, scenario
from vllm_served import started_vllm

from alloy.simulate.rules import RULES

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 90 thousand random weights with room for our prompts in its small vocabulary."""
    import torch

    from alloy.base import ModelShape
    from alloy.build_base import random_model, train_tokenizer
    from alloy.policy import save_policy

    tokenizer = train_tokenizer([json.dumps([TOOLS, scenario("Ann Lee")])] * 20, 400)
    torch.manual_seed(0)
    shape = ModelShape(hidden_size=64, layers=2, heads=2, mlp_size=64, max_positions=4096)
    folder = tmp_path_factory.mktemp("simulate") / "model"
    save_policy(random_model(shape, tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's OpenAI server over the model, with tool calling, on a free port of this machine."""
    arguments = [
        *("vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "tiny"),
        *("--max-model-len", "4096", "--enforce-eager"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        # On the CPU a request with a seed whose prompt is read in two steps ends the server: "CPU Generator
        # does not use offset". So much is read in one.
        *("--max-num-batched-tokens", "32768"),
    ]
    with started_vllm(arguments, tmp_path_factory.mktemp("server")) as address:
        yield f"{address}/v1"


def test_a_real_server_is_asked_and_every_conversation_gets_its_rule(url: str, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    (tmp_path / "scenarios.jsonl").write_text(json.dumps(scenario("Ann Lee")))
    short = {"max_completion_tokens": 12}
    # At random a turn does not end by itself, and one of the user's that is cut is not played on.
    ending = {"stop": list("aei "), "include_stop_str_in_output": True, "min_tokens": 4}
    user = {"max_completion_tokens": 200, "extra_body": ending}
    config = tmp_path / "simulate.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "output": str(tmp_path / "out"),
                "conversations": 6,
                "tools": str(tmp_path / "tools.json"),
                "max_turns": 3,
                "max_tries": 2,
                "endpoint": {"base_url": url, "model": "tiny"},
                "roles": dict.fromkeys(("scenario", "assistant", "server"), short) | {"user": user},
            }
        )
    )

    def told(*overrides: str) -> dict[str, Any]:
        done: dict[str, Any] = json.loads(alloy("simulate", str(config), "--json", *overrides).stdout)
        return done

    # A model that writes at random writes no scenario; with one, its turns are rejected by their rules.
    written = told()
    assert written["by_rule"] == {"scenario": 6}
    assert written["tokens"]["scenario"]["completion"] > 12
    played = told(f"scenarios={tmp_path}/scenarios.jsonl", f"output={tmp_path}/played")
    assert played["conversations"] == 6 == played["kept"] + played["rejected"]
    assert set(played["by_rule"]) <= set(RULES)
    assert played["tokens"]["user"]["prompt"] > 1000, "the server was asked, and counted"
    cut = told(
        f"scenarios={tmp_path}/scenarios.jsonl",
        f"output={tmp_path}/cut",
        "roles.user={max_completion_tokens: 12}",
    )
    assert cut["by_rule"]["readable"] > 0
    wrong = alloy("simulate", str(config), "endpoint.model=huge", f"output={tmp_path}/no", check=False)
    assert wrong.returncode == 2
    assert "does not serve it. It serves tiny. Name one of these." in wrong.stderr
