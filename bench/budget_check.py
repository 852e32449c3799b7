"""The promise of the thinking budget, held against a served model: where thinking closes, request by request.

`python -m alloy serve` is started over a model (or `--url` names a running one) and asked with the official
`openai` client: every prompt without a budget, then at each budget, greedy, in float32. A completion may close
by itself before its budget; past it, it must close at the first newline at or past the budget, or by force at
exactly budget + grace. Reading the tokens back needs nothing of the processor: newlines are looked for in the
text of each token, the closing tag in the text of all.

What no rule allows is counted as wrong and shown; the exit status is 1 then. It is 1 also where fewer than half
of the prompts think past a budget when left alone: such a budget would have had little to do. A small model
thinks briefly, so every second request forbids, by OpenAI's `logit_bias`, its closing tag and its end of turn,
with and without a budget, and every fourth newlines, too. The others show that thinking which ends by itself
is left alone.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from bench.budget import draw_prompts
from bench.outcome import parser, tell

START_SECONDS = 900
KINDS = ("own", "newline", "forced", "wrong")


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="runs/smollm2/sft-3/model", help="a model folder (%(default)s)")
    arguments.add_argument("--url", help="of a server that runs already, such as http://127.0.0.1:8000/v1")
    arguments.add_argument("--prompts", type=int, default=200)
    arguments.add_argument("--budgets", type=int, nargs="+", default=[16, 64, 256])
    arguments.add_argument("--grace", type=int, default=16)
    arguments.add_argument("--answer-tokens", type=int, default=16, help="room behind the thinking")
    arguments.add_argument("--concurrency", type=int, default=64)
    arguments.add_argument("--as-it-is", action="store_true", help="forbid the model nothing")
    given = arguments.parse_args()
    began = time.perf_counter()
    with served(given) as url:
        rows = check(given, url)
    enough = all(row["overrun_share"] >= 0.5 for row in rows)
    wrong = sum(row["wrong"] for row in rows)
    told = [
        [str(row["budget"]), f"{row['overrun_share']:.0%}", *(str(row[kind]) for kind in KINDS)]
        for row in rows
    ]
    tell(
        f"Where thinking closes, {given.prompts} prompts, grace {given.grace}",
        [
            "budget",
            "think past it when left alone",
            "closed by themselves",
            "at a newline",
            "by force",
            "wrong",
        ],
        told,
        {
            "wrong": wrong,
            "half_overrun": enough,
            "prompts": given.prompts,
            "grace": given.grace,
            "as_it_is": given.as_it_is,
            "seconds": time.perf_counter() - began,
            "budgets": rows,
        },
        given.json,
    )
    return 0 if enough and not wrong else 1


@contextmanager
def served(given: argparse.Namespace) -> Iterator[str]:
    """The address of a server of the model; one that is started here ends with the block."""
    if given.url:
        yield given.url
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "alloy", "serve", given.model, "--port", str(port)]
    command += ["--max-model-tokens", "1024", "--max-requests", str(given.concurrency), "--dtype", "float32"]
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        wait(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    import requests

    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < START_SECONDS:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.exceptions.RequestException:
            time.sleep(0.5)
    raise SystemExit(f"the server at {url} did not start")


def check(given: argparse.Namespace, url: str) -> list[dict[str, Any]]:
    """Of each budget how the thinking of all prompts closed."""
    from alloy.policy import load_tokenizer

    tokenizer = load_tokenizer(given.model)
    longest = max(given.budgets) + given.grace + given.answer_tokens
    text_of = cache(lambda token: tokenizer.decode([token]))
    tasks, _ = draw_prompts(tokenizer, given.prompts)
    ask = Asking(url, given, tokenizer)
    free = ask.all(tasks, None, longest)
    rows = []
    for budget in given.budgets:
        found = ask.all(tasks, budget, budget + given.grace + given.answer_tokens)
        kinds: Counter[str] = Counter()
        for task, written, alone in zip(tasks, found, free, strict=True):
            kind = how_closed(written, alone, budget, given.grace, text_of)
            kinds[kind] += 1
            if kind == "wrong":
                text = tokenizer.decode(written)
                print(f"budget {budget}, {task.id}: {text!r}", file=sys.stderr)
        past = sum(thinking_tokens(alone, text_of) > budget for alone in free) / len(free)
        rows.append({"budget": budget, "overrun_share": past, **{kind: kinds[kind] for kind in KINDS}})
    return rows


class Asking:
    """The server, asked with the official client."""

    def __init__(self, url: str, given: argparse.Namespace, tokenizer: Any) -> None:
        import openai

        key = os.environ.get("VLLM_API_KEY", "none")
        self.client = openai.OpenAI(base_url=url, api_key=key, timeout=3600, max_retries=0)
        self.model = self.client.models.list().data[0].id
        self.given = given
        close = tokenizer.encode("</think>", add_special_tokens=False)
        if len(close) > 1 and not given.as_it_is:
            raise SystemExit("the closing tag of this model is several tokens: set --as-it-is")
        ends = [*close, tokenizer.eos_token_id]
        newlines = [token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])]
        self.forbidden = [None, _forbid(ends), None, _forbid([*ends, *newlines])]

    def all(self, tasks: list[Any], budget: int | None, limit: int) -> list[list[int]]:
        """The tokens of each completion, in order."""
        with ThreadPoolExecutor(self.given.concurrency) as pool:
            return list(pool.map(lambda pair: self._one(pair[0], pair[1], budget, limit), enumerate(tasks)))

    def _one(self, number: int, task: Any, budget: int | None, limit: int) -> list[int]:
        answer = self.client.chat.completions.create(
            model=self.model,
            messages=task.messages,
            temperature=0,
            max_tokens=limit,
            logit_bias=None if self.given.as_it_is else self.forbidden[number % 4],
            extra_body={
                "thinking_budget": budget,
                "thinking_grace": self.given.grace,
                "chat_template_kwargs": {"enable_thinking": True},
                "return_token_ids": True,
            },
        )
        return list((answer.choices[0].model_extra or {})["token_ids"])


def _forbid(tokens: list[int]) -> dict[str, int]:
    return {str(token): -100 for token in tokens}


def thinking_tokens(written: list[int], text_of: Callable[[int], str]) -> int:
    """Tokens before the closing tag; all where there is none."""
    text = ""
    for count, token in enumerate(written):
        text += text_of(token)
        if "</think>" in text:
            return count
    return len(written)


def how_closed(
    written: list[int], alone: list[int], budget: int, grace: int, text_of: Callable[[int], str]
) -> str:
    """`own`, `newline`, `forced` or `wrong`.

    Args:
        alone: what the model wrote without a budget.
    """
    count = thinking_tokens(written, text_of)
    # Where the last token so far is a newline the thinking may close.
    places = [place for place in range(max(budget, 1), count + 1) if "\n" in text_of(written[place - 1])]
    first = 0 if budget == 0 else places[0] if places else None
    if count < budget or (count == len(written) and count < budget + grace and first is None):
        return "own"  # it closed, ended or was cut off before its time
    if first is not None:
        return "newline" if count == first and count < len(written) else "wrong"
    if count < budget + grace:
        # Within the grace the model may close by itself: then it does so, too, when it is left alone.
        forced_early = alone[:count] == written[:count] and thinking_tokens(alone, text_of) != count
        return "wrong" if forced_early else "own"
    return "forced" if count == budget + grace and count < len(written) else "wrong"


if __name__ == "__main__":
    sys.exit(main())
