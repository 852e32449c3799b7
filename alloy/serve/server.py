"""vLLM's server, started with what makes it ours: the budget, the two parsers, and what a CPU needs."""

import asyncio
import json
import signal
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from alloy.chat import THINK_CLOSE
from alloy.command import quiet_libraries
from alloy.errors import InputError, StageError
from alloy.parent_death import end_processes_with_this_one
from alloy.policy import load_tokenizer
from alloy.rollout.vllm_process import BUDGET_PROCESSOR, engine_dtype, settings_for_cpu
from alloy.template import chat_template

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(given: Namespace, folder: str, name: str, others: list[str]) -> int:
    """Serve until it is told to stop.

    Args:
        others: arguments for vLLM as they were given.
    """
    quiet_libraries()
    parsed = parse([*vllm_arguments(given, folder, name), *others])
    if given.host not in _LOOPBACK and not given.api_key:
        print("warning: anyone who reaches this port may use it. Set --api-key.", file=sys.stderr, flush=True)
    try:
        asyncio.run(_serve(parsed, name))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise StageError(f"{given.host}:{given.port}: {error}. Choose another --port.") from None
    return 0


def parse(arguments: list[str]) -> Namespace:
    """What vLLM makes of its arguments: it knows abbreviations, and files of arguments (`--config`).

    Raises:
        InputError: they do not go together, or would run code of the model folder.
        StageError: vLLM cannot be imported.
    """
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError as error:
        raise StageError(f"vLLM cannot be imported ({error}). Run `make setup`.") from None
    parser = make_arg_parser(FlexibleArgumentParser(prog="python -m alloy serve"))
    parsed = parser.parse_args(arguments)
    parsed.model = parsed.model_tag
    if parsed.trust_remote_code:
        raise InputError("--trust-remote-code: code of a model folder is never run. Leave it out.")
    try:
        validate_parsed_serve_args(parsed)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    return parsed


def vllm_arguments(given: Namespace, folder: str, name: str) -> list[str]:
    """Our flags as vLLM's own."""
    tokenizer, positions = load_tokenizer(folder), _positions(folder)
    plugin = "alloy.serve.vllm_parsers"
    budget = {"thinking_grace": given.grace}
    if given.thinking_budget is not None:
        budget["thinking_budget"] = given.thinking_budget
    found = [
        *(folder, "--served-model-name", name, "--host", given.host, "--port", str(given.port)),
        *("--logits-processors", BUDGET_PROCESSOR),
        *("--additional-config", json.dumps(budget)),
        *("--middleware", "alloy.serve.requests.BudgetRequests"),
        # Pages in a browser have no business here, unless --allowed-origins says so.
        *("--allowed-origins", "[]"),
        *("--max-num-seqs", str(given.max_requests)),
        *("--gpu-memory-utilization", str(given.memory_share)),
        # What a request does not say is not taken from a file beside the weights.
        *("--generation-config", "vllm"),
    ]
    if given.max_model_tokens:
        found += ["--max-model-len", str(given.max_model_tokens)]
    template = chat_template(tokenizer)
    if THINK_CLOSE in template.source:
        found += ["--reasoning-parser", "alloy", "--reasoning-parser-plugin", plugin]
    try:
        notation = template.notation
    except InputError as error:
        print(f"warning: tool calls are not read: {error}", file=sys.stderr, flush=True)
    else:
        assert notation
        found += ["--enable-auto-tool-choice", "--tool-call-parser", "alloy", "--tool-parser-plugin", plugin]
    if not given.verbose:
        found += ["--uvicorn-log-level", "warning", "--disable-uvicorn-access-log"]
    dtype = given.dtype or engine_dtype()
    found += ["--dtype", dtype]
    if not torch.cuda.is_available():
        found += _for_cpu(folder, given, positions)
    return found


def _for_cpu(folder: str, given: Namespace, positions: int) -> list[str]:
    tokens = given.max_model_tokens or positions
    found = ["--enforce-eager", "--worker-extension-cls", "alloy.serve.worker.OneNumberDraw"]
    for name, value in settings_for_cpu(Path(folder), tokens, given.max_requests).items():
        flag = name.replace("_", "-")
        found += (
            [f"--{flag}" if value else f"--no-{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", str(value)]
        )
    return found


def _positions(folder: str) -> int:
    """
    Raises:
        InputError: no model there that is known without code of the folder.
    """
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no model that can be loaded ({str(error).splitlines()[0]}).") from None
    return int(getattr(config, "max_position_embeddings", 4096))


async def _serve(arguments: Namespace, name: str) -> None:
    """The steps of vLLM's own `run_server`, with a call to the worker between the engine's start and the first request."""
    from vllm.entrypoints.launchers.api_server.entry import build_and_serve, build_async_engine_client
    from vllm.entrypoints.launchers.launcher import setup_server

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # vLLM's processes would go on computing for a server that was killed.
    end_processes_with_this_one()
    address, sock = setup_server(arguments, reuse_port=False)
    try:
        async with build_async_engine_client(arguments) as engine:
            if not torch.cuda.is_available():
                await engine.collective_rpc("draw_with_one_number")
            print(f"serving {name} at {address}/v1", flush=True)
            stopped = await build_and_serve(engine, address, sock, arguments)
        await stopped
    finally:
        sock.close()
