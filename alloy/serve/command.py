"""`python -m alloy serve MODEL`: vLLM's OpenAI-compatible server, with a thinking budget for each request."""

import os
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from alloy.command import Parser
from alloy.errors import InputError
from alloy.rollout.budget import DEFAULT_GRACE
from alloy.serve.model import find_model

_USE = """a request says its budget beside its messages:

  client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
  client.chat.completions.create(model="sft-3", messages=[...], extra_body={"thinking_budget": 256})

What is not known here goes to vLLM as it stands: --tensor-parallel-size 2."""


def run(arguments: list[str]) -> int:
    given, others = _parser().parse_known_args(arguments)
    for name in ("port", "thinking_budget", "grace", "max_requests", "max_model_tokens"):
        value = getattr(given, name)
        if value is not None and value < (1 if name.startswith(("max", "port")) else 0):
            raise InputError(f"--{name.replace('_', '-')} {value}: it is too small.")
    folder, called = find_model(given.model)
    _prepare(given)
    # Only now: what vLLM and torch read from the environment is set.
    from alloy.serve.server import serve

    return serve(given, folder, given.name or called, others)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m alloy serve",
        description="Serve a model over OpenAI's interface: thinking apart from the answer, tool calls read.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=_USE,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="run folder, model folder, or a name on the Hub")
    parser.add_argument(
        "--host", default="127.0.0.1", help="where it listens (%(default)s: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--api-key", help="that requests must bring; better in the environment, as VLLM_API_KEY"
    )
    parser.add_argument("--name", help="that requests call the model by; its folder's when not given")
    parser.add_argument(
        "--thinking-budget", type=int, help="tokens, of requests that say none; no limit when not given"
    )
    parser.add_argument(
        "--grace",
        type=int,
        default=DEFAULT_GRACE,
        help="tokens past a budget in which a newline is waited for (%(default)s)",
    )
    parser.add_argument(
        "--max-model-tokens", type=int, help="of a prompt and its completion; the model's own"
    )
    parser.add_argument("--max-requests", type=int, default=64, help="written at once (%(default)s)")
    parser.add_argument("--memory-share", type=float, default=0.9, help="of a GPU (%(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="what the hardware multiplies when not given",
    )
    parser.add_argument("--verbose", action="store_true", help="show what vLLM logs")
    return parser


def _prepare(given: Namespace) -> None:
    environment = os.environ
    if given.api_key:
        environment["VLLM_API_KEY"] = given.api_key
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not given.verbose:
        environment.setdefault("PYTHONWARNINGS", "ignore")
    environment.setdefault("VLLM_LOGGING_LEVEL", "INFO" if given.verbose else "ERROR")
    # The second model runner, vLLM's own choice on a GPU, takes logits processors of another interface.
    environment.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    if not Path("/dev/nvidiactl").exists():
        # vLLM compiles helpers at the first request even when it runs eagerly: minutes on a CPU.
        environment.setdefault("TORCHDYNAMO_DISABLE", "1")
