"""A judge behind an OpenAI-compatible endpoint, asked with its own client, many comparisons at a time.

Nothing that goes wrong is silent. A request that fails is tried again by the client; an answer that cannot be
read is asked for again here; what is left is a missing comparison, counted, told, and never a score. Where
too many are missing, or nobody answers at all, the stage stops and says why.
"""

import os
import sys
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from alloy.environments.task import Message
from alloy.errors import InputError, StageError
from alloy.judges.comparison import (
    SCHEMA,
    Judgement,
    Unreadable,
    judge_messages,
    mean_judgement,
    read_judgement,
)
from alloy.judges.config import JudgeConfig
from alloy.secrets import without_key

Pair = tuple[Sequence[Message], str, str]
"""A conversation and two answers to it."""

_RETRY_TEMPERATURE = 0.6


@dataclass
class Compared:
    """Judgements of pairs, in their order; None for a missing one.

    Attributes:
        steady: of the pairs that were asked in both orders, whether the same answer was preferred in both.
        requests: tries of all comparisons, the client's own not among them.
        unreadable: answers that could not be read, whether a later one could or not.
        reasons: of the missing ones, the last of each.
    """

    judgements: list[Judgement | None]
    requests: int = 0
    unreadable: int = 0
    steady: list[bool] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return sum(judgement is None for judgement in self.judgements)


