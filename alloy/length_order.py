"""Rows of like length beside one another, in an order that is the same after a resume."""

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class LengthOrder(LengthGroupedSampler):
    """Transformers' sampler, drawn from the seed and the epoch alone.

    Its own draws come from the state of the process: an epoch that a run goes on in would have another order.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> object:
        self.generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return super().__iter__()
