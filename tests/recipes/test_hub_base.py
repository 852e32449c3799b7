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


def test_it_is_taught_the_chat_format(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    # No name of a new token has letters that the tokenizer knows: all are w0 several times.
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert torch.equal(layer.weight[100:107], layer.weight[:1].expand(7, -1))
    # Run again it is done; with other weights in the folder it is not.
    assert run(config).seconds == artifact.seconds
    model.save_pretrained(published)
    run(config)
    assert "base: runs again, because this changed: the data" in capsys.readouterr().out


def test_new_tokens_take_rows_that_were_to_spare(published: Path) -> None:
    """Published embeddings are often padded; the rows behind the vocabulary were never trained."""
    model = load_model(published, "bfloat16")
    model.resize_token_embeddings(400)
    model.save_pretrained(published)
    before = load_model(published, "bfloat16")
    model, tokenizer = fetch(str(published), None, "alloy")
    assert (len(tokenizer), model.config.vocab_size) == (107, 400)
    for ours, theirs in (
        (model.get_input_embeddings().weight, before.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, before.get_output_embeddings().weight),
    ):
        assert torch.equal(ours[100:107], theirs[:1].expand(7, -1))
        assert not torch.equal(theirs[100:107], theirs[:1].expand(7, -1))
        assert torch.equal(ours[:100], theirs[:100])
        assert torch.equal(ours[107:], theirs[107:])


@pytest.mark.parametrize("left", ["its settings", "half a file", "a file without its keys", "nothing"])
def test_a_model_without_a_usable_tokenizer(published: Path, left: str) -> None:
    tokenizer = published / "tokenizer.json"
    if left == "half a file":
        tokenizer.write_text(tokenizer.read_text()[:200])
    elif left == "a file without its keys":
        tokenizer.write_text("{}")
    else:
        tokenizer.unlink()
    if left == "nothing":
        (published / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"published: no tokenizer that can be loaded \(.+\)\. Name a model"):
        fetch(str(published), None, "alloy")


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
