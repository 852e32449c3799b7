"""A small model that knows three conversations by heart, and a server of it, started once."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import WEATHER, conversations
from living_processes import gone, living, status_of
from vllm_served import started

INSTALLED = importlib.util.find_spec("vllm") is not None


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 200 thousand weights, trained in seconds until it writes the conversations."""
    import json

    import torch

    from alloy.base import ModelShape
    from alloy.build_base import random_model, train_tokenizer
    from alloy.policy import save_policy
    from alloy.template import encode_conversation

    texts = [json.dumps(turn) for turns, _, _ in conversations() for turn in turns] + [json.dumps(WEATHER)]
    tokenizer = train_tokenizer(texts * 20, 420)
    torch.manual_seed(0)
    shape = ModelShape(hidden_size=96, layers=2, heads=2, mlp_size=192, max_positions=512)
    model = random_model(shape, tokenizer)
    rows = [
        row
        for turns, tools, thinking in conversations()
        for row in encode_conversation(tokenizer, turns, tools, thinking)
    ]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row.input_ids + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor(
        [
            [token if loss else -100 for token, loss in zip(row.input_ids, row.completion_mask, strict=True)]
            + [-100] * (width - len(row))
            for row in rows
        ]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    for step in range(160):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (160 - step) / 80)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("taught") / "counter"
    save_policy(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def server(taught_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python -m alloy serve` over the taught model, in float32, with a key: its address.

    At the end it is killed, and nothing that it started may outlive it.
    """
    if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
        pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
    if not INSTALLED:
        pytest.skip("vllm is not installed")
    arguments = [
        *("alloy", "serve", str(taught_folder)),
        *("--api-key", "sesame", "--grace", "6", "--max-requests", "16", "--dtype", "float32"),
    ]
    scratch = tmp_path_factory.mktemp("server")
    with started(arguments, scratch, ALLOY_TEST_SERVER=str(scratch)) as address:
        yield f"{address}/v1"
        every = living("ALLOY_TEST_SERVER", str(scratch))
        (server,) = [pid for pid in every if status_of(pid, "PPid") == os.getpid()]
        assert len(every) > 1, "the engine is a process of its own"
        os.kill(server, signal.SIGKILL)
        assert gone("ALLOY_TEST_SERVER", str(scratch)), "a process outlived the server that had started it"
