"""The base stage on a model of the Hub: a folder stands for it, as `snapshot_download` would leave one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alloy.base import BaseConfig, run
from alloy.build_base import fetch
from alloy.chat import TEMPLATE, TURN_CLOSE
from alloy.errors import InputError
from alloy.plan.launch import Launch
from alloy.plan.remedy import find_remedy
from alloy.policy import load_model, load_tokenizer


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A model of 100 tokens in bfloat16, with a tokenizer that knows neither turns nor tags, and some code."""
    backend = Tokenizer(models.WordLevel({f"w{n}": n for n in range(100)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "published"
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=100, tie_word_embeddings=False, **sizes))
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "modeling_llama.py").write_text("raise SystemExit('code of a model folder ran')")
    return folder


def test_it_is_taught_the_chat_format(published: Path, tmp_path: Path) -> None:
    config = BaseConfig(source="hub", model=str(published), output=str(tmp_path / "base"))
    artifact = run(config)
    model, tokenizer = (
        load_model(tmp_path / "base" / "model", "bfloat16"),
        load_tokenizer(tmp_path / "base/model"),
    )
    assert (tokenizer.chat_template, tokenizer.eos_token) == (TEMPLATE, TURN_CLOSE)
    # Seven tokens are new; a hundred and seven rows become a multiple of 64.
    assert len(tokenizer) == 107
    assert model.get_input_embeddings().weight.shape == (128, 16)
    saved = json.loads((tmp_path / "base" / "model" / "config.json").read_text())
    assert (saved["dtype"], saved["vocab_size"]) == ("bfloat16", 128)
    before = load_model(published, "bfloat16")
    assert torch.equal(model.get_input_embeddings().weight[:100], before.get_input_embeddings().weight)
    assert artifact.metrics["vocabulary"] == 107
    # Run again it is done; with other weights in the folder it is not.
    assert run(config).seconds == artifact.seconds


def test_its_own_template_is_kept_or_missed(published: Path) -> None:
    with pytest.raises(InputError, match="published: it has no chat template. Set template=alloy"):
        fetch(str(published), None, "own")
    (published / "chat_template.jinja").write_text("{{ messages[0].content }}")
    model, tokenizer = fetch(str(published), None, "own")
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    assert model.get_input_embeddings().weight.shape == (100, 16)


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="some/model: neither a folder nor a model that the Hub gives"):
        fetch("some/model", None, "alloy")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"source": "hub"}, "source: hub needs `model`"),
        ({"source": "gguf", "package": "p", "revision": "abc"}, "model and revision go with source: hub"),
    ],
)
def test_what_goes_together(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BaseConfig.model_validate(values)


def test_offloading_is_what_the_plan_names_for_long_sequences() -> None:
    """On GPUs of 64 GiB the long stage fits only with what it keeps in the machine's memory."""
    from test_large_recipes import GIB, planned

    from alloy.pipeline import load_recipe

    launch = Launch(8, 64 * GIB, "zero3")
    plans = planned("nemotron-nano-9b-v2", launch, "sft-1.train.activation_offloading=false")
    made = {stage: plan.shape for stage, plan in plans.items()}
    remedy = find_remedy(
        load_recipe("nemotron-nano-9b-v2"), plans["sft-1"], Path("runs/nemotron-nano-9b-v2"), launch, made
    )
    assert remedy is not None
    assert remedy.told(launch) == "sft-1.train.activation_offloading=true"


def test_on_a_cpu_nothing_is_offloaded(tmp_path: Path) -> None:
    """TRL's offloading asks PyTorch for an accelerator and fails where there is none."""
    from types import SimpleNamespace

    from sft.config import SftConfig
    from sft.train import to_trl

    config = SftConfig.model_validate(
        {
            "data": {"sources": [{"environment": "math", "rows": 4}]}, "optim": {"learning_rate": 1e-4},
            "train": {"max_steps": 1, "activation_offloading": True, "precision": "float32"},
        }
    )  # fmt: skip
    folder: Any = SimpleNamespace(folder=tmp_path, checkpoints=tmp_path / "checkpoints")
    assert to_trl(config, folder).activation_offloading is torch.cuda.is_available()
