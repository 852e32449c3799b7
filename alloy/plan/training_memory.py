"""Memory while a model is trained: at the head, on the way back, while gradients are averaged, at the update."""

from collections.abc import Iterator
from dataclasses import dataclass

from alloy.plan.batch import Batch
from alloy.plan.head import head_bytes
from alloy.plan.launch import Launch
from alloy.plan.phase import Phase, phase
from alloy.plan.shape import Shape
from alloy.plan.states import BUCKET, States
from alloy.plan.work import Training

_GAPS = 0.25
"""Of what passes through a CPU process's heap, what is lost in gaps beside it (bench/plan.py)."""


@dataclass(frozen=True)
class _Moment:
    """One moment of an update: bytes by kind, and how many of them lie in the C library's heap.

    Blocks of less than 32 MiB lie there. The library keeps them when they are freed, so that a process on a
    CPU stays as large as its heap ever was; a GPU's allocator uses what was freed for whatever comes next.

    Attributes:
        passing: activations, and weights that were put together.
        come: gradients of the blocks.
    """

    name: str
    kinds: dict[str, float]
    passing: float = 0.0
    come: float = 0.0

    @property
    def heap(self) -> float:
        return (1 + _GAPS) * self.passing + self.come


def training_phases(
    shape: Shape, training: Training, states: States, launch: Launch, beside: float
) -> Iterator[Phase]:
    """The largest moments of an update.

    Args:
        beside: bytes of second models.
    """
    batch = Batch(shape, training, states.numerics, launch)
    moments = [_at_head(batch, states), *_way_back(batch, states), *_update(batch, states)]
    largest = max(moment.heap for moment in moments)
    if launch.sharding == "zero3":
        largest += states.weights  # the halves that were cut when the model was divided
    found: dict[str, Phase] = {}
    for moment in moments:
        kinds = {"optimizer": states.optimizer, "models": beside, **moment.kinds}
        kinds["buffers"] = states.buckets + kinds.get("buffers", 0.0)
        if launch.cpu:
            kinds["buffers"] += largest - moment.passing - moment.come
        now = phase(f"training: {moment.name}", launch, **kinds)
        if moment.name not in found or now.bytes > found[moment.name].bytes:
            found[moment.name] = now
    yield from found.values()


def _standing(batch: Batch, states: States) -> float:
    """Gradients that are there whatever is computed: accumulated ones, and divided ones, which have a place."""
    return states.gradients if batch.launch.sharded or batch.training.micro_batches > 1 else 0.0


def _head_gradient(batch: Batch) -> float:
    """Summed in float32, whatever the head computes in."""
    own = batch.training.lora is None and batch.shape.head == "language"
    return 4.0 * batch.shape.embedding if own else 0.0


def _gathered(batch: Batch, states: States) -> float:
    return states.gathered if batch.launch.sharding == "zero3" else 0.0


def _at_head(batch: Batch, states: States) -> _Moment:
    """Everything that was kept on the way is there, and the head is gone back through."""
    training = batch.training
    activations = batch.stored + batch.behind
    positions = training.rows * training.scored if training.scored else batch.tokens
    kinds = {
        "weights": states.weights + states.gathered + batch.copies(len(batch.kept)),
        "gradients": _standing(batch, states) + _head_gradient(batch),
        "activations": activations,
        "logits": head_bytes(batch.shape, positions, states.numerics, batch.launch, backward=True),
    }
    come = 0.0 if batch.launch.sharded else max(0.0, _standing(batch, states) - 4.0 * batch.shape.around)
    return _Moment("the head", kinds, activations + _gathered(batch, states), come)


def _way_back(batch: Batch, states: States) -> Iterator[_Moment]:
    """Block by block from the last: activations go as gradients come."""
    shape, standing, head = batch.shape, _standing(batch, states), _head_gradient(batch)
    frozen = states.trained < shape.parameters
    # A full bucket is averaged on the way; the rest when the way back is done.
    reducing = states.reducing if states.trained > BUCKET else 0.0
    come = 0.0
    for index in reversed(range(len(batch.kept))):
        own = 0.0 if frozen else 4.0 * shape.block_parameters[index]
        come += own
        activations = batch.alive(index)
        kinds = {
            "weights": states.weights + states.gathered + batch.copies(index + 1),
            "gradients": standing + own if standing or frozen else head + come,
            "activations": activations,
            "buffers": reducing,
        }
        heap = own if batch.launch.sharded else come
        yield _Moment("the way back", kinds, activations + _gathered(batch, states), heap)


def _update(batch: Batch, states: States) -> Iterator[_Moment]:
    """Gradients are averaged over the devices, and the optimizer takes its step."""
    if batch.launch.deepspeed:
        yield _Moment(
            "averaging gradients",
            {"weights": states.weights, "gradients": states.gradients, "buffers": states.reducing},
        )
    blocks = sum(batch.shape.block_parameters) if states.trained == batch.shape.parameters else 0
    yield _Moment(
        "the update",
        {"weights": states.weights, "gradients": states.gradients + states.updating},
        come=0.0 if batch.launch.sharded else 4.0 * blocks,
    )
