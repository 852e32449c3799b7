"""vLLM beside a trainer on a CPU: TRL's generation backend without its two parts that need a GPU."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trl.generation.vllm_generation import VLLMGeneration

from alloy.rl_config import RolloutConfig
from alloy.rollout.vllm_process import reload_weights, running_llm


class ColocatedVllm(VLLMGeneration):
    """An engine that starts from the trained model's folder and is given its weights anew at every step.

    TRL starts vLLM without `enforce_eager` and writes weights in place; on a CPU the one compiles for
    minutes and the other fails. Which weights there are under which names, with an adapter merged in,
    stays TRL's.
    """

    def __init__(self, model: Any, accelerator: Any, tokenizer: Any, config: RolloutConfig) -> None:
        self._running = ExitStack()
        self._rollout = config
        super().__init__(model=model, accelerator=accelerator, processing_class=tokenizer)

    def _init_vllm(self) -> None:
        self.llm = self._running.enter_context(
            running_llm(
                Path(str(self.model.name_or_path)),
                max_model_tokens=self._rollout.vllm_max_model_tokens,
                max_sequences=self._rollout.batch_size,
                memory_share=self._rollout.vllm_memory_share,
            )
        )

    def sync_weights(self) -> None:
        reload_weights(self.llm, self._iter_named_params())

    def close(self) -> None:
        """Free the engine; nothing happens the second time."""
        self.llm = None
        self._running.close()
