"""The model card: what a merged checkpoint was made of, for people."""

from merge.checkpoint import Checkpoint


def model_card(
    reasoning: Checkpoint,
    chat: Checkpoint,
    alpha: float,
    notes: list[str],
    shards: dict[str, str],
    table: str,
) -> str:
    """README.md of the result.

    Args:
        shards: BLAKE3 of every weight file.
        table: Markdown that tells how alpha was chosen; "" where it was given.
    """
    parents = "\n".join(
        f"| {parent.role} | {share:g} | {parent.path} | `{parent.fingerprint}` |"
        for parent, share in ((reasoning, 1 - alpha), (chat, alpha))
    )
    files = "\n".join(f"| {name} | `{known}` |" for name, known in sorted(shards.items()))
    kept = "".join(f"- {note}\n" for note in notes)
    return f"""---
library_name: transformers
tags:
- merge
---

# A merged checkpoint

Every weight is (1 - alpha) * reasoning + alpha * chat with **alpha = {alpha:g}**: the exact value,
rounded once to the weight's own dtype.

| parent | share | path | fingerprint |
|---|---|---|---|
{parents}

{f"## How alpha was chosen{chr(10)}{chr(10)}{table}{chr(10)}" if table else ""}
## Files

| file | BLAKE3 |
|---|---|
{files}
{f"{chr(10)}## Notes{chr(10)}{chr(10)}{kept}" if kept else ""}"""
