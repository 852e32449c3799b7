"""Mamba-2's kernels on a GPU (`mamba_ssm`, `causal_conv1d`): whether they are there, and what it means if not.

They are in no lock: they are compiled where they are installed, against its CUDA and PyTorch. Without them transformers
computes a reference in PyTorch, which writes out a number for every pair of tokens of a chunk. Imports no torch.
"""

from importlib.util import find_spec

from alloy.errors import InputError
from alloy.plan.batch import Batch
from alloy.plan.launch import Launch
from alloy.plan.numerics import FLOAT32
from alloy.plan.shape import Shape
from alloy.plan.table import size
from alloy.plan.work import Work

PACKAGES = ("mamba_ssm", "causal_conv1d")
INSTALL = "pip install --no-build-isolation mamba-ssm causal-conv1d"


def installed() -> bool:
    return all(find_spec(name) is not None for name in PACKAGES)


def told_without(shape: Shape, work: Work, launch: Launch) -> str:
    """What a training on a GPU without the kernels is told.

    Args:
        shape: of a hybrid that is computed by the reference.
    Raises:
        InputError: what the reference writes out for one layer and one batch is more than the device holds.
    """
    assert work.training is not None
    batch = Batch(shape, work.training, FLOAT32, launch)
    most, memory = max(batch.working), launch.device_memory
    missing = f"{' and '.join(PACKAGES)} are not both installed"
    if memory is not None and most > memory:
        raise InputError(
            f"{missing}, and without them a Mamba layer of this {shape.architecture} writes out {size(most)} for a batch "
            f"of {batch.tokens:,} tokens, where the GPU has {size(memory)}. Install them ({INSTALL}), or lower the "
            f"tokens of a batch: {int(memory / most * batch.tokens):,} would take all of it."
        )
    return (
        f"{missing}: Mamba layers are computed by PyTorch's reference, much slower, with up to {size(most)} of memory. "
        f"{INSTALL}"
    )
