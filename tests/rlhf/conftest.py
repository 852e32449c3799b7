"""A reward model of a few thousand weights, not trained: its scores differ, and that is all."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_reward_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, tiny_tokenizer: Any
) -> Path:
    from transformers import AutoModelForSequenceClassification

    from alloy.policy import save_policy, seed_everything

    seed_everything(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
    model.config.pad_token_id = tiny_tokenizer.pad_token_id
    folder = tmp_path_factory.mktemp("reward") / "model"
    save_policy(model, tiny_tokenizer, folder)
    return folder
