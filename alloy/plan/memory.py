"""The memory of one device through all of a stage: loading, sampling, scoring, training, measuring."""

from collections.abc import Iterator, Mapping

from alloy.plan.batch import Batch, on_device
from alloy.plan.head import head_bytes, sampled_logits_bytes
from alloy.plan.launch import Launch
from alloy.plan.numerics import FLOAT32, Numerics
from alloy.plan.phase import Memory, Phase, phase
from alloy.plan.shape import Shape
from alloy.plan.states import States, states_of
from alloy.plan.training_memory import training_phases
from alloy.plan.work import Held, Sampling, Scoring, Work

_VLLM_CPU_CACHE = 2 << 30
"""Bytes of keys and values that vLLM takes on a CPU at most (`alloy.rollout.vllm_process`)."""


def memory_of(work: Work, shape: Shape, launch: Launch, shapes: Mapping[str, Shape] | None = None) -> Memory:
    """A stage's phases on one device.

    Args:
        shape: of the model that the stage begins with, with the head that it has there.
        shapes: of the models held beside it, by role; of the same shape where not given.
    """
    return _Stage(work, shape, launch, shapes or {}).memory()


class _Stage:
    """One stage on one device: its phases, with what is there in all of them."""

    def __init__(self, work: Work, shape: Shape, launch: Launch, shapes: Mapping[str, Shape]) -> None:
        self.work, self.shape, self.launch, self.shapes = work, shape, launch, shapes
        self.states: States | None = states_of(shape, work.training, launch) if work.training else None
        self.beside = float(sum(self._bytes(held) for held in work.held))
        parents = 4.0 * shape.parameters * work.host_models
        self.host = (self.states.host if self.states else 0.0) + (0.0 if launch.cpu else parents)
        self.beside += parents if launch.cpu else 0.0
        staying = [s for s in work.sampling if s.beside_training and s.engine == "vllm"]
        self.beside += max((self._vllm(sampling) for sampling in staying), default=0.0)
        if work.training and self.states:
            self.host += Batch(shape, work.training, self.states.numerics, launch).offloaded

    def memory(self) -> Memory:
        return Memory(tuple(self._phases()), self.host)

    def _phases(self) -> Iterator[Phase]:
        if self.work.training and self.states:
            yield phase("loading", self.launch, weights=self.states.loading, models=self.beside)
            yield from training_phases(self.shape, self.work.training, self.states, self.launch, self.beside)
        for sampling in self.work.sampling:
            yield self._sampling(sampling)
        for scoring in self.work.scoring:
            yield self._scoring(scoring)

    def _trainer(self, **kinds: float) -> dict[str, float]:
        """What a trainer has while it does not train."""
        if self.states is None:
            return {"weights": 4.0 * self.shape.parameters, **kinds}
        return {
            "weights": self.states.weights,
            "optimizer": self.states.optimizer,
            "gradients": self.states.gradients if self.launch.sharded else 0.0,
            "buffers": self.states.buckets,
            **kinds,
        }

    def _bytes(self, held: Held) -> float:
        """A second model in float32, as stages load it; one that is prepared as the policy is, in its numbers."""
        number = self.states.number if held.sharded and self.states else 4
        divided = held.sharded and self.launch.sharding in ("zero3", "fsdp")
        return number * self._of(held.role).parameters / (self.launch.devices if divided else 1)

    def _of(self, role: str) -> Shape:
        return self.shapes.get(role, self.shape)

    def _vllm(self, sampling: Sampling) -> float:
        """Bytes that vLLM takes in this process: its share of a GPU; else bfloat16 weights and a cache."""
        weights = 2.0 * self.shape.parameters
        sequence = self.shape.cache_bytes(sampling.prompt + sampling.completion, 2, 2)
        if not self.launch.cpu and self.launch.device_memory is not None:
            # A share that does not hold the weights and one sequence is too small to start with.
            return max(weights + sequence, sampling.memory_share * self.launch.device_memory)
        cache = sampling.rows * sequence
        return weights + (min(cache, _VLLM_CPU_CACHE) if self.launch.cpu else cache)

    def _sampling(self, sampling: Sampling) -> Phase:
        name = f"sampling {sampling.what}"
        if sampling.beside_training:
            kinds = self._trainer(models=self.beside)
            numerics = self.states.numerics if self.states else FLOAT32
        else:
            kinds, numerics = {"models": self.beside}, FLOAT32
        if sampling.engine != "transformers":
            own = sampling.engine == "vllm" and not sampling.beside_training
            kinds["models"] += self._vllm(sampling) if own else 0.0
            return phase(name, self.launch, **kinds)
        whole = self.states.whole if self.states and sampling.beside_training else 0.0
        kinds["weights"] = kinds.get("weights", 4.0 * self.shape.parameters) + whole
        # Rotation brings keys to the width of the hidden states; values stay as they were multiplied.
        length = sampling.prompt + sampling.completion
        cache = sampling.rows * self.shape.cache_bytes(length, numerics.stream, numerics.compute)
        kinds["cache"] = cache * (2 if sampling.multi_turn else 1)  # what was read is kept for the next turn
        kinds["activations"] = self._forward(self.shape, sampling.rows, sampling.prompt, numerics)
        kinds["logits"] = sampled_logits_bytes(self.shape, sampling.rows)
        return phase(name, self.launch, **kinds)

    def _scoring(self, scoring: Scoring) -> Phase:
        own = scoring.model == "policy"
        shape = self.shape if own else self._of(scoring.model)
        numerics = self.states.numerics if own and self.states else FLOAT32
        kinds = self._trainer(models=self.beside)
        kinds["weights"] += self.states.gathered if own and self.states else 0.0
        kinds["activations"] = self._forward(shape, scoring.rows, scoring.length, numerics)
        tokens = scoring.rows * scoring.length
        kinds["logits"] = head_bytes(shape, tokens, numerics, self.launch, backward=False)
        return phase(f"scoring {scoring.what}", self.launch, **kinds)

    def _forward(self, shape: Shape, rows: int, length: int, numerics: Numerics) -> float:
        """What a forward pass has at once, of which nothing is kept."""
        widest = max(
            (
                layer.working(numerics, "sdpa", length)
                for block in on_device(shape, self.launch)
                for layer in block
            ),
            default=0.0,
        )
        return rows * length * (widest + 3 * numerics.stream * shape.hidden)
