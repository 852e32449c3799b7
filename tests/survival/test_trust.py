"""What a model folder may not do, and what may not leave the environment."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from alloy.artifact import fingerprint_model
from alloy.errors import InputError
from alloy.policy import load_model, load_tokenizer


def test_code_in_a_model_folder_is_not_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_model_folder, folder)
    code = (
        f"open({str(ran)!r}, 'w').close()\nfrom transformers import *\nclass Evil(LlamaForCausalLM): pass\n"
    )
    (folder / "modeling_evil.py").write_text(code)
    for name, key, value in [
        ("config.json", "AutoModelForCausalLM", "modeling_evil.Evil"),
        ("tokenizer_config.json", "AutoTokenizer", [None, "modeling_evil.Evil"]),
    ]:
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "auto_map": {key: value}}))
    assert type(load_model(folder)).__name__ == "LlamaForCausalLM"
    load_tokenizer(folder)
    assert not ran.exists()
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "evil"}))
    with pytest.raises(InputError, match="no model that can be loaded"):
        load_model(folder)
    assert not ran.exists()


class Trap:
    """What a pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pth"])
def test_pickled_weights_are_refused_unread(tiny_model_folder: Path, tmp_path: Path, name: str) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Trap(ran)}, folder / name)
    with pytest.raises(
        InputError, match=rf"its weights are a pickle \({name}\), which runs code when it is read"
    ):
        fingerprint_model(folder)
    with pytest.raises(InputError, match="no model that can be loaded"):
        load_model(folder)
    assert not ran.exists()
