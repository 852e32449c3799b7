"""The hybrid as a folder, as a model, and taken through every stage."""

from pathlib import Path
from typing import Any

import pytest
from command_line import alloy
from hybrid_shape import ARCHITECTURE, CHANGES


@pytest.fixture(scope="session")
def hybrid_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage of micro on the hybrid, run once through the command line."""
    runs = tmp_path_factory.mktemp("hybrid-runs") / "micro"
    alloy("run", "micro", "--runs", str(runs), *CHANGES)
    return runs


@pytest.fixture(scope="session")
def hybrid_folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger weights than a stage would begin with: what comes next depends on what came before."""
    import torch

    from alloy.build_base import random_architecture
    from alloy.policy import save_policy

    torch.manual_seed(0)
    model = random_architecture(ARCHITECTURE | {"initializer_range": 0.35}, tiny_tokenizer)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                # As a trained router has them.
                buffer.copy_(torch.linspace(-0.2, 0.2, len(buffer)))
    folder = tmp_path_factory.mktemp("hybrid") / "model"
    save_policy(model, tiny_tokenizer, folder)
    return folder


@pytest.fixture
def hybrid(hybrid_folder: Path) -> Any:
    """A fresh copy in float32: a test may train it."""
    from alloy.policy import load_model

    return load_model(hybrid_folder).eval()
