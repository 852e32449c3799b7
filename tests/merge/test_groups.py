import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.groups import alphas_of, check_group, kind_of, parse_alpha, partition, told

KINDS = {
    "embeddings": [
        "model.embed_tokens.weight",
        "transformer.wte.weight",
        "lm_head.weight",
        "score.weight",
        "backbone.embeddings.weight",
    ],
    "attention": [
        "model.layers.3.self_attn.q_proj.weight",
        "transformer.h.0.attn.c_attn.bias",
        "model.layers.0.self_attn.gate_proj.weight",
        # The Mamba and the attention layers of nemotron_h.
        "backbone.layers.0.mixer.in_proj.weight",
        "backbone.layers.0.mixer.A_log",
        "backbone.layers.0.mixer.conv1d.weight",
        "backbone.layers.2.mixer.o_proj.weight",
    ],
    "mlp": [
        "model.layers.3.mlp.gate_proj.weight",
        "model.layers.0.block_sparse_moe.experts.1.w1.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        # Its MLP and MoE layers.
        "backbone.layers.1.mixer.up_proj.weight",
        "backbone.layers.3.mixer.experts.0.down_proj.weight",
        "backbone.layers.3.mixer.gate.weight",
        "backbone.layers.3.mixer.gate.e_score_correction_bias",
        "backbone.layers.3.mixer.shared_experts.up_proj.weight",
    ],
    "other": [
        "model.norm.weight",
        "model.layers.3.input_layernorm.weight",
        "model.layers.3.self_attn.q_norm.weight",
        "backbone.layers.0.mixer.norm.weight",
        "transformer.h.0.ln_1.weight",
    ],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_kinds_of_tensors(kind: str, name: str) -> None:
    assert kind_of(name) == kind


NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{n}.{part}.weight"
        for n in range(12)
        for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    ),
    "model.norm.weight",
]


def test_layers_are_counted_and_parted() -> None:
    found = partition(NAMES, ["layers.0-1", "layers.2-9.mlp", "other"])
    assert found["layers.0-1"] == NAMES[1:7]
    assert found["layers.2-9.mlp"] == [f"model.layers.{n}.mlp.up_proj.weight" for n in range(2, 10)]
    assert sum(len(members) for members in found.values()) == len(NAMES)
    assert "model.layers.10.mlp.up_proj.weight" in found["other"]
    assert len(partition(NAMES, ["layers.1-1.attention", "other"])["layers.1-1.attention"]) == 1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["attention", "mlp"], "model.embed_tokens.weight is in no group: add other"),
        (
            ["attention", "layers.0-3", "other"],
            "attention and layers.0-3 both name model.layers.0.self_attn.q_proj.weight: a tensor belongs to one",
        ),
        (["layers.12-20", "other"], "layers.12-20 names no tensor of these checkpoints: leave it out"),
    ],
)
def test_groups_that_do_not_fit_are_said(groups: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        partition(NAMES, groups)


@pytest.mark.parametrize("group", ["", "atention", "layers", "layers.3", "layers.0-3.norm", "layers.a-b"])
def test_what_is_no_group_is_said(group: str) -> None:
    with pytest.raises(ValueError, match=f"'{group}' is no group of tensors: write attention"):
        check_group(group)


def test_alphas_of_every_tensor() -> None:
    found = alphas_of({"layers.0-5": 0.25, "other": 0.75}, NAMES)
    assert [found[name] for name in NAMES] == [0.75] + [0.25] * 18 + [0.75] * 19
    assert set(alphas_of(0.5, NAMES).values()) == {0.5}
    with pytest.raises(ValueError, match=r"1\.5: the share of the chat weights lies between 0 and 1"):
        alphas_of(1.5, NAMES)


groups = st.sampled_from(["attention", "mlp", "embeddings", "layers.0-3", "layers.4-7.mlp", "other"])


@given(st.one_of(st.floats(0, 1), st.dictionaries(groups, st.floats(0, 1), min_size=1)))
def test_what_is_told_is_read_back(alpha: Any) -> None:
    assert parse_alpha(told(alpha)) == alpha


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "invalid float value: 'half'"),
        ("2", "2.0: the share of the chat weights lies between 0 and 1"),
        ("mlp=0.5,mlp=0.6", "mlp has two alphas: give it one"),
        ("heads=0.5,other=0.1", "'heads' is no group of tensors"),
        ("layers.3-1=0.5,other=0.1", "'layers.3-1': the first layer comes after the last"),
        ("mlp=,other=0.1", "invalid float value: ''"),
    ],
)
def test_alphas_that_make_no_sense_are_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_alpha(text)
