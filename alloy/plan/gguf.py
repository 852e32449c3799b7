"""The header of a GGUF file: what a model is, without its weights.

Source: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md).
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from alloy.errors import InputError

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


def read_header(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Metadata by key, and the names of the tensors.

    Raises:
        InputError: no GGUF file, or one that ends in its header.
    """
    with path.open("rb") as stream:
        try:
            if stream.read(4) != b"GGUF":
                raise InputError(f"{path}: it does not begin as a GGUF file does. Name another one.")
            _scalar(stream, "<I")  # the version
            tensors, pairs = _scalar(stream, "<Q"), _scalar(stream, "<Q")
            metadata = {}
            for _ in range(pairs):
                key = _string(stream)
                metadata[key] = _value(stream, _scalar(stream, "<I"))
            names = set()
            for _ in range(tensors):
                names.add(_string(stream))
                dimensions = _scalar(stream, "<I")
                stream.seek(8 * dimensions + 4 + 8, 1)  # sizes, type, offset
        except (struct.error, UnicodeDecodeError, KeyError):
            raise InputError(f"{path}: the GGUF header is broken. Copy the file again.") from None
    return metadata, names


def _scalar(stream: BinaryIO, form: str) -> Any:
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def _string(stream: BinaryIO) -> str:
    return stream.read(_scalar(stream, "<Q")).decode("utf-8")


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(stream)
    if kind == _ARRAY:
        inner, count = _scalar(stream, "<I"), _scalar(stream, "<Q")
        if inner in _SCALARS:
            form = f"<{count}{_SCALARS[inner][1]}"
            return list(struct.unpack(form, stream.read(struct.calcsize(form))))
        read: Callable[[], Any] = lambda: _value(stream, inner)  # noqa: E731
        return [read() for _ in range(count)]
    return _scalar(stream, _SCALARS[kind])


def llama_config(metadata: dict[str, Any], tensors: set[str]) -> dict[str, Any]:
    """The metadata of a llama in the words of a config.json."""
    kind = metadata["general.architecture"]
    return {
        "model_type": kind,
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": metadata[f"{kind}.embedding_length"],
        "num_hidden_layers": metadata[f"{kind}.block_count"],
        "num_attention_heads": metadata[f"{kind}.attention.head_count"],
        "num_key_value_heads": metadata.get(f"{kind}.attention.head_count_kv"),
        "head_dim": metadata.get(f"{kind}.attention.key_length"),
        "intermediate_size": metadata[f"{kind}.feed_forward_length"],
        "max_position_embeddings": metadata.get(f"{kind}.context_length", 0),
        # A head of its own has a tensor of its own.
        "tie_word_embeddings": "output.weight" not in tensors,
    }
