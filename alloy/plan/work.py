"""What a stage does, in numbers of its config: no model, no device.

A stage's package describes it in a module beside `train`, which the planner finds by name: `work` in
`sft/plan.py` for the stage `sft`, in `rlhf/reward_model_plan.py` for `rlhf.reward_model`.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from alloy.config import LoraConfig, TrainingConfig
from alloy.plan.launch import Launch
from alloy.plan.layers import AttentionKind
from alloy.precision import is_bfloat16
from alloy.rl_config import EngineConfig

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Training:
    """Updates of a model's weights.

    Attributes:
        steps: optimizer updates.
        rows: sequences that pass through the model at once on a device.
        length: tokens of a sequence, at most.
        micro_batches: of one update on one device.
        attention: of the implementations, the one that this stage's batches get.
        checkpointing: None where the device's memory decides; it counts as off until it has (`alloy.plan.need`).
        bfloat16_base: frozen weights under an adapter rest in bfloat16.
        scored: positions of a sequence whose logits are computed; all when None.
        offloading: what is kept for the way back rests in the machine's memory.
    """

    steps: int
    rows: int
    length: int
    micro_batches: int
    precision: Precision
    attention: AttentionKind
    checkpointing: bool | None
    optimizer: Literal["adamw", "muon"]
    lora: LoraConfig | None = None
    bfloat16_base: bool = False
    scored: int | None = None
    offloading: bool = False

    def tokens(self, devices: int) -> int:
        """Of all updates on all devices, at most."""
        return self.steps * self.micro_batches * self.rows * self.length * devices


@dataclass(frozen=True)
class Sampling:
    """Completions that are sampled.

    Attributes:
        what: for people: `rollouts`, `validation`.
        completions: on all devices together, at most.
        prompt, completion: tokens of one, at most; a conversation's turns are one completion here.
        rows: completions that are decoded at once on a device.
        engine: what makes them.
        memory_share: of a device, that vLLM in this process takes.
        beside_training: of the trainer's own weights; otherwise a model is loaded for it.
        multi_turn: what was read is kept from one turn to the next.
        divided: every device makes its part; else one makes all.
    """

    what: str
    completions: int
    prompt: int
    completion: int
    rows: int
    engine: Literal["transformers", "vllm", "vllm-server"]
    memory_share: float
    beside_training: bool
    multi_turn: bool = False
    divided: bool = True

    @property
    def tokens(self) -> int:
        return self.completions * self.completion


@dataclass(frozen=True)
class Scoring:
    """Tokens that pass through a model forward only.

    Attributes:
        model: `policy`, or the name of one that is held beside it.
        tokens: on all devices together, at most.
        rows, length: that pass at once on a device.
    """

    what: str
    model: str
    tokens: int
    rows: int
    length: int


@dataclass(frozen=True)
class Held:
    """A second model in a device's memory.

    Attributes:
        role: for people, and what `Scoring.model` names.
        parent: the field of the config whose model it is.
        sharded: prepared as the policy is, by DeepSpeed or FSDP.
    """

    role: str
    parent: str
    sharded: bool = False


@dataclass(frozen=True)
class Work:
    """All that a stage does.

    Attributes:
        start: the config's field whose model the stage begins with.
        makes: what comes out: a model like the first one, one with a score for a head, or none.
        models: copies of it that stay on the disk.
        candidates: copies that are kept while it trains.
        host_models: copies in memory of the machine, not of a device.
        examples: rows that the config names, where it names them all.
        notes: what a person should know of these numbers.
    """

    start: str = "parent"
    makes: Literal["same", "scorer", "nothing"] = "same"
    training: Training | None = None
    sampling: tuple[Sampling, ...] = ()
    scoring: tuple[Scoring, ...] = ()
    held: tuple[Held, ...] = ()
    models: int = 1
    candidates: int = 0
    host_models: int = 0
    examples: int | None = None
    notes: tuple[str, ...] = ()


def planned_precision(precision: str, launch: Launch) -> Precision:
    """What `train.precision` comes to: devices that recipes are planned for multiply bfloat16."""
    return "bfloat16" if is_bfloat16(precision, gpu=not launch.cpu, multiplied=True) else "float32"


def training_of(
    config: TrainingConfig,
    launch: Launch,
    *,
    length: int,
    attention: AttentionKind,
    rows: int | None = None,
    micro_batches: int | None = None,
    steps: int | None = None,
    bfloat16_base: bool = False,
    scored: int | None = None,
) -> Training:
    """The updates of a training stage, by the keys that all of them have."""
    train = config.train
    checkpointing = None if train.gradient_checkpointing == "auto" else train.gradient_checkpointing
    return Training(
        steps=train.max_steps if steps is None else steps,
        rows=train.per_device_batch_size if rows is None else rows,
        length=length,
        micro_batches=train.gradient_accumulation_steps if micro_batches is None else micro_batches,
        precision=planned_precision(train.precision, launch),
        attention=attention,
        checkpointing=checkpointing,
        optimizer=config.optim.kind,
        lora=config.lora,
        bfloat16_base=bfloat16_base,
        scored=scored,
    )


def room(engine: EngineConfig, prompt: int, completion: int) -> tuple[int, int]:
    """A prompt and a completion, no longer than vLLM's context where vLLM samples."""
    if engine.engine == "transformers":
        return prompt, completion
    most = engine.vllm_max_model_tokens
    completion = min(completion, most - 1)
    return min(prompt, most - completion), completion


def sampling_of(
    what: str,
    completions: int,
    engine: EngineConfig,
    launch: Launch,
    *,
    completion: int,
    beside_training: bool,
    multi_turn: bool = False,
    divided: bool = True,
    at_once: int | None = None,
    prompt: int | None = None,
) -> Sampling:
    """Completions by an engine's settings.

    Args:
        at_once: completions that there are at a time; the engine's batch is the most of a device.
        prompt: tokens of one; `launch.prompt_tokens` when not given.
    """
    prompt, completion = room(engine, prompt or launch.prompt_tokens, completion)
    each = completions if at_once is None else at_once
    each = ceil(each / launch.devices) if divided else each
    return Sampling(
        what,
        completions,
        prompt,
        completion,
        rows=max(1, min(engine.batch_size, each)),
        engine=engine.engine,
        memory_share=engine.vllm_memory_share,
        beside_training=beside_training,
        multi_turn=multi_turn,
        divided=divided,
    )
