"""vLLM inside this process: started with what a CPU or a GPU needs, given new weights, and freed again."""

import gc
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alloy.errors import StageError

if TYPE_CHECKING:
    from vllm import LLM

_CPU_CACHE_BYTES = 2 << 30
"""For keys and values, where VLLM_CPU_KVCACHE_SPACE (in GiB) does not say otherwise."""


def engine_dtype() -> str:
    """What vLLM computes in: on a CPU bfloat16 where the hardware multiplies it, else float32."""
    if torch.cuda.is_available():
        return "auto"
    cpu = torch.cpu.get_capabilities()
    return "bfloat16" if cpu.get("avx512_bf16") or cpu.get("amx_bf16") else "float32"


@contextmanager
def running_llm(
    folder: Path, *, max_model_tokens: int, max_sequences: int, memory_share: float, dtype: str | None = None
) -> Iterator["LLM"]:
    """A vLLM engine in this process; at the end it is freed, with all that it changed here.

    Args:
        max_model_tokens: of a prompt and its completion together.
        max_sequences: written at once.
        memory_share: of a GPU; on a CPU VLLM_CPU_KVCACHE_SPACE counts, 2 GiB when it is not set.
        dtype: `engine_dtype()` when not given.
    """
    patched = _Patched()
    # Training on several processes has a group already: vLLM joins it, and must leave it standing.
    joined = torch.distributed.is_initialized()
    try:
        try:
            llm = _start(
                folder, max_model_tokens, max_sequences, memory_share, dtype or engine_dtype(), joined
            )
        finally:
            patched.note_environment()
        core = llm.llm_engine.engine_core
        try:
            yield llm
        finally:
            del llm
            if not joined:
                core.shutdown()
            del core
    finally:
        patched.restore()
        gc.collect()


def _start(
    folder: Path, max_model_tokens: int, max_sequences: int, memory_share: float, dtype: str, joined: bool
) -> "LLM":
    # Read when the engine starts: a core in a process of its own would have its weights out of reach.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import LLM
    except ImportError as error:
        raise StageError(
            f"rollout.engine = vllm, and vLLM cannot be imported ({error}). Run `make setup`, or set "
            "rollout.engine=transformers."
        ) from None
    # vLLM may have been imported before the variable was set, by TRL.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())
    on_gpu = torch.cuda.is_available()
    only_cpu: dict[str, Any] = {}
    if not on_gpu and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        only_cpu["kv_cache_memory_bytes"] = _CPU_CACHE_BYTES
    return LLM(
        model=str(folder),
        dtype=dtype,
        max_model_len=max_model_tokens,
        max_num_seqs=max_sequences,
        gpu_memory_utilization=memory_share,
        # On a CPU the first request would compile for minutes.
        enforce_eager=not on_gpu,
        distributed_executor_backend="external_launcher" if joined else None,
        # Log-probabilities after the temperature: those that importance correction needs.
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        skip_tokenizer_init=True,
        seed=0,
        **only_cpu,
    )


def reload_weights(llm: "LLM", weights: Iterable[tuple[str, Tensor]]) -> None:
    """Give a running engine new weights, under their names in the Hugging Face checkpoint.

    The CPU backend repacks its weights for its kernels, so they cannot be written in place: they are
    loaded as from a file and packed again.
    """
    stream = iter(weights)
    llm.collective_rpc("reload_weights", kwargs={"weights_iterator": stream})
    # What follows the last weight in a generator (an adapter taken out again) must run, too.
    for _ in stream:
        pass
    llm.reset_prefix_cache()


class _Patched:
    """What vLLM changes in a process that starts it: environment variables and functions of torch."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._changed: dict[str, str | None] = {}
        self._set_num_threads: Any = torch.set_num_threads
        self._synchronize: Any = torch.accelerator.synchronize
        self._empty_cache: Any = torch.accelerator.empty_cache

    def note_environment(self) -> None:
        before = self._environment
        self._changed = {
            name: before.get(name) for name, value in os.environ.items() if before.get(name) != value
        }

    def restore(self) -> None:
        for name, value in self._changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        torch.set_num_threads = self._set_num_threads
        torch.accelerator.synchronize = self._synchronize
        torch.accelerator.empty_cache = self._empty_cache
