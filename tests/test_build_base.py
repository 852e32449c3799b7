"""A base model from scratch: what its tokenizer makes of texts, and what its seed decides."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alloy.base import BaseConfig, ModelShape
from alloy.build_base import random_model, teach_chat_format, train_tokenizer
from alloy.chat import PAD, TAG_TOKENS, TEMPLATE, TURN_CLOSE

TEXTS = [
    '{"name": "find_events", "arguments": {"name": "team call"}}',
    "Ada has 12 pens.",
    'Cancel "team call".',
] * 20
PHRASES = ['{"name": "', '", "arguments": {"']


def test_digits_stand_alone_and_a_quoted_value_is_the_same_tokens_everywhere() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert tokenizer.tokenize("12") == ["1", "2"]
    asked = tokenizer.encode('Cancel "team call".')
    called = tokenizer.encode('{"name": "team call"}')
    value = tokenizer.encode("team call")
    for ids in (asked, called):
        assert any(ids[i : i + len(value)] == value for i in range(len(ids)))


def test_tags_and_phrases_are_single_tokens_and_text_comes_back() -> None:
    tokenizer = train_tokenizer(TEXTS, 400, PHRASES)
    for token in (*TAG_TOKENS, *PHRASES, TURN_CLOSE, PAD):
        assert len(tokenizer.encode(token)) == 1, token
    # So few texts give fewer merges than the vocabulary has room for.
    assert len(tokenizer) <= 400
    for text in (*TEXTS, "grüße, 7 <think> x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template) == (TURN_CLOSE, PAD, TEMPLATE)


def test_a_model_has_the_shape_it_was_given() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    shape = ModelShape(hidden_size=16, layers=1, heads=2, mlp_size=32, initializer_range=0.1)
    torch.manual_seed(0)
    model = random_model(shape, tokenizer)
    # Embedding V x 16 (tied), attention 4 x 16 x 16, MLP 3 x 16 x 32, three norms of 16.
    expected = len(tokenizer) * 16 + 4 * 256 + 3 * 512 + 3 * 16
    assert sum(p.numel() for p in model.parameters()) == expected
    assert abs(model.model.embed_tokens.weight.std().item() - 0.1) < 0.005
    torch.manual_seed(0)
    again = random_model(shape, tokenizer)
    assert torch.equal(model.model.embed_tokens.weight, again.model.embed_tokens.weight)


def test_a_new_token_starts_at_the_mean_of_what_its_text_was_before() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    older = PreTrainedTokenizerFast(tokenizer_object=_bytes_only())
    shape = ModelShape(hidden_size=16, layers=1, heads=2, mlp_size=32)
    model = random_model(shape, tokenizer)
    model.resize_token_embeddings(len(older))
    rows = model.get_input_embeddings().weight.detach().clone()
    pieces = older.encode("<think>")
    assert len(pieces) == 7
    teach_chat_format(model, older)
    (new,) = older.encode("<think>")
    assert new >= len(rows)
    taught = model.get_input_embeddings().weight
    torch.testing.assert_close(taught[new], rows[pieces].mean(dim=0))
    torch.testing.assert_close(taught[: len(rows)], rows)


def _bytes_only() -> Tokenizer:
    vocabulary = {name: number for number, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def corpus(**source: Any) -> BaseConfig:
    return BaseConfig.model_validate(
        {"output": "runs/mine/base", "source": "scratch", "shape": {}, "corpus": [source]}
    )


def test_a_corpus_takes_no_blend() -> None:
    with pytest.raises(
        ValidationError, match="a corpus takes no `blend`: name that file's sources themselves"
    ):
        corpus(blend="configs/demo/sft-1.yaml")


def test_a_corpus_of_files_is_known_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    before = corpus(path=str(path)).data_fingerprint()
    path.write_text('{"prompt": "a", "completion": "c"}\n')
    assert corpus(path=str(path)).data_fingerprint() != before
