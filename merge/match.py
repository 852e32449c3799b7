"""Vocabularies matched token by token: the rows of one parent's tables in the order of the other's."""

from dataclasses import replace

from alloy.errors import InputError
from merge.checkpoint import FLOAT_BYTES, Checkpoint, Entry, Rows
from merge.vocabulary import token_ids


def match_rows(
    keeper: dict[str, Entry],
    other: dict[str, Entry],
    keeping: Checkpoint,
    giving: Checkpoint,
    tables: list[str],
) -> list[str]:
    """Replace the other parent's tables by ones whose rows are the keeper's tokens.

    Args:
        keeper, other: tensors by name; `other` is changed.
        tables: names of tensors with a row a token.
    Returns: notes for people.
    Raises:
        InputError: a parent without a tokenizer.json, or tables of different widths.
    """
    files = [parent.json("tokenizer.json") for parent in (keeping, giving)]
    if files[0] is None or files[1] is None:
        lacking = keeping if files[0] is None else giving
        raise InputError(
            f"--match-tokens: {lacking.role} has no tokenizer.json to match tokens by. Save its tokenizer again."
        )
    ours, theirs = token_ids(files[0]), token_ids(files[1])
    for name in tables:
        if name not in other:
            continue
        table, source = keeper[name], other[name]
        if table.shape[1:] != source.shape[1:] or not (table.is_float and source.is_float):
            raise InputError(
                f"--match-tokens: {name} is {list(table.shape)} in {keeping.role} and {list(source.shape)} in "
                f"{giving.role}: rows of one width are needed. Merge descendants of one model."
            )
        where = [-1] * table.shape[0]
        for token, number in ours.items():
            row = theirs.get(token, -1)
            if number < len(where) and row < source.shape[0]:
                where[number] = row
        size = table.size // FLOAT_BYTES[table.dtype] * FLOAT_BYTES[source.dtype]
        rows = Rows(tuple(where), source, table)
        other[name] = replace(source, shape=table.shape, size=size, rows=rows)
    both = len(ours.keys() & theirs.keys())
    return [
        f"Vocabularies matched token by token: {both} tokens in both; {len(ours) - both} only in {keeping.role} keep "
        f"its rows; {len(theirs) - both} only in {giving.role} are left out."
    ]
