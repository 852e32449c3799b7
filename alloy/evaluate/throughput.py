"""How many tokens a second vLLM writes with a model, at given lengths of input and output.

Source: the lengths and the measure of Nemotron Nano 2 (arXiv:2508.14444), 8k tokens in and 16k out.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from alloy.errors import InputError
from alloy.rl_config import EngineConfig

if TYPE_CHECKING:
    from vllm import LLM


@dataclass(frozen=True, slots=True)
class Shape:
    """Tokens of a request."""

    input_tokens: int
    output_tokens: int

    @property
    def room(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured: the median of the rounds, and each of them.

    Attributes:
        requests: of one round, all handed over at once.
        tokens_per_second: written, all requests together.
        requests_per_second: answered.
        total_tokens_per_second: read and written.
        rounds: tokens written a second, round by round.
    """

    input_tokens: int
    output_tokens: int
    requests: int
    at_once: int
    device: str
    tokens_per_second: float
    requests_per_second: float
    total_tokens_per_second: float
    rounds: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        low, high = min(self.rounds), max(self.rounds)
        return (
            f"{self.input_tokens}:{self.output_tokens}  {self.tokens_per_second:.1f} tokens/s written "
            f"[{low:.1f}, {high:.1f}] in {len(self.rounds)} rounds, {self.requests_per_second:.3f} requests/s, "
            f"{self.total_tokens_per_second:.1f} tokens/s read and written; {self.requests} requests, "
            f"{self.at_once} at once, on {self.device}"
        )


def parse_shapes(text: str) -> list[Shape]:
    """`8192:16384`, or several by comma.

    Raises:
        InputError: with what is wrong.
    """
    shapes = []
    for part in text.split(","):
        numbers = part.split(":")
        if len(numbers) != 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
            raise InputError(
                f"--throughput {part!r}: input and output tokens are wanted, such as 8192:16384."
            )
        shapes.append(Shape(int(numbers[0]), int(numbers[1])))
    return shapes


def measure_throughput(
    folder: Path, shapes: Sequence[Shape], engine: EngineConfig, requests: int, rounds: int, seed: int
) -> list[Throughput]:
    """Random prompts, each of the input's length, that are written to the output's length whatever comes.

    One short round before the first is not counted.

    Args:
        requests: of a round.
    Raises:
        StageError: vLLM is not there.
    """
    from alloy.rollout.vllm_process import running_llm

    at_once = min(requests, engine.batch_size)
    room = max(shape.room for shape in shapes)
    with running_llm(
        folder, max_model_tokens=room, max_sequences=at_once, memory_share=engine.vllm_memory_share
    ) as llm:
        return [measure_shape(llm, shape, requests, at_once, rounds, seed) for shape in shapes]


def measure_shape(
    llm: "LLM", shape: Shape, requests: int, at_once: int, rounds: int, seed: int
) -> Throughput:
    """The rounds of one shape on a running engine."""
    from alloy.policy import device_name

    vocabulary = llm.llm_engine.model_config.get_vocab_size()
    _round(llm, Shape(shape.input_tokens, 1), min(requests, at_once), vocabulary, f"{seed}/before")
    seconds = [_round(llm, shape, requests, vocabulary, f"{seed}/{number}") for number in range(rounds)]
    written = requests * shape.output_tokens
    took = median(seconds)
    return Throughput(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        requests=requests,
        at_once=at_once,
        device=device_name(),
        tokens_per_second=written / took,
        requests_per_second=requests / took,
        total_tokens_per_second=requests * shape.room / took,
        rounds=[written / each for each in seconds],
    )


def _round(llm: "LLM", shape: Shape, requests: int, vocabulary: int, seed: str) -> float:
    """Seconds that a round takes; its prompts share nothing with another round's, so nothing is cached."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    from alloy.rollout.vllm_process import no_compiling

    rng = random.Random(seed)
    prompts = [
        TokensPrompt(prompt_token_ids=[rng.randrange(vocabulary) for _ in range(shape.input_tokens)])
        for _ in range(requests)
    ]
    length = shape.output_tokens
    settings = SamplingParams(
        min_tokens=length, max_tokens=length, ignore_eos=True, temperature=1.0, detokenize=False
    )
    began = time.perf_counter()
    with no_compiling():
        outputs = llm.generate(prompts, settings, use_tqdm=False)
    took = time.perf_counter() - began
    assert all(len(output.outputs[0].token_ids) == length for output in outputs)
    return took
