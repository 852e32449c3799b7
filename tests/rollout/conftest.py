"""A model small and sharp enough that two engines over its weights must agree to the token."""

from pathlib import Path

import pytest

TEXTS = ("one two three\nfour five six\n", "a b c a b c", "<think>\nwell\n</think>\nyes")


@pytest.fixture(scope="session")
def sharp_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 70 thousand weights, with a head tied to its embedding, sharp enough to have opinions."""
    import torch

    from alloy.base import ModelShape
    from alloy.build_base import random_model, train_tokenizer
    from alloy.policy import save_policy

    tokenizer = train_tokenizer(TEXTS * 20, 320)
    torch.manual_seed(0)
    model = random_model(
        ModelShape(hidden_size=64, layers=2, heads=2, mlp_size=128, max_positions=256), tokenizer
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    path = tmp_path_factory.mktemp("vllm") / "model"
    save_policy(model, tokenizer, path)
    return path
