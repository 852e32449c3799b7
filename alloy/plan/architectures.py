"""Shapes from a config.json, architecture by architecture, with transformers' defaults for what it leaves out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alloy.errors import InputError
from alloy.plan.layers import Attention, Mlp, Moe
from alloy.plan.mamba import Mamba
from alloy.plan.shape import Block, Shape

Config = dict[str, Any]


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


def _first(config: Config, names: tuple[str, ...], default: Any) -> Any:
    """The value under the first of the names that is there: configs have been renamed."""
    return next((config[name] for name in names if config.get(name) is not None), default)


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
    experts = _first(config, ("num_experts", "num_local_experts"), 128)
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


_NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NEMOTRON_NAMES = {
    "linear_attention": "mamba", "mamba": "mamba", "full_attention": "attention", "attention": "attention",
    "mlp": "mlp", "moe": "moe",
}  # fmt: skip


def _nemotron_h(config: Config) -> Shape:
    """One mixer a block: Mamba-2, attention without rotation, a plain MLP or experts."""
    hidden = config["hidden_size"]
    named = config.get("layers_block_type") or config.get("layer_types")
    if named:
        kinds = [_NEMOTRON_NAMES.get(name, name) for name in named]
    else:
        kinds = [_NEMOTRON_LETTERS.get(letter, letter) for letter in config["hybrid_override_pattern"]]
    makers: dict[str, Callable[[], Block]] = {
        "mamba": lambda: (_nemotron_mamba(config),),
        "attention": lambda: (_nemotron_attention(config),),
        "mlp": lambda: (_nemotron_mlp(config, config["intermediate_size"]),),
        "moe": lambda: (_nemotron_moe(config),),
    }
    unknown = [kind for kind in kinds if kind not in makers]
    if unknown:
        raise InputError(
            f"nemotron_h: {unknown[0]!r} is no kind of block. Known: {', '.join(makers)}, or M * - E as letters."
        )
    made = {kind: makers[kind]() for kind in set(kinds)}
    return Shape(
        "nemotron_h",
        config["vocab_size"],
        hidden,
        tuple(made[kind] for kind in kinds),
        beside=hidden,  # the last norm; transformers never ties this model's embeddings
        positions=config.get("max_position_embeddings", 4096),
    )


def _nemotron_mamba(config: Config) -> Mamba:
    hidden = config["hidden_size"]
    mixer = Mamba(
        hidden,
        heads=config.get("mamba_num_heads", 128),
        head_size=config.get("mamba_head_dim", 64),
        groups=_first(config, ("n_groups", "mamba_n_groups"), 8),
        state=config.get("ssm_state_size", 128),
        kernel=_first(config, ("conv_kernel", "mamba_d_conv"), 4),
        chunk=_first(config, ("chunk_size", "mamba_chunk_size"), 128),
    )
    convolution = _first(config, ("use_conv_bias", "mamba_conv_bias"), True)
    biases = mixer.convolved if convolution else 0
    if config.get("use_bias"):
        biases += mixer.projected + hidden
    return replace(mixer, biases=biases)


def _nemotron_attention(config: Config) -> Attention:
    heads = config["num_attention_heads"]
    return Attention(
        config["hidden_size"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config.get("attention_head_dim") or 128,
    )


def _nemotron_mlp(config: Config, size: int) -> Mlp:
    biases = size + config["hidden_size"] if config.get("mlp_bias") else 0
    return Mlp(config["hidden_size"], size, gated=False, biases=biases)


def _nemotron_moe(config: Config) -> Moe:
    latent = config.get("moe_latent_size")
    shared = _nemotron_mlp(config, config.get("moe_shared_expert_intermediate_size", 7688))
    biases = shared.biases
    if latent and config.get("mlp_bias"):
        biases += latent + config["hidden_size"]
    return Moe(
        config["hidden_size"],
        experts=_first(config, ("n_routed_experts", "num_local_experts"), 8),
        chosen=config.get("num_experts_per_tok", 2),
        size=config.get("moe_intermediate_size", 7688),
        gated=False,
        shared=shared,
        latent=latent,
        biases=biases,
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
    "nemotron_h": _nemotron_h,
    "bert": _bert,
}
