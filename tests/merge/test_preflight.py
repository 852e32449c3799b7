import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from merge_models import TOKENS, WriteModel, tokenizer_json, weights
from safetensors.torch import save_file

from alloy.artifact import Lineage, Parent
from alloy.errors import InputError
from merge.checkpoint import from_parent, open_checkpoint
from merge.preflight import Plan, check_disk, preflight

DESCENDANTS = "merge descendants of one model"
DONOR = "Choose whose to keep: --donor reasoning or --donor chat."
ONE_TOKENIZER = "Rows of the embeddings would mean different tokens: merge checkpoints with one tokenizer."


def check(reasoning: Path, chat: Path, **options: Any) -> Plan:
    return preflight(open_checkpoint(reasoning, "reasoning"), open_checkpoint(chat, "chat"), **options)


def refusal(reasoning: Path, chat: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        check(reasoning, chat, **options)
    return str(caught.value)


def test_equal_parents_pass_without_a_note(write_model: WriteModel) -> None:
    plan = check(write_model("a"), write_model("b"))
    assert plan.notes == []
    assert [pair.name for pair in plan.pairs] == list(open_checkpoint(plan.donor.folder, "chat").entries)
    assert plan.size == 2 * (20 + 32 + 4 + 20)


def test_what_neither_has_is_noted(write_model: WriteModel) -> None:
    bare: dict[str, Any] = {"tokenizer": None, "template": None, "generation": None}
    assert check(write_model("a", **bare), write_model("b", **bare)).notes == [
        "Neither parent has a tokenizer: merged without, and the vocabularies could not be compared.",
        "Neither parent has a chat template: merged without.",
        "Neither parent has a generation_config.json: merged without.",
    ]


class Hard(NamedTuple):
    """A difference that no donor settles."""

    reasoning: dict[str, Any]
    chat: dict[str, Any]
    message: str


def with_tensors(**changed: torch.Tensor) -> dict[str, Any]:
    return {"tensors": {**weights(), **{name.replace("__", "."): value for name, value in changed.items()}}}


HARD = {
    "model type": Hard(
        {},
        {"config": {"model_type": "qwen2"}},
        "config.json: model_type is 'llama' in reasoning and 'qwen2' in chat. "
        "Only descendants of one model can be interpolated: name two of them.",
    ),
    "architecture": Hard(
        {},
        {"config": {"architectures": ["LlamaForSequenceClassification"]}},
        "config.json: architectures is ['LlamaForCausalLM'] in reasoning and "
        "['LlamaForSequenceClassification'] in chat. "
        "Only descendants of one model can be interpolated: name two of them.",
    ),
    "name": Hard(
        with_tensors(score__weight=torch.ones(2)),
        {},
        f"score.weight is only in reasoning. Both parents need the same tensors: {DESCENDANTS}.",
    ),
    "head without a tie": Hard(
        {},
        {"tensors": {name: t for name, t in weights().items() if name != "lm_head.weight"}},
        f"lm_head.weight is only in reasoning. Both parents need the same tensors: {DESCENDANTS}.",
    ),
    "shape": Hard(
        {},
        with_tensors(model__norm__weight=torch.ones(6).bfloat16()),
        "model.norm.weight is [4] in reasoning and [6] in chat. "
        f"Shapes must agree: {DESCENDANTS}, with one vocabulary.",
    ),
    "integers": Hard(
        with_tensors(ids=torch.tensor([1, 2])),
        with_tensors(ids=torch.tensor([1, 3])),
        "ids is I64 in reasoning and I64 in chat, and its values differ. "
        "Only float weights can be interpolated; integers must be equal.",
    ),
    "float8": Hard(
        with_tensors(w=torch.ones(2).to(torch.float8_e4m3fn)),
        with_tensors(w=torch.ones(2).to(torch.float8_e4m3fn)),
        "w (F8_E4M3) is part of a quantised weight. "
        "Name the checkpoint it was made from, or save it dequantised.",
    ),
    "packed": Hard(
        with_tensors(mlp__qweight=torch.ones(2, dtype=torch.int32)),
        with_tensors(mlp__qweight=torch.ones(2, dtype=torch.int32)),
        "mlp.qweight (I32) is part of a quantised weight. "
        "Name the checkpoint it was made from, or save it dequantised.",
    ),
    "buffer": Hard(
        with_tensors(rotary__inv_freq=torch.tensor([1.0, 0.5])),
        with_tensors(rotary__inv_freq=torch.tensor([1.0, 0.25])),
        "rotary.inv_freq is a buffer and differs between reasoning and chat. "
        f"Buffers are computed, not trained: {DESCENDANTS}.",
    ),
    "token id": Hard(
        {},
        {"tokenizer": tokenizer_json({**TOKENS, "a": 4, "b": 3})},
        f"Token 'a' has id 3 in reasoning and id 4 in chat. {ONE_TOKENIZER}",
    ),
    "vocabulary size": Hard(
        {},
        {"tokenizer": tokenizer_json({**TOKENS, "c": 5})},
        f"The vocabularies have 5 tokens in reasoning and 6 in chat. {ONE_TOKENIZER}\n"
        f"Token 'c' has no id in reasoning and id 5 in chat. {ONE_TOKENIZER}",
    ),
    "added token": Hard(
        {"tokenizer": {**tokenizer_json(), "added_tokens": [{"content": "<tool>", "id": 5}]}},
        {"tokenizer": {**tokenizer_json(), "added_tokens": [{"content": "<call>", "id": 5}]}},
        f"Token '<call>' has no id in reasoning and id 5 in chat. {ONE_TOKENIZER}",
    ),
    "merges": Hard(
        {},
        {"tokenizer": {**tokenizer_json(), "model": {"vocab": TOKENS, "merges": ["a b"]}}},
        f"tokenizer.json: the merges differ between reasoning and chat. {ONE_TOKENIZER}",
    ),
    **{
        part: Hard(
            {},
            {"tokenizer": {**tokenizer_json(), part: {"type": "Whitespace"}}},
            f"tokenizer.json: {part} differs between reasoning and chat. {ONE_TOKENIZER}",
        )
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    },
}


@pytest.mark.parametrize("case", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("donor", [None, "chat"])
def test_what_no_donor_settles_is_refused(write_model: WriteModel, case: Hard, donor: str | None) -> None:
    def write(name: str, parts: dict[str, Any]) -> Path:
        return write_model(name, **{"tensors": weights(), **parts})

    assert refusal(write("a", case.reasoning), write("b", case.chat), donor=donor) == case.message


class Soft(NamedTuple):
    """A difference that the user settles by naming a donor."""

    reasoning: dict[str, Any]
    chat: dict[str, Any]
    difference: str


SOFT = {
    "config": Soft(
        {},
        {"config": {"rope_theta": 500000.0}},
        "config.json: rope_theta is None in reasoning and 500000.0 in chat",
    ),
    "nested config": Soft(
        {"config": {"rope_scaling": {"factor": 1.0}}},
        {"config": {"rope_scaling": {"factor": 2.0}}},
        "config.json: rope_scaling.factor is 1.0 in reasoning and 2.0 in chat",
    ),
    "end of text": Soft(
        {}, {"config": {"eos_token_id": 4}}, "config.json: eos_token_id is 2 in reasoning and 4 in chat"
    ),
    "special token": Soft(
        {},
        {"tokenizer_config": {"eos_token": {"content": "<|im_end|>"}}},
        "eos_token is '</s>' in reasoning and '<|im_end|>' in chat",
    ),
    "template": Soft(
        {"template": "{{ bos }}\n{{ messages }}"},
        {"template": "{{ bos }}\n{{ tools }}"},
        "The chat templates differ: from line 2 on, 'messages }}' in reasoning and 'tools }}' in chat",
    ),
    "one template": Soft({"template": None}, {}, "Only chat has a chat template"),
    "one tokenizer": Soft(
        {}, {"tokenizer": None}, "Only reasoning has a tokenizer, so the vocabularies cannot be compared"
    ),
    "generated ends": Soft(
        {},
        {"generation": {"eos_token_id": [2, 4]}},
        "generation_config.json: eos_token_id is 2 in reasoning and [2, 4] in chat",
    ),
    "one generation config": Soft({"generation": None}, {}, "generation_config.json is only in chat"),
}


@pytest.mark.parametrize("case", SOFT.values(), ids=SOFT.keys())
def test_what_a_donor_settles_is_refused_without_one(write_model: WriteModel, case: Soft) -> None:
    a, b = write_model("a", **case.reasoning), write_model("b", **case.chat)
    assert refusal(a, b) == f"{case.difference}. {DONOR}"
    for donor in ("reasoning", "chat"):
        plan = check(a, b, donor=donor)
        assert plan.notes[0] == f"{case.difference}; {donor}'s is kept."
        assert plan.donor.role == donor
        assert plan.config == json.loads(({"reasoning": a, "chat": b}[donor] / "config.json").read_text())


def test_sampling_settings_may_differ_and_are_noted(write_model: WriteModel) -> None:
    a, b = write_model("a", generation={"temperature": 0.6}), write_model("b")
    assert check(a, b).notes == [
        "generation_config.json: temperature is 0.6 in reasoning and None in chat; reasoning's is kept."
    ]


def test_dtypes_that_differ_need_a_choice(write_model: WriteModel) -> None:
    a, b = write_model("a", weights(0, torch.float32)), write_model("b", weights(1))
    message = refusal(a, b)
    assert message.startswith("lm_head.weight is float32 in reasoning and bfloat16 in chat; ")
    assert message.endswith(
        " (and 1 more). Choose the result's: --dtype bfloat16 (or float32, ...), or a donor."
    )
    assert {pair.dtype for pair in check(a, b, dtype="float16").pairs} == {"F16"}
    assert {pair.dtype for pair in check(a, b, donor="chat").pairs} == {"BF16"}
    assert {pair.dtype for pair in check(a, b, donor="reasoning").pairs} == {"F32"}


def test_all_differences_are_said_at_once(write_model: WriteModel) -> None:
    a = write_model("a", template="x")
    b = write_model("b", with_tensors(extra=torch.ones(1))["tensors"], config={"rope_theta": 1.0})
    lines = refusal(a, b).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["extra", "config.json:", "The"]


def test_tokenizers_in_other_files_are_compared_byte_by_byte(write_model: WriteModel) -> None:
    a, b = write_model("a", tokenizer=None), write_model("b", tokenizer=None)
    for folder, content in ((a, b"one"), (b, b"two")):
        (folder / "tokenizer.model").write_bytes(content)
    assert refusal(a, b) == f"tokenizer.model differs between reasoning and chat. {ONE_TOKENIZER}"
    (b / "tokenizer.model").rename(b / "vocab.txt")
    assert refusal(a, b).splitlines()[0] == (
        "tokenizer.model is only in reasoning, so the vocabularies cannot be compared. "
        "Save both tokenizers with the same version of transformers."
    )


def test_a_template_is_found_wherever_it_is_kept(write_model: WriteModel) -> None:
    a = write_model("a", template="same")
    b = write_model("b", template=None, tokenizer_config={"chat_template": "same"})
    assert check(a, b).notes == []


def test_a_quantised_parent_is_refused(write_model: WriteModel) -> None:
    a, b = write_model("a"), write_model("b", config={"quantization_config": {"quant_method": "gptq"}})
    assert refusal(a, b) == (
        f"chat: {b} is quantised (gptq). Name the checkpoint it was made from, or save it dequantised."
    )


def test_folders_that_are_no_models_are_named(write_model: WriteModel, tmp_path: Path) -> None:
    a = write_model("a")
    assert refusal(a, tmp_path / "absent") == (
        f"{tmp_path / 'absent'} has no artifact.json: there is no such folder. "
        "Run it again, or set parent to a model folder."
    )
    (tmp_path / "run" / "model").mkdir(parents=True)
    assert "the stage did not finish. Run it again" in refusal(a, tmp_path / "run")
    b = write_model("b")
    (b / "model.safetensors").rename(b / "weights.safetensors")
    assert refusal(a, b) == (
        f"chat: {b} has neither model.safetensors nor model.safetensors.index.json. "
        "Save the model as safetensors (save_pretrained does)."
    )


def broken(folder: Path, data: bytes) -> Path:
    (folder / "model.safetensors").write_bytes(data)
    return folder


def test_broken_files_are_named(write_model: WriteModel) -> None:
    a, b = write_model("a"), write_model("b")
    file = b / "model.safetensors"
    whole = file.read_bytes()
    assert refusal(a, broken(b, whole[:-1])) == (
        f"{file}: {len(whole) - 1} bytes, but its header speaks of {len(whole)}: cut short. Fetch it again."
    )
    for data in (b"", b"short", whole[:20]):
        assert refusal(a, broken(b, data)) == (
            f"{file}: not a safetensors file, or cut short in its header. Fetch it again."
        )
    assert f"{file}: its safetensors header is broken (" in refusal(
        a, broken(b, whole.replace(b"[4]", b"[5]", 1))
    )
    broken(b, whole)
    (b / "config.json").write_text("{")
    assert f"{b / 'config.json'}: not JSON (" in refusal(a, b)
    (b / "config.json").write_text("[]")
    assert refusal(a, b) == (
        f"{b / 'config.json'}: a JSON object is expected, not a list. Save the model again."
    )


def test_a_run_without_a_config_is_named(write_model: WriteModel, tmp_path: Path) -> None:
    a, folder = write_model("a"), write_model("b")
    (folder / "config.json").unlink()
    parent = Parent(path=folder, lineage=Lineage(path="runs/x", fingerprint="f"))
    with pytest.raises(InputError) as caught:
        preflight(open_checkpoint(a, "reasoning"), from_parent(parent, "chat"))
    assert str(caught.value) == f"chat: {folder} has no config.json. Name a Hugging Face model folder."


def test_a_missing_shard_is_named(write_model: WriteModel) -> None:
    names = list(weights())
    a, b = write_model("a"), write_model("b", weights(), shards=[names[:2], names[2:]])
    index, second = b / "model.safetensors.index.json", b / "model-00002-of-00002.safetensors"
    save_file({"other": torch.ones(1)}, second)
    assert refusal(a, b) == f"{second}: {names[2]} should be in it and is not. Fetch it again."
    second.unlink()
    assert refusal(a, b) == f"{index} names {second.name}, which is not there. Fetch the missing shard."
    index.write_text("{}")
    assert refusal(a, b) == f"{index}: no weight_map in it. Save the model again."


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr("merge.preflight.shutil.disk_usage", lambda path: usage)
    check_disk(tmp_path / "not" / "yet", 2**30)
    with pytest.raises(InputError) as caught:
        check_disk(tmp_path / "not" / "yet", 3 * 2**30)
    assert str(caught.value) == (
        f"{tmp_path / 'not' / 'yet'}: the merge writes 3.00 GiB, and 1.00 GiB are free there. "
        "Free some, or name a folder on another disk."
    )
