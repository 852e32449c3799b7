"""Shapes from a config.json, architecture by architecture, with transformers' defaults for what it leaves out."""

from collections.abc import Callable
from dataclasses import replace

from alloy.errors import InputError
from alloy.plan.keys import Config, first_of
from alloy.plan.layers import Attention, Mlp
from alloy.plan.moe import Moe
from alloy.plan.nemotron import nemotron_h
from alloy.plan.shape import Block, Shape


def shape_of(config: Config, where: str) -> Shape:
    """The shape that a config.json describes.

    Args:
        where: what an error names.
    Raises:
        InputError: an architecture that is not known here, or a number that is missing.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise InputError(
            f"{where}: model_type = {kind!r} is no architecture that can be planned. Known: "
            f"{', '.join(sorted(ARCHITECTURES))}."
        )
    try:
        shape = ARCHITECTURES[kind](config)
    except KeyError as error:
        raise InputError(
            f"{where}: {error.args[0]} is missing, which a {kind} has. Correct config.json."
        ) from None
    if any("SequenceClassification" in name for name in config.get("architectures") or []):
        return replace(shape.as_scorer(), labels=len(config.get("id2label") or ()) or 2)
    return shape


def _llama(config: Config) -> Shape:
    return decoder(
        config, biases=bool(config.get("attention_bias")) * 4, mlp_biases=bool(config.get("mlp_bias"))
    )


def _mistral(config: Config) -> Shape:
    return decoder(config, window=config.get("sliding_window", 4096))


def _qwen2(config: Config) -> Shape:
    # Queries, keys and values have biases, the output has none.
    return decoder(config, biases=3, window=_qwen_window(config))


def _qwen3(config: Config) -> Shape:
    return decoder(
        {"head_dim": 128, **config},
        biases=bool(config.get("attention_bias")) * 4,
        head_norms=True,
        window=_qwen_window(config),
    )


def _qwen3_moe(config: Config) -> Shape:
    dense = decoder(config, biases=bool(config.get("attention_bias")) * 4, head_norms=True)
    step, only_mlp = config.get("decoder_sparse_step", 1), config.get("mlp_only_layers") or ()
    experts = first_of(config, ("num_experts", "num_local_experts"), 128)
    moe = Moe(
        config["hidden_size"],
        experts,
        config.get("num_experts_per_tok", 8),
        config.get("moe_intermediate_size", 768),
    )
    blocks = [
        (block[0], moe) if experts and index not in only_mlp and (index + 1) % step == 0 else block
        for index, block in enumerate(dense.blocks)
    ]
    return replace(dense, blocks=tuple(blocks))


def _qwen_window(config: Config) -> int | None:
    return config.get("sliding_window", 4096) if config.get("use_sliding_window") else None


def decoder(
    config: Config,
    *,
    biases: int = 0,
    mlp_biases: bool = False,
    head_norms: bool = False,
    window: int | None = None,
) -> Shape:
    """Blocks of attention and a gated MLP, an RMSNorm before each and one behind the last.

    Args:
        biases: how many of queries, keys, values and output have one, in this order.
    Raises:
        KeyError: the config lacks a size that nothing stands for.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    keys = config.get("num_key_value_heads") or heads
    widths = (heads * size, keys * size, keys * size, hidden)
    attention = Attention(
        hidden, heads, keys, size, sum(widths[:biases]), head_norms=head_norms, window=window
    )
    inner = config["intermediate_size"]
    mlp = Mlp(hidden, inner, biases=(2 * inner + hidden) if mlp_biases else 0)
    # Windows of some layers only: qwen2 and qwen3 begin with layers that see everything.
    whole = replace(attention, window=None)
    first = config.get("max_window_layers", 28) if window and "max_window_layers" in config else 0
    blocks: list[Block] = [
        (whole if index < first else attention, mlp) for index in range(config["num_hidden_layers"])
    ]
    return Shape(
        str(config.get("model_type")),
        config["vocab_size"],
        hidden,
        tuple(blocks),
        tied=bool(config.get("tie_word_embeddings", False)),
        beside=hidden,
        positions=config.get("max_position_embeddings", 0),
    )


def _bert(config: Config) -> Shape:
    """An encoder with one score, as a reward model has it: its pooler and a classifier with a bias."""
    hidden, size = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    attention = Attention(
        hidden, heads, heads, hidden // heads, 4 * hidden, after=True, causal=False,
        names=("query", "key", "value", "attention.output.dense"),
    )  # fmt: skip
    mlp = Mlp(
        hidden, size, gated=False, biases=size + hidden, after=True,
        names=("intermediate.dense", "output.dense"),
    )  # fmt: skip
    positions = config.get("max_position_embeddings", 512)
    tables = (positions + config.get("type_vocab_size", 2)) * hidden
    return Shape(
        "bert",
        config["vocab_size"],
        hidden,
        ((attention, mlp),) * config["num_hidden_layers"],
        beside=tables + 2 * hidden + hidden * hidden + hidden,
        head="score",
        head_bias=True,
        positions=positions,
    )


ARCHITECTURES: dict[str, Callable[[Config], Shape]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "nemotron_h": nemotron_h,
    "bert": _bert,
}
