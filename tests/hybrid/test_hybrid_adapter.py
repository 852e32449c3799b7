"""LoRA on a hybrid: which modules, in the run and in the plan; merged exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from alloy.adapter import lora_to_peft
from alloy.config import LoraConfig
from alloy.errors import InputError
from alloy.plan.architectures import shape_of
from alloy.policy import load_model, save_policy
from alloy.scorer import AutoScorer
from alloy.sharding import merged

ALL = {
    "model.layers.0.mixer.in_proj",
    "model.layers.1.mixer.q_proj",
    "model.layers.1.mixer.k_proj",
    "model.layers.1.mixer.v_proj",
    "model.layers.1.mixer.o_proj",
    "model.layers.2.mixer.up_proj",
    "model.layers.2.mixer.down_proj",
    "model.layers.3.mixer.in_proj",
    "model.layers.4.mixer.shared_experts.up_proj",
    "model.layers.4.mixer.shared_experts.down_proj",
}


def adapted(model: Any, lora: LoraConfig, task: str = "CAUSAL_LM") -> Any:
    from peft import get_peft_model

    return get_peft_model(model, lora_to_peft(lora, model, task))


def names(model: Any) -> set[str]:
    return {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all-linear", ALL),
        (["in_proj", "o_proj"], {n for n in ALL if n.endswith(("in_proj", "o_proj"))}),
    ],
)
def test_every_linear_module_but_what_the_kernels_pass_by(
    hybrid: Any, targets: Any, expected: set[str]
) -> None:
    lora = LoraConfig(rank=3, target_modules=targets)
    shape = shape_of(hybrid.config.to_dict(), "x")
    model = adapted(hybrid, lora)
    assert names(model) == expected
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.adapter_parameters(lora) == trained


@pytest.mark.parametrize("module", ["out_proj", "conv1d"])
def test_what_the_kernels_pass_by_is_refused_by_name(hybrid: Any, module: str) -> None:
    with pytest.raises(
        InputError, match=f"names {module}, which the kernels .* Take it out, or set all-linear"
    ):
        lora_to_peft(LoraConfig(target_modules=["q_proj", module]), hybrid)


def test_a_model_without_state_keeps_its_out_proj(tiny_model: Any) -> None:
    assert lora_to_peft(None, tiny_model) is None
    given = lora_to_peft(LoraConfig(target_modules=["out_proj"]), tiny_model)
    assert given.target_modules == {"out_proj"}
    assert lora_to_peft(LoraConfig(), tiny_model).exclude_modules is None


def test_merged_it_is_the_base_and_a_product(hybrid: Any, hybrid_folder: Path, tmp_path: Path) -> None:
    """A folder of the base's own names, in which the adapted weights are W + alpha / rank * B A and no other moved."""
    torch.manual_seed(0)
    model = adapted(hybrid, LoraConfig(rank=2, alpha=6))
    products = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
            torch.nn.init.normal_(up, std=0.1)
            products[name.removeprefix("base_model.model.") + ".weight"] = (up @ down).detach() * 3
    save_policy(model, _NoTokenizer(), tmp_path / "merged")
    before, after = (load_model(folder).state_dict() for folder in (hybrid_folder, tmp_path / "merged"))
    assert before.keys() == after.keys()
    assert {name for name in before if not torch.equal(before[name], after[name])} == products.keys()
    for name, product in products.items():
        torch.testing.assert_close(after[name], before[name] + product, atol=1e-6, rtol=1e-6)


class _NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        pass


@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoScorer])
@pytest.mark.parametrize("rank", [None, 2])
def test_what_is_gathered_from_processes_is_saved_the_same(
    hybrid_folder: Path, tmp_path: Path, auto: Any, rank: int | None
) -> None:
    """Under ZeRO-3 and FSDP a model is saved from tensors by the names that they have in memory."""
    extra = {"num_labels": 1} if auto is AutoScorer else {}
    model = load_model(hybrid_folder, auto=auto, **extra)
    if rank is not None:
        model = adapted(model, LoraConfig(rank=rank), "SEQ_CLS" if auto is AutoScorer else "CAUSAL_LM")
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    gathered = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model if rank is None else merged(model, gathered)
    plain.save_pretrained(tmp_path / "gathered", state_dict=gathered if rank is None else None)
    save_policy(model, _NoTokenizer(), tmp_path / "whole")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("gathered", "whole"))
    assert one.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(one[name], tensor, atol=1e-6, rtol=1e-6)
