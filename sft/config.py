"""The config of an SFT stage; imports no torch."""

from alloy.config import TrainConfig, TrainingConfig
from alloy.data.config import DataConfig


class SftTrainConfig(TrainConfig):
    """What SFT has beside the other stages: sequences so long that their activations need a place."""

    activation_offloading: bool = False
    """Keep what a GPU computed for the way back in the machine's memory: for sequences that do not fit otherwise.
    With gradient_checkpointing that is one hidden state a block and token. On a CPU nothing is done."""


class SftConfig(TrainingConfig):
    """Staged SFT: stage 1 packs, stage 2 does not concatenate, stage 3 adds truncated traces."""

    train: SftTrainConfig
    data: DataConfig
    """What is learned from."""

    def data_fingerprint(self) -> str:
        return self.data.fingerprint()
