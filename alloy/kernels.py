"""liger-kernel's layers on a GPU: norms, rotary positions and gated MLPs, each as one kernel of Triton's.

Layers alone. TRL's trainers compute log-probabilities from hidden states, tile by tile, with masks and weights of
their own: no loss of liger's would see logits there. Attention is not liger's either. TRL would rather have the
same kernels from the Hub (`use_kernels`), which is code that is fetched when it is run: a pinned package is not.
Source: liger-kernel 0.8, `transformers/monkey_patch.py`; trl 1.16, where trainers leave their forward alone.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGE = "liger-kernel"
LAYERS_ALONE = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""What transformers hands to liger-kernel: everything but the losses."""


def installed_version() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def known_architectures() -> frozenset[str]:
    """The `model_type`s that it has layers for; it must be installed. Imports torch and Triton."""
    from liger_kernel.transformers.monkey_patch import (  # type: ignore[import-not-found,unused-ignore]
        MODEL_TYPE_TO_APPLY_LIGER_FN,
    )

    return frozenset(MODEL_TYPE_TO_APPLY_LIGER_FN)


@contextmanager
def classes_left_alone(model: Any) -> Iterator[None]:
    """What is put into a model's module of transformers inside is taken out again; the model itself keeps it.

    liger-kernel replaces functions and classes for every model to come, and the next one may be tried on a CPU,
    where there is no Triton.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    module = vars(sys.modules[type(base).__module__])
    before = dict(module)
    try:
        yield
    finally:
        module.update(before)
