"""Make a base model folder: from scratch, from a GGUF file that a package carries, or from the Hub."""

import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from alloy.artifact import Artifact, Parent, Run
from alloy.base import BaseConfig, ModelShape
from alloy.chat import PAD, SPECIAL_TOKENS, TAG_TOKENS, TEMPLATE, TURN_CLOSE
from alloy.data.config import SourceConfig
from alloy.data.sources import read_rows
from alloy.errors import InputError
from alloy.policy import load_model, parameter_count, save_policy, seed_everything

# Words with their space, digits one by one, punctuation in runs: a value between quotes is the same
# token in a question and in a call's JSON, and no number is a token of its own.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s"


def train(config: BaseConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    run.begin()
    seed_everything(config.seed)
    if config.source == "scratch":
        tokenizer = train_tokenizer(
            corpus_texts(config.corpus, config.seed), config.vocabulary, config.phrases
        )
        if config.architecture is not None:
            model = random_architecture(config.architecture, tokenizer)
        else:
            assert config.shape is not None  # the config's own rule
            model = random_model(config.shape, tokenizer)
    elif config.source == "hub":
        assert config.model is not None  # the config's own rule
        model, tokenizer = fetch(config.model, config.revision, config.template)
    else:
        assert config.package is not None  # the config's own rule
        model, tokenizer = convert_gguf(config.package)
    save_policy(model, tokenizer, run.folder / "model")
    size = {"parameters": parameter_count(model), "vocabulary": len(tokenizer)}
    return run.finish("policy", size)


def corpus_texts(corpus: Iterable[SourceConfig], seed: int) -> Iterator[str]:
    """Every text that the recipe will render: turns, calls, tool schemas."""
    for source in corpus:
        for row in read_rows(source, seed):
            yield from (json.dumps(tool) for tool in row.tools)
            for turn in row.messages:
                yield turn.get("content") or ""
                yield turn.get("thinking") or ""
                yield from (json.dumps(call) for call in turn.get("tool_calls") or [])


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, phrases: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with digits apart and the chat format's tags as single tokens.

    Args:
        vocabulary: tokens in all, tags and phrases included.
        phrases: texts that are one token each; the longest that fits is taken.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAG_TOKENS) - len(phrases),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    # The roles stand in every rendering, and in no turn. Phrases are tokens already: what is left is learned.
    pieces = [piece for text in texts for piece in _without(text, phrases)]
    tokenizer.train_from_iterator(
        [*pieces, *["system", "user", "assistant", "tool", "Tools"] * 1000], trainer
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in (*TAG_TOKENS, *phrases)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_CLOSE,
        pad_token=PAD,
        chat_template=TEMPLATE,
        padding_side="left",
    )


def _without(text: str, phrases: Sequence[str]) -> list[str]:
    if not phrases:
        return [text]
    longest_first = sorted(phrases, key=len, reverse=True)
    return [piece for piece in re.split("|".join(map(re.escape, longest_first)), text) if piece]