class Judge:
    """A judge that is asked over HTTP.

    Args:
        name: of its settings, as errors tell it.
    Raises:
        InputError: the environment variable with the key is not set.
    """

    def __init__(self, config: JudgeConfig, name: str = "judge") -> None:
        from openai import OpenAI

        self.config, self.name = config, name
        key = os.environ.get(config.api_key_env) if config.api_key_env else "none"
        if not key:
            raise InputError(
                f"{name}.api_key_env = {config.api_key_env!r}: there is no such environment variable. Set it to "
                "the endpoint's key."
            )
        self._secret = key if config.api_key_env else None
        self._client = OpenAI(
            api_key=key,
            base_url=config.base_url,
            timeout=config.timeout_seconds,
            max_retries=config.max_retries,
        )
        self._gone = threading.Event()
        self._told = False

    def prepare(self) -> None:
        """Ask once, before anything is started.

        Raises:
            InputError: nobody answers, or the key, the model or the form of the request is refused.
        """
        import openai

        try:
            self._post(judge_messages([{"role": "user", "content": "Hello."}], "Hello!", "Go away."), 0, 0)
        except (openai.OpenAIError, ValueError) as error:
            hint = (
                f", or set {self.name}.structured=none if it takes no response_format"
                if isinstance(error, openai.BadRequestError)
                else ""
            )
            raise InputError(
                f"{self.name}.base_url = {self.config.base_url}, {self.name}.model = {self.config.model!r}: a first request "
                f"failed ({self._words(error)}). Start the server, or correct the two{hint}."
            ) from None

    def compare(self, pairs: Sequence[Pair], seed: int = 0) -> Compared:
        """A judgement for each pair, in both orders if the config says so: of one the mean is taken, and it is
        missing if either is.

        Raises:
            StageError: the judge is gone, refuses the key or the model, or more comparisons are missing than
                `max_missing_share`.
        """
        asked: list[tuple[int, bool]] = []
        for index, pair in enumerate(pairs):
            drawn = zlib.crc32(f"{seed}/{pair[1]}/{pair[2]}".encode("utf-8", "replace")) % 2 == 1
            asked += [(index, False), (index, True)] if self.config.both_orders else [(index, drawn)]
        found = Compared([None] * len(pairs))
        self._gone.clear()
        lock = threading.Lock()

        def ask(number: int) -> Judgement | None:
            index, swap = asked[number]
            prompt, first, second = pairs[index]
            messages = judge_messages(prompt, *((second, first) if swap else (first, second)))
            judgement = self._judgement(messages, seed * 1_000_003 + number, found, lock)
            return judgement.swapped() if judgement is not None and swap else judgement

        with ThreadPoolExecutor(min(self.config.concurrency, max(1, len(asked)))) as pool:
            judgements = list(pool.map(ask, range(len(asked))))
        by_pair: list[list[Judgement | None]] = [[] for _ in pairs]
        for (index, _), judgement in zip(asked, judgements, strict=True):
            by_pair[index].append(judgement)
        for index, both in enumerate(by_pair):
            known = [judgement for judgement in both if judgement is not None]
            if len(known) < len(both):
                continue
            found.judgements[index] = mean_judgement(known)
            if len(both) == 2:
                found.steady.append(known[0].preference() == known[1].preference())
        self._check(found)
        return found

    def _judgement(
        self, messages: list[Message], seed: int, found: Compared, lock: threading.Lock
    ) -> Judgement | None:
        import openai

        told = ""
        for attempt in range(self.config.max_tries):
            if self._gone.is_set():
                return None
            try:
                with lock:
                    found.requests += 1
                return read_judgement(self._post(messages, seed + attempt, attempt))
            except Unreadable as error:
                told = without_key(f"an answer cannot be read: {error}", self._secret)
                with lock:
                    found.unreadable += 1
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                self._gone.set()
                raise StageError(
                    f"the judge at {self.config.base_url}: {self._words(error)}. Mend that, then run the same "
                    "command to go on."
                ) from None
            except (openai.OpenAIError, ValueError) as error:
                self._stop_if_gone(error)
                # The client has tried it several times.
                told = self._words(error)
                break
        with lock:
            found.reasons.append(told)
        return None

    def _stop_if_gone(self, error: Exception) -> None:
        """After a lost connection: whether anything listens there at all."""
        import openai

        if not isinstance(error, openai.APIConnectionError) or isinstance(error, openai.APITimeoutError):
            return
        try:
            self._client.with_options(max_retries=0).get("/models", cast_to=object)
        except openai.APIConnectionError:
            self._gone.set()
            raise StageError(
                f"the judge at {self.config.base_url} stopped answering ({self._words(error)}). Start it, then "
                "run the same command to go on."
            ) from None
        except (openai.OpenAIError, ValueError):
            pass  # it answers, if only with an error

    def _post(self, messages: list[Message], seed: int, attempt: int) -> str:
        """What the judge wrote.

        Raises:
            Unreadable: it ran into its limit, or what came is no chat completion.
        """
        config = self.config
        temperature = max(config.temperature, _RETRY_TEMPERATURE) if attempt else config.temperature
        body: dict[str, Any] = {
            "model": config.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": config.max_completion_tokens,
            "seed": seed % 2**31,
        }
        if config.structured == "json_schema":
            form = {"name": "judgement", "schema": SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        # The client's own types would be built from the answer unchecked.
        data = self._client.post("/chat/completions", cast_to=object, body=body | config.extra_body)
        choices = data.get("choices") if isinstance(data, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(choice, dict) or not isinstance(content, str):
            raise Unreadable(f"what came is no chat completion: {data!r}")
        if choice.get("finish_reason") == "length":
            raise Unreadable(
                f"it ran into {self.name}.max_completion_tokens = {config.max_completion_tokens}"
            )
        return content

    def _check(self, found: Compared) -> None:
        """Tell the first missing comparison at once, and stop where too many are."""
        if not found.missing:
            return
        total, last = len(found.judgements), found.reasons[-1] if found.reasons else "?"
        if found.missing > self.config.max_missing_share * total:
            raise StageError(
                f"the judge at {self.config.base_url}: {found.missing} of {total} comparisons are missing, "
                f"{self.name}.max_missing_share = {self.config.max_missing_share:g} are allowed; the last: {last}. Mend "
                "that, or raise it, then run the same command to go on."
            )
        if not self._told:
            self._told = True
            print(
                f"warning: {found.missing} of {total} comparisons by the judge are missing; the last: {last}. They "
                "count nowhere; later ones are counted as judge/missing.",
                file=sys.stderr,
            )

    def _words(self, error: Exception) -> str:
        """What an error says, in one line and without the key."""
        body = getattr(error, "body", None)
        said = body.get("message") if isinstance(body, dict) else None
        told = without_key(str(said or error or type(error).__name__), self._secret)
        status = getattr(error, "status_code", None)
        return f"{status}: {told}" if status and str(status) not in told else told
