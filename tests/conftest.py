"""A tiny policy that every room's tests share, built as `alloy.base` builds one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import alloy
from hypothesis import settings

# The machine may be busy: a property is not wrong because an example took long.
settings.register_profile("alloy", deadline=None, max_examples=60)
settings.load_profile("alloy")

CORPUS = ("math", "instructions", "chat", "recall")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test inherits a rank from the shell that started it."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ALLOY_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests tokenise is kept for them alone, those that start another process included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def micro_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage of micro, run once through the command line."""
    runs = tmp_path_factory.mktemp("runs") / "micro"
    alloy("run", "micro", "--runs", str(runs))
    return runs


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with a vocabulary of 600 tokens, trained on the project's own texts."""
    from alloy.base import BaseConfig, ModelShape
    from alloy.build_base import corpus_texts, random_model, train_tokenizer
    from alloy.data.config import SourceConfig
    from alloy.policy import save_policy, seed_everything

    config = BaseConfig(
        source="scratch",
        vocabulary=600,
        corpus=[SourceConfig(environment=name, rows=60) for name in CORPUS],
        shape=ModelShape(hidden_size=32, layers=2, heads=2, mlp_size=64, max_positions=512),
    )
    seed_everything(0)
    tokenizer = train_tokenizer(corpus_texts(config.corpus, 0), config.vocabulary)
    assert config.shape is not None
    model = random_model(config.shape, tokenizer)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_policy(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model_folder: Path) -> Any:
    from alloy.policy import load_tokenizer

    return load_tokenizer(tiny_model_folder)


@pytest.fixture
def tiny_model(tiny_model_folder: Path) -> Any:
    """A fresh copy in float32: a test may train it."""
    from alloy.policy import load_model

    return load_model(tiny_model_folder).eval()


@pytest.fixture
def lively_model(tiny_model: Any) -> Any:
    """Larger weights: what comes next depends on what came before, and no two logits nearly tie."""
    import torch

    with torch.no_grad():
        for name, parameter in tiny_model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0 if "embed" in name else 10.0)
    return tiny_model
