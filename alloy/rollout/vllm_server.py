"""Rollouts with a vLLM server, on GPUs of its own: TRL's server mode.

Start the server as TRL trainers expect it, with the model that training starts from:

    trl vllm-serve --model runs/RECIPE/STAGE/model --max_model_len 4096

TRL's own `VLLMGeneration` (mode "server") gives it the trainer's weights over NCCL before every
generation; this engine asks it for tokens. Every process of a training run may have an engine: the
server batches what comes from all of them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alloy.errors import InputError, StageError
from alloy.rollout.engine import Sampling
from alloy.rollout.segments import Segment, SegmentedEngine, Written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def connect(url: str, timeout_seconds: float) -> Any:
    """TRL's client of a server that must answer within a time.

    Raises:
        StageError: no server answers there.
    """
    import requests
    from trl.generation.vllm_client import VLLMClient

    try:
        return VLLMClient(base_url=url, connection_timeout=timeout_seconds)
    except requests.exceptions.RequestException as error:
        raise StageError(
            f"rollout.server_url = {url}: no vLLM server answers within {timeout_seconds:g} s ({error}). Start "
            "one with `trl vllm-serve --model MODEL`, or raise rollout.server_timeout_seconds."
        ) from None


@contextmanager
def answering(url: str) -> Iterator[None]:
    """
    Raises:
        StageError: the server stopped answering inside.
    """
    import requests

    try:
        yield
    except requests.exceptions.RequestException as error:
        raise StageError(
            f"the vLLM server at {url} stopped answering ({error}). What it printed says why. Start it, then run the "
            "same command to go on."
        ) from None


def room_of(information: dict[str, Any], url: str) -> int:
    """Tokens of a prompt and its completion together, as a server tells of itself.

    Raises:
        InputError: its log-probabilities are not those that tokens are drawn with.
    """
    model = information["model_config"]
    if model["logprobs_mode"] != "processed_logprobs":
        raise InputError(
            f"the vLLM server at {url} was started with --logprobs-mode {model['logprobs_mode']}: importance "
            "correction needs the log-probabilities that tokens are drawn with. Start it with `trl vllm-serve`, "
            "or add --logprobs-mode processed_logprobs."
        )
    return int(model["max_model_len"])


class VllmServerEngine(SegmentedEngine):
    """An engine over TRL's client of a vLLM server.

    The endpoint takes one limit, one set of stop tokens and one seed for all prompts of a request, and
    completions differ in all three: each is a request of its own, many of them under way at a time.

    Log-probabilities are of the distribution that tokens were drawn from: tempered, and after `top_p`
    where that is below 1.

    Args:
        client: `trl.generation.vllm_client.VLLMClient`.
        concurrency: requests under way at a time.
    """

    room_setting = "max_model_len of the vLLM server"

    def __init__(
        self, client: Any, tokenizer: "PreTrainedTokenizerBase", concurrency: int = 128, grace: int = 500
    ) -> None:
        super().__init__(tokenizer, grace)
        self.client = client
        self.concurrency = concurrency
        self._max_model_tokens = room_of(client.get_server_info(), client.base_url)
        _keep_connections(client, concurrency)

    def _room(self) -> int:
        return self._max_model_tokens

    def _write(self, segments: Sequence[Segment], sampling: Sampling) -> list[Written]:
        def ask(segment: Segment) -> Written:
            return self._ask(segment, sampling)

        with (
            answering(self.client.base_url),
            ThreadPoolExecutor(min(self.concurrency, len(segments))) as pool,
        ):
            return list(pool.map(ask, segments))

    def _ask(self, segment: Segment, sampling: Sampling) -> Written:
        answer = self.client.generate(
            [segment.prompt_ids],
            max_tokens=segment.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            logprobs=0,
            generation_kwargs={
                "seed": segment.seed,
                "stop_token_ids": segment.stop_ids,
                # Ends of turn come from the tokenizer alone, not from what a generation config adds.
                "ignore_eos": True,
            },
        )
        (tokens,), (scores,), (ids,) = (
            answer[name] for name in ("completion_ids", "logprobs", "logprob_token_ids")
        )
        chosen = [dict(zip(*pair, strict=True)) for pair in zip(ids, scores, strict=True)]
        return Written(tokens, [of[token] for token, of in zip(tokens, chosen, strict=True)])


def _keep_connections(client: Any, count: int) -> None:
    """TRL's client keeps 64 connections, and would open and drop the ones beyond."""
    from requests.adapters import HTTPAdapter

    url = client.base_url
    kept = HTTPAdapter(max_retries=client.session.get_adapter(url).max_retries, pool_maxsize=count)
    client.session.mount(url, kept)
