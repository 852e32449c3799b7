"""The output head and the embedding: which tensors they are, and heads that are tied in one parent only."""

from typing import Any

from merge.checkpoint import Checkpoint, Entry, same_bytes

HEADS = ("lm_head.weight", "embed_out.weight")
EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
)


def head_of(reasoning: Checkpoint, chat: Checkpoint) -> str:
    """The name of the output head's weights, "" where neither stores any."""
    names = sorted(reasoning.entries.keys() | chat.entries.keys())
    return next((name for name in names if name.endswith(HEADS)), "")


def share_heads(
    reasoning: Checkpoint, chat: Checkpoint, head: str
) -> tuple[dict[str, Entry], dict[str, Entry], bool | None]:
    """Both parents' tensors where one ties its head to the embedding and the other does not.

    A tied head is its embedding, so the tying parent takes part with that; the result is tied only if
    both are.

    Returns: the tensors, and whether the result is tied (None: as the config says).
    """
    first, second = dict(reasoning.entries), dict(chat.entries)
    if not head:
        return first, second, None
    tied = [is_tied(parent, head) for parent in (reasoning, chat)]
    for entries, own in ((first, tied[0]), (second, tied[1])):
        if own and all(tied):
            entries.pop(head, None)
        elif own:
            entries[head] = entries[str(_embedding(entries))]
    return first, second, all(tied)


def is_tied(parent: Checkpoint, head: str) -> bool:
    """Whether the head is the embedding: the config says so and no other weights are stored for it."""
    text = parent.config.get("text_config")
    stored = parent.entries.get(head)
    says = parent.config.get("tie_word_embeddings", (text or {}).get("tie_word_embeddings", stored is None))
    embedding = _embedding(parent.entries)
    if not says or embedding is None:
        return False
    return stored is None or same_bytes(stored, parent.entries[embedding])


def say_tied(config: dict[str, Any], tied: bool) -> dict[str, Any]:
    """The part of a config.json that says so."""
    text = config.get("text_config")
    nested = {"text_config": {**text, "tie_word_embeddings": tied}} if isinstance(text, dict) else {}
    return {"tie_word_embeddings": tied, **nested}


def _embedding(entries: dict[str, Entry]) -> str | None:
    names = [name for name in entries if name.endswith(EMBEDDINGS) and "position" not in name]
    return names[0] if len(names) == 1 else None
