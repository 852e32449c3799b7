"""The model card: what a merged checkpoint was made of, for people."""

from collections.abc import Sequence
from typing import Any

from merge.checkpoint import Checkpoint
from merge.groups import Alpha, told


def linear_card(
    parents: Sequence[Checkpoint],
    alpha: Alpha,
    notes: list[str],
    shards: dict[str, str],
    table: str,
) -> str:
    """README.md of the result.

    Args:
        shards: BLAKE3 of every weight file.
        table: Markdown that tells how alpha was chosen; "" where it was given.
    """
    if isinstance(alpha, float | int):
        shares, groups = (f"{1 - alpha:g}", f"{alpha:g}"), ""
    else:
        shares = "by group", "by group"
        rows = "".join(f"| {group} | {value:g} |\n" for group, value in alpha.items())
        groups = f"\n| tensors | alpha |\n|---|---|\n{rows}"
    return _card(
        f"Every weight is (1 - alpha) * reasoning + alpha * chat with **alpha = {told(alpha)}**: the exact "
        f"value,\nrounded once to the weight's own dtype.\n{groups}",
        list(zip(parents, shares, strict=True)),
        "How alpha was chosen",
        table,
        notes,
        shards,
    )


def methods_card(
    method: str,
    options: dict[str, Any],
    parents: Sequence[Checkpoint],
    notes: list[str],
    shards: dict[str, str],
    table: str,
) -> str:
    """As `linear_card`, of a merge by another method."""
    weights = [f"{weight:g}" for weight in options.get("weights", [])]
    shares = weights + [""] * (len(parents) - len(weights))
    given = ", ".join(f"{name} = {value}" for name, value in options.items())
    return _card(
        f"Merged by **{method}** ({given}) in float64, rounded once to the weight's own dtype.\n",
        list(zip(parents, shares, strict=True)),
        "How the options were chosen",
        table,
        notes,
        shards,
    )


def _card(
    about: str,
    parents: Sequence[tuple[Checkpoint, str]],
    title: str,
    table: str,
    notes: list[str],
    shards: dict[str, str],
) -> str:
    rows = "\n".join(f"| {p.role} | {share} | {p.path} | `{p.fingerprint}` |" for p, share in parents)
    files = "\n".join(f"| {name} | `{known}` |" for name, known in sorted(shards.items()))
    chosen = f"## {title}\n\n{table}\n\n" if table else ""
    kept = "".join(f"- {note}\n" for note in notes)
    return f"""---
library_name: transformers
tags:
- merge
---

# A merged checkpoint

{about}
| parent | share | path | fingerprint |
|---|---|---|---|
{rows}

{chosen}## Files

| file | BLAKE3 |
|---|---|
{files}
{f"{chr(10)}## Notes{chr(10)}{chr(10)}{kept}" if kept else ""}"""
