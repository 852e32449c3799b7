"""Whether two parents speak of the same tokens: vocabulary, token ids, special tokens, chat template.

Reads the tokenizers' own files, so that neither transformers nor a model is loaded for it.
"""

from collections.abc import Callable
from typing import Any

from alloy.artifact import fingerprint_file
from merge.checkpoint import Checkpoint

Hard = Callable[[str, str], None]
Say = Callable[[str], None]

_TOKENIZER = "tokenizer.json"
_OTHER_VOCABULARIES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
_EXTRA_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
_REMEDY = "Rows of the embeddings would mean different tokens: merge checkpoints with one tokenizer."
_CUT = 60


def compare_tokenizers(
    reasoning: Checkpoint, chat: Checkpoint, hard: Hard, soft: Say, note: Say, matched: bool = False
) -> None:
    """Report every difference: `hard` (with a remedy) where nothing settles it, `soft` where a donor does."""
    having = [parent for parent in (reasoning, chat) if _has_tokenizer(parent)]
    if not having:
        note("Neither parent has a tokenizer: merged without, and the vocabularies could not be compared.")
    elif len(having) == 1:
        soft(f"Only {having[0].role} has a tokenizer, so the vocabularies cannot be compared")
    else:
        if not matched:
            _compare_vocabularies(reasoning, chat, hard)
        _compare_special_tokens(reasoning, chat, soft)
    ours, theirs = chat_template(reasoning), chat_template(chat)
    if ours is None and theirs is None:
        note("Neither parent has a chat template: merged without.")
    elif ours is None or theirs is None:
        soft(f"Only {chat.role if ours is None else reasoning.role} has a chat template")
    elif ours != theirs:
        soft(f"The chat templates differ: {_first_difference(reasoning, chat, str(ours), str(theirs))}")


def chat_template(parent: Checkpoint) -> Any:
    """The template text (or several by name), from wherever the tokenizer's version keeps it."""
    path = parent.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = (parent.json(name) or {}).get("chat_template")
        if template is not None:
            return template
    return None


def _has_tokenizer(parent: Checkpoint) -> bool:
    return any((parent.folder / name).is_file() for name in (_TOKENIZER, *_OTHER_VOCABULARIES))


def _compare_vocabularies(reasoning: Checkpoint, chat: Checkpoint, hard: Hard) -> None:
    ours, theirs = reasoning.json(_TOKENIZER), chat.json(_TOKENIZER)
    if ours is None or theirs is None:
        _compare_files(reasoning, chat, hard)
        return
    _compare_ids(reasoning.role, chat.role, token_ids(ours), token_ids(theirs), hard)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if ours.get(part) != theirs.get(part):
            hard(f"{_TOKENIZER}: {part} differs between {reasoning.role} and {chat.role}", _REMEDY)
    if (ours.get("model") or {}).get("merges") != (theirs.get("model") or {}).get("merges"):
        hard(f"{_TOKENIZER}: the merges differ between {reasoning.role} and {chat.role}", _REMEDY)


def token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Token to id, of a tokenizer.json: the model's vocabulary and what was added to it."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: pieces with their scores, in order of id.
        vocabulary = {piece[0]: number for number, piece in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    return {**vocabulary, **added}


def _compare_ids(
    first_role: str, second_role: str, ours: dict[str, int], theirs: dict[str, int], hard: Hard
) -> None:
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        hard(
            f"The vocabularies have {len(ours)} tokens in {first_role} and {len(theirs)} in {second_role}",
            _REMEDY,
        )
    for token in sorted(
        ours.keys() | theirs.keys(), key=lambda t: (min(ours.get(t, 1 << 60), theirs.get(t, 1 << 60)), t)
    ):
        first, second = ours.get(token), theirs.get(token)
        if first != second:
            hard(
                f"Token {token!r} has {_id(first)} in {first_role} and {_id(second)} in {second_role}",
                _REMEDY,
            )
            return


def _id(number: int | None) -> str:
    return "no id" if number is None else f"id {number}"


def _compare_files(reasoning: Checkpoint, chat: Checkpoint, hard: Hard) -> None:
    """Tokenizers without a tokenizer.json on both sides: their files must be the same, byte for byte."""
    for name in (_TOKENIZER, *_OTHER_VOCABULARIES):
        paths = [parent.folder / name for parent in (reasoning, chat)]
        there = [path.is_file() for path in paths]
        if all(there) and fingerprint_file(paths[0]) != fingerprint_file(paths[1]):
            hard(f"{name} differs between {reasoning.role} and {chat.role}", _REMEDY)
        elif any(there) and not all(there) and name != "merges.txt":
            role = reasoning.role if there[0] else chat.role
            hard(
                f"{name} is only in {role}, so the vocabularies cannot be compared",
                "Save both tokenizers with the same version of transformers.",
            )


def _compare_special_tokens(reasoning: Checkpoint, chat: Checkpoint, soft: Say) -> None:
    ours, theirs = special_tokens(reasoning), special_tokens(chat)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            soft(f"{name} is {ours.get(name)!r} in {reasoning.role} and {theirs.get(name)!r} in {chat.role}")


def special_tokens(parent: Checkpoint) -> dict[str, Any]:
    """The named special tokens as plain text; what is not set is left out."""
    values = {
        **(parent.json("special_tokens_map.json") or {}),
        **(parent.json("tokenizer_config.json") or {}),
    }
    found: dict[str, Any] = {name: _content(values.get(name)) for name in _SPECIAL}
    for name in _EXTRA_SPECIAL:
        extra = values.get(name)
        found[name] = [_content(token) for token in extra] if isinstance(extra, list) else extra
    return {name: value for name, value in found.items() if value}


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _first_difference(reasoning: Checkpoint, chat: Checkpoint, ours: str, theirs: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    line = ours.count("\n", 0, at) + 1
    first, second = (text[at : at + _CUT] for text in (ours, theirs))
    return f"from line {line} on, {first!r} in {reasoning.role} and {second!r} in {chat.role}"
