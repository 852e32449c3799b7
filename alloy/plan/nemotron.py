"""The shape of a nemotron_h: Mamba-2, attention, plain MLPs and experts, in the order that its pattern says."""

from collections.abc import Callable
from dataclasses import replace

from alloy.errors import InputError
from alloy.plan.keys import Config, first_of
from alloy.plan.layers import Attention, Mlp
from alloy.plan.mamba import Mamba
from alloy.plan.moe import Moe
from alloy.plan.shape import Block, Shape

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NAMES = {
    "linear_attention": "mamba", "mamba": "mamba", "full_attention": "attention", "attention": "attention",
    "mlp": "mlp", "moe": "moe",
}  # fmt: skip


def nemotron_h(config: Config) -> Shape:
    """One mixer a block: Mamba-2, attention without rotation, a plain MLP or experts."""
    hidden = config["hidden_size"]
    named = config.get("layers_block_type") or config.get("layer_types")
    if named:
        kinds = [_NAMES.get(name, name) for name in named]
    else:
        kinds = [_LETTERS.get(letter, letter) for letter in config["hybrid_override_pattern"]]
    makers: dict[str, Callable[[], Block]] = {
        "mamba": lambda: (_mamba(config),),
        "attention": lambda: (_attention(config),),
        "mlp": lambda: (_mlp(config, config["intermediate_size"]),),
        "moe": lambda: (_moe(config),),
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


def _mamba(config: Config) -> Mamba:
    hidden = config["hidden_size"]
    mixer = Mamba(
        hidden,
        heads=config.get("mamba_num_heads", 128),
        head_size=config.get("mamba_head_dim", 64),
        groups=first_of(config, ("n_groups", "mamba_n_groups"), 8),
        state=config.get("ssm_state_size", 128),
        kernel=first_of(config, ("conv_kernel", "mamba_d_conv"), 4),
        chunk=first_of(config, ("chunk_size", "mamba_chunk_size"), 128),
    )
    convolution = first_of(config, ("use_conv_bias", "mamba_conv_bias"), True)
    biases = mixer.convolved if convolution else 0
    if config.get("use_bias"):
        biases += mixer.projected + hidden
    return replace(mixer, biases=biases)


def _attention(config: Config) -> Attention:
    heads = config["num_attention_heads"]
    return Attention(
        config["hidden_size"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config.get("attention_head_dim") or 128,
    )


def _mlp(config: Config, size: int) -> Mlp:
    biases = size + config["hidden_size"] if config.get("mlp_bias") else 0
    return Mlp(config["hidden_size"], size, gated=False, biases=biases)


def _moe(config: Config) -> Moe:
    latent = config.get("moe_latent_size")
    shared = _mlp(config, config.get("moe_shared_expert_intermediate_size", 7688))
    biases = shared.biases
    if latent and config.get("mlp_bias"):
        biases += latent + config["hidden_size"]
    return Moe(
        config["hidden_size"],
        experts=first_of(config, ("n_routed_experts", "num_local_experts"), 8),
        chosen=config.get("num_experts_per_tok", 2),
        size=config.get("moe_intermediate_size", 7688),
        gated=False,
        shared=shared,
        latent=latent,
        biases=biases,
    )
