"""One batch of rollouts as the micro-batches that it is trained on, without work that moves nothing.

TRL shuffles a batch and cuts it as it is: every micro-batch is as wide as the batch's longest completion,
and completions without an advantage pass through the model for a gradient of zero. Here rows of like
length stand together, padding that no row needs is cut away, and, where the loss is a plain sum over
tokens, rows without an advantage are left out. The gradient is the same.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Batch = dict[str, Tensor]

_PROMPT = ("prompt_ids", "prompt_mask")
_COMPLETION = (
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)


def micro_batches(
    batch: Mapping[str, Tensor],
    updates: int,
    parts: int,
    *,
    by_length: bool,
    drop_idle: bool,
    agree: Callable[[int], int] = int,
) -> list[Batch]:
    """Cut a batch into `updates` x `parts` micro-batches; the rows of an update stand one after the other.

    Args:
        batch: TRL's: prompts padded on the left, completions on the right, tensors of no dimension for
            the whole.
        by_length: whether rows of like length stand together; otherwise they keep their order.
        drop_idle: leave out rows whose advantage is 0, but for the shortest ones where there would be
            too few: every micro-batch has a row, and as many as on the other processes.
        agree: makes of the rows that one process would keep the number that all of them keep.
    """
    rows = len(batch["prompt_ids"])
    lengths = (batch["prompt_mask"].sum(1) + batch["completion_mask"].sum(1)).cpu()
    cut: list[Batch] = []
    for update in range(updates):
        mine = torch.arange(update * rows // updates, (update + 1) * rows // updates)
        if drop_idle:
            idle = batch["advantages"][mine].cpu() == 0
            missing = max(agree(int((~idle).sum())), parts) - int((~idle).sum())
            shortest = mine[idle][lengths[mine[idle]].argsort(stable=True)]
            mine = torch.cat([mine[~idle], shortest[:missing]])
        if by_length:
            mine = mine[lengths[mine].argsort(stable=True)]
        cut += [_take(batch, part) for part in torch.tensor_split(mine, parts)]
    return cut


def _take(batch: Mapping[str, Tensor], rows: Tensor) -> Batch:
    """Some rows of a batch, no wider than they need."""
    prompt = int(batch["prompt_mask"][rows].any(0).sum())
    completion = max(1, int(batch["completion_mask"][rows].any(0).sum()))
    taken: Batch = {}
    for name, values in batch.items():
        if values.dim() == 0:
            taken[name] = values
            continue
        part = values[rows]
        if name in _PROMPT:
            part = part[:, part.shape[1] - prompt :]
        elif name in _COMPLETION and part.shape[1] > 1:
            part = part[:, :completion]
        taken[name] = part.contiguous()
    return taken


def flatten(batches: Sequence[Batch]) -> Batch:
    """Micro-batches under one name each, copied, as a file of tensors takes them."""
    return {
        f"{index}.{name}": values.clone(memory_format=torch.contiguous_format)
        for index, batch in enumerate(batches)
        for name, values in batch.items()
    }


def unflatten(tensors: Mapping[str, Tensor]) -> list[Batch]:
    """What `flatten` made one."""
    found: dict[int, Batch] = {}
    for key, values in tensors.items():
        index, _, name = key.partition(".")
        found.setdefault(int(index), {})[name] = values
    return [found[index] for index in sorted(found)]
