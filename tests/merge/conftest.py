from pathlib import Path
from typing import Any

import pytest
from merge_models import WriteModel, weights, write_folder
from torch import Tensor


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Write a model folder of this name; every part of it can be replaced."""

    def write(name: str, tensors: dict[str, Tensor] | None = None, **parts: Any) -> Path:
        return write_folder(tmp_path / name, weights(len(name)) if tensors is None else tensors, **parts)

    return write
