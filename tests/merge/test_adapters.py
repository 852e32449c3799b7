import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rounding import wrongly_rounded
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from alloy.errors import InputError
from merge.checkpoint import open_checkpoint
from merge.linear import merge_checkpoints
from merge.weights import Files, read_values

CONFIG = LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapt(base: Path, folder: Path, **options: Any) -> Path:
    """A LoRA adapter with random products, as peft saves it; and merged by peft into `folder`-merged."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], **options)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**told, "base_model_name_or_path": str(base)}))
    model.merge_and_unload().save_pretrained(folder.with_name(f"{folder.name}-merged"))
    return folder


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_is_merged_as_peft_merges_it(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    folder = adapt(base, tmp_path / "lora", **options)
    merge_checkpoints(base, folder, 1.0, tmp_path / "out")
    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path / "out", tmp_path / "lora-merged"))
    under = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(ours[name], under[name])
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-6, atol=1e-7)


def test_an_adapter_is_not_rounded_before_it_is_blended(base: Path, tmp_path: Path) -> None:
    folder = adapt(base, tmp_path / "lora")
    merge_checkpoints(base, folder, 0.3, tmp_path / "out", dtype="bfloat16")
    out, under = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    low = load_file(folder / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    product = low[f"{prefix}.lora_B.weight"].double() @ low[f"{prefix}.lora_A.weight"].double()
    name = "model.layers.0.self_attn.q_proj.weight"
    adapted = under[name].double() + 6 / 4 * product
    assert wrongly_rounded(*(t.reshape(-1) for t in (out[name], under[name], adapted)), 0.3) == []


def test_runs_of_an_adapted_tensor_are_the_same_in_every_cut(base: Path, tmp_path: Path) -> None:
    entry = open_checkpoint(adapt(base, tmp_path / "lora"), "chat").entries[
        "model.layers.0.mlp.down_proj.weight"
    ]
    files = Files()
    whole = read_values(files, entry, 0, 16 * 24)
    cut = [read_values(files, entry, start, min(37, 16 * 24 - start)) for start in range(0, 16 * 24, 37)]
    files.close()
    assert [x for run in cut for x in run.tolist()] == whole.tolist()


def test_two_adapters_of_one_base(base: Path, tmp_path: Path) -> None:
    first, second = adapt(base, tmp_path / "one"), adapt(base, tmp_path / "two", use_rslora=True)
    report = merge_checkpoints(first, second, 0.5, tmp_path / "out")
    assert report.parents["reasoning"] != report.parents["chat"]
    merged, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert merged(torch.tensor([[1, 2]])).logits.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"base_model_name_or_path": "some/hub-model"},
            "is an adapter of 'some/hub-model', and there is no such",
        ),
        (
            {"use_dora": True},
            "use_dora is True, and only plain LoRA is merged on the fly. Merge it into its base",
        ),
        ({"bias": "all"}, "bias is 'all', and only plain LoRA"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', and only plain LoRA"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True, and only plain LoRA"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is {'q_proj': 2}, and only plain LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is {'q_proj': 2}, and only plain LoRA"),
    ],
)
def test_adapters_that_are_more_are_refused(
    base: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    folder = adapt(base, tmp_path / "lora")
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**told, **changed}))
    with pytest.raises(InputError) as caught:
        merge_checkpoints(base, folder, 0.5, tmp_path / "out")
    assert message in str(caught.value)


def test_an_adapter_of_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    folder = adapt(base, tmp_path / "lora")
    file = folder / "adapter_model.safetensors"
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    stored = load_file(file)
    save_file({**stored, f"{prefix}.lora_A.weight": torch.zeros(4, 8)}, file)
    with pytest.raises(
        InputError, match=r"makes \[16, 8\] of model.*q_proj.weight, which is \[16, 16\] in the base"
    ):
        open_checkpoint(folder, "chat")
    save_file({**stored, f"{prefix}.lora_magnitude": torch.zeros(4)}, file)
    with pytest.raises(InputError, match="lora_magnitude fits to no tensor of the base"):
        open_checkpoint(folder, "chat")
    file.unlink()
    with pytest.raises(InputError, match="has no adapter_model.safetensors"):
        open_checkpoint(folder, "chat")
