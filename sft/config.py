"""The config of an SFT stage; imports no torch."""

from alloy.config import TrainingConfig
from alloy.data.config import DataConfig


class SftConfig(TrainingConfig):
    """Staged SFT: stage 1 packs, stage 2 does not concatenate, stage 3 adds truncated traces."""

    data: DataConfig
    """What is learned from."""

    def data_fingerprint(self) -> str:
        return self.data.fingerprint()
