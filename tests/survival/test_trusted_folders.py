"""Commands over model folders that nobody should trust: pickled weights, and code that comes along."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import merge.__main__
from alloy.__main__ import run
from alloy.command import main
from alloy.errors import InputError

COMMANDS: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "serve": lambda bad, good, out: ["alloy", "serve", str(bad), "--port", "1"],
    "chat": lambda bad, good, out: ["alloy", "chat", str(bad)],
    "evaluate": lambda bad, good, out: ["alloy", "evaluate", str(bad), "--suites", "math", "--out", str(out)],
    "merge": lambda bad, good, out: [
        *("merge", "--reasoning", str(good), "--chat", str(bad), "--alpha", "0.5", "--out", str(out))
    ],
    "sft": lambda bad, good, out: ["sft", "configs/micro/sft-1.yaml", f"parent={bad}", f"output={out}"],
}


def command(given: list[str]) -> int:
    package, *arguments = given
    if package == "alloy":
        return main(run, arguments)
    if package == "merge":
        return main(merge.__main__.run, arguments)
    from alloy.stage import stage_main

    return main(lambda rest: stage_main(package, rest), arguments)


class Trap:
    """What a pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_of_pickled_weights_is_refused_unread(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder, ran, out = tmp_path / "model", tmp_path / "ran", tmp_path / "out"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Trap(ran)}, folder / "pytorch_model.bin")
    assert command(COMMANDS[name](folder, tiny_model_folder, out)) == 2
    told = capsys.readouterr().err
    assert "its weights are a pickle (pytorch_model.bin), which runs code when it is read" in told
    assert "save_pretrained writes safetensors." in told
    assert "Traceback" not in told
    assert not ran.exists()
    assert not out.exists()


@pytest.fixture
def with_code(tiny_model_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A model folder of a type that only its own code knows; each of its files of code would write a canary."""

    def make(kind: str) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_model_folder, folder)
        code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom transformers import *\n"
        for module in ("modeling", "configuration", "tokenization"):
            (folder / f"{module}_evil.py").write_text(
                f"{code}class Evil(LlamaForCausalLM): pass\nclass EvilConfig(LlamaConfig): model_type = 'evil'\n"
            )
        changes = {
            "config.json": {
                "model_type": kind,
                "architectures": ["Evil"],
                "auto_map": {
                    "AutoConfig": "configuration_evil.EvilConfig",
                    "AutoModelForCausalLM": "modeling_evil.Evil",
                },
            },
            "tokenizer_config.json": {"auto_map": {"AutoTokenizer": [None, "tokenization_evil.Evil"]}},
        }
        for name, change in changes.items():
            settings = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({**settings, **change}))
        return folder

    return make


@pytest.mark.parametrize("name", ["serve", "chat", "evaluate", "sft"])
def test_code_that_a_folder_needs_is_not_run(
    with_code: Callable[[str], Path],
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    out = tmp_path / "r" / "out"
    assert command(COMMANDS[name](with_code("evil"), tiny_model_folder, out)) == 2
    told = capsys.readouterr().err
    assert "no model that can be loaded" in told
    assert "Traceback" not in told
    assert not (tmp_path / "ran").exists()


def test_code_that_a_folder_has_beside_a_known_type_is_not_run(
    with_code: Callable[[str], Path],
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from alloy.serve.command import _parser
    from alloy.serve.server import vllm_arguments

    folder = with_code("llama")
    found = vllm_arguments(_parser().parse_args([str(folder)]), str(folder), "name")
    assert not any("trust" in part for part in found)
    assert command(COMMANDS["merge"](folder, folder, tmp_path / "merged")) == 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("written", ["--trust-remote-code", "--trust_remote_code", "--trust-rem", "--config"])
def test_serve_hands_no_trust_on(tiny_model_folder: Path, tmp_path: Path, written: str) -> None:
    """vLLM takes abbreviations, and arguments from a file."""
    from alloy.serve.server import parse

    (tmp_path / "vllm.yaml").write_text("trust-remote-code: true\n")
    given = [written, str(tmp_path / "vllm.yaml")] if written == "--config" else [written]
    with pytest.raises(InputError, match="--trust-remote-code: code of a model folder is never run"):
        parse([str(tiny_model_folder), *given])
