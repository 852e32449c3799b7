"""vLLM inside this process: started with what a CPU or a GPU needs, given new weights, and freed again."""

import gc
import logging
import os
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig

from alloy.errors import StageError
from alloy.policy import multiplies_bfloat16
from alloy.rollout.vllm_draw import draw_with_one_number

if TYPE_CHECKING:
    from vllm import LLM

BUDGET_PROCESSOR = "alloy.rollout.budget_vllm:ThinkingBudgetLogitsProcessor"
_PREFILL_TOKENS = 4096
"""Tokens of prompts that a step on a CPU reads."""
_MAX_CPU_CACHE_BYTES = 2 << 30
"""For keys and values, where VLLM_CPU_KVCACHE_SPACE (in GiB) does not say otherwise."""
_BLOCK_TOKENS = 128
"""Of vLLM's cache on a CPU: a sequence takes whole blocks."""


def engine_dtype() -> str:
    """What vLLM computes in: on a CPU bfloat16 where the hardware multiplies it, else float32."""
    if torch.cuda.is_available():
        return "auto"
    return "bfloat16" if multiplies_bfloat16() else "float32"


@contextmanager
def running_llm(
    folder: Path,
    *,
    max_model_tokens: int,
    max_sequences: int,
    memory_share: float,
    dtype: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Iterator["LLM"]:
    """A vLLM engine in this process; at the end it is freed, with all that it changed here.

    Args:
        max_model_tokens: of a prompt and its completion together.
        max_sequences: written at once.
        memory_share: of a GPU; on a CPU VLLM_CPU_KVCACHE_SPACE counts, 2 GiB when it is not set.
        dtype: `engine_dtype()` when not given.
        more: settings of `vllm.LLM` that replace ours.
    """
    patched = _Patched()
    # Training on several processes has a group already: vLLM joins it, and must leave it standing.
    joined = torch.distributed.is_initialized()
    try:
        try:
            llm = _start(
                folder,
                max_model_tokens,
                max_sequences,
                memory_share,
                dtype or engine_dtype(),
                joined,
                more or {},
            )
        finally:
            patched.note()
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
    folder: Path,
    max_model_tokens: int,
    max_sequences: int,
    memory_share: float,
    dtype: str,
    joined: bool,
    more: Mapping[str, Any],
) -> "LLM":
    # Read when the engine starts: a core in a process of its own would have its weights out of reach.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # The second model runner, vLLM's own choice on a GPU, takes logits processors of another interface.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    llvmlite = sys.modules.get("llvmlite.binding.ffi")
    if llvmlite is not None:
        # vLLM looks for kernels in whatever a module holds. llvmlite's library takes every name for one of its
        # functions, and `__dict__` is the name that vLLM asks for.
        llvmlite.lib._fntab["__dict__"] = {}
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
    only_cpu = {} if on_gpu else settings_for_cpu(folder, max_model_tokens, max_sequences)
    settings = {
        "model": str(folder),
        "dtype": dtype,
        "max_model_len": max_model_tokens,
        "max_num_seqs": max_sequences,
        "gpu_memory_utilization": memory_share,
        # On a CPU the first request would compile for minutes.
        "enforce_eager": not on_gpu,
        "distributed_executor_backend": "external_launcher" if joined else None,
        # Log-probabilities after the temperature: those that importance correction needs.
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "skip_tokenizer_init": True,
        "logits_processors": [BUDGET_PROCESSOR],
        "seed": 0,
    }
    llm = LLM(**cast(Any, {**settings, **only_cpu, **more}))
    if not on_gpu:
        draw_with_one_number(llm)
    return llm


def settings_for_cpu(folder: Path, max_model_tokens: int, max_sequences: int) -> dict[str, int]:
    """vLLM's settings that a CPU needs, by the names of its engine's arguments."""
    # A prompt that is read in two steps makes vLLM turn back the request's own generator, which
    # PyTorch's generators on a CPU cannot: every prompt is read in one.
    found = {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(_PREFILL_TOKENS, max_model_tokens),
    }
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        tokens = max_sequences * (max_model_tokens + _BLOCK_TOKENS)
        found["kv_cache_memory_bytes"] = min(_MAX_CPU_CACHE_BYTES, tokens * _cache_bytes_a_token(folder))
    return found


def _cache_bytes_a_token(folder: Path) -> int:
    """Keys and values of one token in float32, the most that they take."""
    config: Any = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * 4)


@contextmanager
def no_compiling() -> Iterator[None]:
    """vLLM compiles a few helpers at the first request even when it runs eagerly: minutes on a CPU."""
    with nullcontext() if torch.cuda.is_available() else torch.compiler.set_stance("force_eager"):
        yield


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
    llm.apply_model(_repack_tied_weights)
    llm.reset_prefix_cache()


def _repack_tied_weights(model: torch.nn.Module) -> None:
    """Pack again what shares its weight with another module.

    An output head tied to the embedding is given no weight of its own, so that vLLM 0.31 leaves the
    copy that it packed for its kernels as it was.
    """
    sharing: dict[int, list[Any]] = {}
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is not None and hasattr(module, "quant_method"):
            sharing.setdefault(id(weight), []).append(module)
    for modules in sharing.values():
        for module in modules if len(modules) > 1 else []:
            module.quant_method.process_weights_after_loading(module)


class _Patched:
    """What vLLM changes in a process that starts it: environment, random state, functions of torch."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._changed: dict[str, str | None] = {}
        self._random, self._numpy = random.getstate(), np.random.get_state()
        self._torch = torch.get_rng_state()
        self._set_num_threads: Any = torch.set_num_threads
        self._synchronize: Any = torch.accelerator.synchronize
        self._empty_cache: Any = torch.accelerator.empty_cache

    def note(self) -> None:
        """After the start: remember what it changed of the environment, and undo its seeding."""
        random.setstate(self._random)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
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