def random_model(shape: ModelShape, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads or shape.heads,
        intermediate_size=shape.mlp_size,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        initializer_range=shape.initializer_range,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def random_architecture(given: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> Any:
    """A language model of any architecture that transformers has one of, with random weights in float32.

    Args:
        given: `model_type`, and what its config takes, in transformers' names.
    Raises:
        InputError: an architecture, a key or a value that transformers does not know.
    """
    kind = given["model_type"]
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        near = get_close_matches(str(kind), CONFIG_MAPPING, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"architecture.model_type: transformers has no language model {kind!r}.{meant}")
    cls = CONFIG_MAPPING[kind]
    # A config of transformers keeps what it does not know without a word; a few models read what is not declared.
    source = inspect.getsource(sys.modules[MODEL_FOR_CAUSAL_LM_MAPPING[cls].__module__])
    unknown = [
        key
        for key in given
        if not hasattr(cls, key) and key not in cls.attribute_map and f'config, "{key}"' not in source
    ]
    if unknown:
        known = [*(field.name for field in fields(cls)), *cls.attribute_map]
        near = get_close_matches(unknown[0], known, 1)
        meant = f"Did you mean {near[0]!r}?" if near else "Take it out."
        raise InputError(f"architecture: {cls.__name__} takes no {unknown[0]!r}. {meant}")
    filled = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    taken = [key for key in given if key in filled]
    if taken:
        raise InputError(f"architecture: {taken[0]} follows from the tokenizer. Take it out.")
    try:
        config = cls(**{key: value for key, value in given.items() if key != "model_type"}, **filled)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, StrictDataclassError) as error:
        first = " ".join(str(error).split())
        raise InputError(f"architecture: no {kind} can be made of this ({first}).") from None


def convert_gguf(package: str) -> tuple[torch.nn.Module, PreTrainedTokenizerFast]:
    """A plain float32 model from the GGUF file in an installed package, taught the chat format's tokens.

    Raises:
        InputError: the package is not installed, or holds not exactly one *.gguf.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package: {package!r} is not installed. `make setup` installs it.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"package: {package!r} holds {len(files)} *.gguf files, exactly one is needed.")
    name = files[0].name
    tokenizer = AutoTokenizer.from_pretrained(files[0].parent, gguf_file=name)
    loaded = AutoModelForCausalLM.from_pretrained(files[0].parent, gguf_file=name, dtype=torch.float32)
    # A model that remembers its quantisation refuses to be saved: build it anew from the bare config.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    teach_chat_format(model, tokenizer)
    return model, tokenizer


_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
"""Of a model's files: weights, configs, tokenizer; no code."""


def fetch(named: str, revision: str | None, template: str) -> tuple[Any, Any]:
    """A model of the Hub or of a folder in bfloat16, and its tokenizer.

    Raises:
        InputError: there is none, none with a tokenizer, or none with a chat template where its own is wanted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = Path(named)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(named, revision=revision, allow_patterns=_WANTED))
        except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
            raise InputError(
                f"{named}: neither a folder nor a model that the Hub gives ({str(error).strip().splitlines()[0]}). "
                "Correct model or revision; a gated one wants HF_TOKEN."
            ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a file without its keys is a KeyError, and what else a library makes of it
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{named}: no tokenizer that can be loaded ({first}). Name a model with a tokenizer.json."
        ) from None
    if template == "own" and tokenizer.chat_template is None:
        raise InputError(f"{named}: it has no chat template. Set template=alloy.")
    model = load_model(folder, "bfloat16")
    if template == "alloy":
        teach_chat_format(model, tokenizer, multiple=64)
    return model, tokenizer


def teach_chat_format(model: Any, tokenizer: PreTrainedTokenizerFast, multiple: int = 1) -> None:
    """Add the tokens of our chat format that a tokenizer lacks, and set template, end of turn and padding.

    A new token's embedding starts at the mean of the tokens that its text was before: at the mean of
    all tokens, SmolLM2 ends its turn at once after an opened thinking tag.

    Args:
        multiple: rows of an embedding that has to grow are a multiple of it: matrices of odd sizes are slow.
    """
    pieces = {tag: tokenizer.encode(tag, add_special_tokens=False) for tag in (*SPECIAL_TOKENS, *TAG_TOKENS)}
    known = tokenizer.get_vocab()
    missing_special = [token for token in SPECIAL_TOKENS if token not in known]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": missing_special}, replace_extra_special_tokens=False
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAG_TOKENS])
    tokenizer.chat_template = TEMPLATE
    tokenizer.eos_token, tokenizer.pad_token = TURN_CLOSE, PAD
    tokenizer.padding_side = "left"
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple, mean_resizing=True)
    # Also where nothing grew: many models have rows to spare, which nothing has trained.
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            for tag, ids in pieces.items():
                if tag not in known and ids:
                    layer.weight[tokenizer.convert_tokens_to_ids(tag)] = layer.weight[ids].mean(dim=0)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        config.bos_token_id = None
