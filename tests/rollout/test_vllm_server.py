"""The server engine against TRL's own server command, started for real on the CPU and reached over HTTP.

What needs a GPU is TRL's: it sends new weights over NCCL alone.
"""

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agreement import BUDGETS, GREEDY, assert_budgets_agree, assert_greedy_agrees, prompts, tokens
from vllm_served import started_vllm

from alloy.errors import InputError, StageError
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.suites import evaluate_suite
from alloy.policy import load_model, load_tokenizer
from alloy.rollout.engine import Sampling
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.rollout.vllm_server import VllmServerEngine, connect, room_of

INSTALLED = importlib.util.find_spec("vllm") is not None
if not INSTALLED and os.environ.get("ALLOY_REQUIRE_ALL") == "1":
    pytest.fail("vllm is not installed: make setup installs it", pytrace=False)
pytestmark = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")


@pytest.fixture(scope="module")
def url(sharp_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`trl vllm-serve` over the sharp model, in float32, on a free port of this machine."""
    arguments = [
        *("trl.scripts.vllm_serve", "--model", str(sharp_folder)),
        *("--max_model_len", "192", "--enforce_eager", "True"),
    ]
    with started_vllm(arguments, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def engines(url: str, sharp_folder: Path) -> tuple[VllmServerEngine, TransformersEngine]:
    """Both engines over the same weights."""
    tokenizer = load_tokenizer(sharp_folder)
    return (
        VllmServerEngine(connect(url, 0), tokenizer, concurrency=6, grace=6),
        TransformersEngine(load_model(sharp_folder), tokenizer, 8, 6),
    )


def test_greedy_tokens_and_their_log_probabilities_are_those_of_transformers(engines: Any) -> None:
    assert_greedy_agrees(*engines)


@pytest.mark.parametrize("budgets", BUDGETS)
def test_a_thinking_budget_closes_where_the_other_engine_closes(
    engines: Any, budgets: list[int | None]
) -> None:
    assert_budgets_agree(*engines, budgets)


def test_sampling_is_the_same_for_the_same_seed_only(engines: Any) -> None:
    ours, _ = engines
    many = prompts(ours)[:1] * 4
    first = ours.generate(many, Sampling(16), 7)
    assert tokens(first) == tokens(ours.generate(many, Sampling(16), 7))
    assert tokens(first) != tokens(ours.generate(many, Sampling(16), 8))
    assert len({tuple(ids) for ids in tokens(first)}) > 1, "every prompt has a seed of its own"


def test_log_probabilities_are_those_after_the_temperature(engines: Any) -> None:
    import torch

    ours, theirs = engines
    for prompt, generation in zip(
        prompts(ours), ours.generate(prompts(ours), Sampling(12, 0.7), 3), strict=True
    ):
        with torch.no_grad():
            logits = theirs.model(torch.tensor([prompt + generation.token_ids])).logits[
                0, len(prompt) - 1 : -1
            ]
        chosen = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0]
        assert generation.logprobs == pytest.approx(chosen.tolist(), abs=1e-4)


def test_limits_and_order_hold_for_more_prompts_than_are_under_way(engines: Any) -> None:
    ours, _ = engines
    limits = [1, 2, 3, *[24] * 21]
    given = [[20 + 9 * row, 30] for row in range(24)]
    found = ours.generate(given, Sampling(64, temperature=2.0), 1, max_tokens=limits)
    for generation, limit in zip(found, limits, strict=True):
        ended = generation.token_ids[-1] == ours.end_of_turn
        assert generation.finished == ended
        assert ours.end_of_turn not in generation.token_ids[:-1]
        assert len(generation.token_ids) == limit or ended
        assert len(generation.logprobs) == len(generation.forced) == len(generation.token_ids)
    alone = [ours.generate([prompt], Sampling(4, temperature=0.0), 0)[0].token_ids for prompt in given[:6]]
    assert tokens(ours.generate(given, Sampling(4, temperature=0.0), 0))[:6] == alone


def test_the_server_s_context_is_the_room(engines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ours, _ = engines
    found = ours.generate([[5] * 192, [5] * 184], Sampling(32, temperature=0.0), 0)
    assert (found[0].token_ids, found[0].finished) == ([], False)
    assert len(found[1].token_ids) <= 8
    assert "1 of 2 prompts (up to 192 tokens)" in capsys.readouterr().err
    with pytest.raises(InputError, match="max_model_len of the vLLM server = 192: every prompt"):
        ours.generate([[5] * 192], GREEDY, 0)


def test_a_suite_scores_the_same_as_on_the_other_engine(engines: Any) -> None:
    suite = SuiteConfig(
        environment="repeat",
        items=6,
        options={"most": 1, "longest": 1},
        max_completion_tokens=16,
        budgets=[2, 5],
    )
    ours, theirs = (evaluate_suite("repeat", suite, engine, engine.tokenizer, 0) for engine in engines)
    assert [row["completion"] for row in ours.completions] == [
        row["completion"] for row in theirs.completions
    ]
    assert ours.scores == theirs.scores


def test_a_server_with_log_probabilities_before_the_temperature_is_refused(engines: Any) -> None:
    information = engines[0].client.get_server_info()
    assert room_of(information, "here") == 192
    information["model_config"]["logprobs_mode"] = "raw_logprobs"
    with pytest.raises(InputError, match="at here was started with --logprobs-mode raw_logprobs"):
        room_of(information, "here")


def test_where_no_server_listens_the_remedy_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(StageError, match=f"127.0.0.1:{port}: no vLLM server answers within 0 s"):
            connect(f"http://127.0.0.1:{port}", 0)


def test_a_server_that_stops_answering_ends_the_stage(url: str, engines: Any) -> None:
    from requests.adapters import HTTPAdapter

    ours = VllmServerEngine(connect(url, 0), engines[0].tokenizer)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}"
        ours.client.base_url = gone
        # TRL's five tries take a minute.
        ours.client.session.mount(gone, HTTPAdapter(max_retries=0))
        with pytest.raises(StageError, match=f"the vLLM server at {gone} stopped answering"):
            ours.generate(prompts(ours), GREEDY, 0)
