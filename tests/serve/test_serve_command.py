"""What `alloy serve` and `alloy chat` refuse before anything starts, and what vLLM is started with."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command_line import alloy

from alloy.errors import InputError
from alloy.serve.command import _parser
from alloy.serve.model import find_model


def test_a_model_is_a_run_folder_a_model_folder_or_a_name(tmp_path: Path) -> None:
    run = tmp_path / "sft-3"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    assert find_model(str(run), weights=False) == (str(run / "model"), "sft-3")
    with pytest.raises(InputError, match=r"no \*\.safetensors in it"):
        find_model(str(run))
    (run / "model" / "model.safetensors").touch()
    assert find_model(str(run)) == (str(run / "model"), "sft-3")
    assert find_model(str(run / "model")) == (str(run / "model"), "sft-3")
    assert find_model("Qwen/Qwen3-8B") == ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B")
    with pytest.raises(InputError, match="there is no such folder"):
        find_model("runs/demo/sft-3/model-that-is-not-there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config.json, and no model/config.json"):
        find_model(str(tmp_path / "empty"))
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="is an adapter"):
        find_model(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "./nowhere"), "./nowhere: there is no such folder"),
        (("serve", ".", "--thinking-budget", "-1"), "--thinking-budget -1: it is too small"),
        (("serve",), "the following arguments are required: model"),
        (("chat",), "name a model, or a server with --url"),
        (("chat", "./nowhere"), "./nowhere: there is no such folder"),
        (("chat", "--url", "http://127.0.0.1:9/v1"), "nothing answers there"),
    ],
)
def test_what_cannot_be_is_told_with_exit_status_2(arguments: tuple[str, ...], told: str) -> None:
    done = alloy(*arguments, check=False)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['alloy', {command!r}, '--help']\n"
        "try:\n    runpy.run_module('alloy', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'vllm', 'transformers', 'openai'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "budget" in done.stdout


def test_what_vllm_is_started_with(taught_folder: Path) -> None:
    from alloy.serve.server import vllm_arguments

    given = _parser().parse_args(
        [str(taught_folder), "--thinking-budget", "64", "--grace", "9", "--dtype", "float32"]
    )
    found = vllm_arguments(given, str(taught_folder), "counter")
    said: dict[str, Any] = {a: b for a, b in pairwise(found) if a.startswith("--")}
    assert found[0] == str(taught_folder)
    assert said["--host"] == "127.0.0.1"
    assert json.loads(said["--additional-config"]) == {"thinking_grace": 9, "thinking_budget": 64}
    assert said["--logits-processors"] == "alloy.rollout.budget_vllm:ThinkingBudgetLogitsProcessor"
    assert said["--reasoning-parser"] == said["--tool-call-parser"] == "alloy"
    assert said["--allowed-origins"] == "[]"
    assert not any("key" in part for part in found), "a key is no argument: lists of processes show arguments"
