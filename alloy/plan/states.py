"""Weights, gradients and optimizer states of one device, by how they are divided.

    none   every device has all of them; DistributedDataParallel keeps its buckets beside the gradients
    zero2  weights whole; gradients, optimizer and its float32 weights divided
    zero3  all divided; put together while they are used
    fsdp   all divided, block by block (FSDP2)

Sources: Rajbhandari et al. 2019 (arXiv:1910.02054) for what is divided; DeepSpeed 0.19 and PyTorch 2.13 for
what they keep beside it.
"""

from dataclasses import dataclass

from alloy.plan.launch import Launch
from alloy.plan.layers import numbers
from alloy.plan.numerics import AUTOCAST, BFLOAT16, FLOAT32, Numerics
from alloy.plan.shape import Shape
from alloy.plan.work import Training

BUCKET = 500_000_000
"""Numbers of DeepSpeed's bucket for gradients (`reduce_bucket_size`), which accelerate leaves as it is."""
REUSE = 500_000_000
"""Of the weights that ZeRO-3 has put together, those used again within 1e9 numbers (`stage3_max_reuse_distance`)
stay together: on the way forward and back again these are the last 5e8."""


@dataclass(frozen=True)
class States:
    """Bytes on one device.

    Attributes:
        numerics: in what the model computes.
        trained: parameters that are updated.
        number: bytes of a weight as it computes and is saved.
        weights, gradients, optimizer: at rest.
        gathered: weights that are put together while a batch passes through.
        whole: the same while the model samples, all at once.
        buckets: for communication, all the time.
        reducing: for communication, while gradients are averaged.
        updating: while the optimizer is at work.
        loading: while weights are read and divided.
        host: in the machine's memory instead.
    """

    numerics: Numerics
    trained: int
    number: int
    weights: float
    gradients: float
    optimizer: float
    gathered: float = 0
    whole: float = 0
    buckets: float = 0
    reducing: float = 0
    updating: float = 0
    loading: float = 0
    host: float = 0


def states_of(shape: Shape, training: Training, launch: Launch) -> States:
    total, devices = shape.parameters, launch.devices
    lora, bfloat16 = training.lora, training.precision == "bfloat16"
    trained = total
    if lora is not None:
        trained = shape.adapter_parameters(lora)
    # DeepSpeed computes in weights of bfloat16 and keeps float32 ones with the optimizer.
    number = 2 if bfloat16 and launch.deepspeed else 4
    frozen = 0 if lora is None else total * (2 if training.bfloat16_base else number)
    weights = frozen + number * trained
    moments = _moments(shape, training, trained)
    if launch.sharding == "none":
        return States(
            AUTOCAST if bfloat16 and not training.bfloat16_base else BFLOAT16 if bfloat16 else FLOAT32,
            trained,
            2 if training.bfloat16_base else 4,
            weights,
            4 * trained,
            moments,
            buckets=4 * trained if devices > 1 else 0,
            updating=_stacked(shape) if training.optimizer == "muon" else 0,
            loading=frozen or weights,
        )
    if launch.sharding == "fsdp":
        computed = 2 if bfloat16 else 4
        largest = max(shape.block_parameters, default=0)
        return States(
            BFLOAT16 if bfloat16 else FLOAT32,
            trained,
            4,
            weights / devices,
            4 * trained / devices,
            moments / devices,
            # Embeddings and head stay together; of the blocks the one at work and the next.
            gathered=computed * (shape.around + 2 * largest),
            whole=computed * total,
            buckets=4 * largest,
            loading=weights / devices + 4 * largest,
        )
    return _deepspeed(shape, training, launch, trained, number, weights, moments)


def _deepspeed(
    shape: Shape,
    training: Training,
    launch: Launch,
    trained: int,
    number: int,
    weights: float,
    moments: float,
) -> States:
    devices, third = launch.devices, launch.sharding == "zero3"
    # The second stage copies float32 weights even where they are float32 already; the third does not.
    master = 4 * trained / devices if number == 2 or not third else 0
    optimizer = moments / devices + master
    at_rest = weights / devices if third else weights
    filled = number * min(trained, BUCKET)
    gathered = number * min(shape.parameters, REUSE) if third else 0
    host = 0.0
    if launch.offload != "none":
        # Gradients follow the optimizer.
        host = optimizer + 4 * trained / devices
    if launch.offload == "all":
        host += at_rest
        at_rest = 0
    off = launch.offload != "none"
    return States(
        BFLOAT16 if training.precision == "bfloat16" else FLOAT32,
        trained,
        number,
        at_rest,
        0 if off else number * trained / devices,
        0 if off else optimizer,
        gathered=gathered,
        whole=number * shape.parameters if third else 0,
        # Taken whole on a GPU; on a CPU memory that nobody has written to is not there.
        buckets=filled if launch.cpu else number * BUCKET,
        # Laid side by side for the devices; gloo copies once more.
        reducing=filled * (2 if launch.cpu else 1),
        updating=0 if off else 4 * trained / devices,
        # The whole model comes to the device and is divided, or flattened, there.
        loading=number * shape.parameters + (weights / devices if third else weights),
        host=host,
    )


def _moments(shape: Shape, training: Training, trained: int) -> float:
    """AdamW's two of every parameter; Muon's one of the hidden matrices, AdamW's of the rest."""
    if training.optimizer == "adamw":
        return 8 * trained
    hidden = sum(numbers(found) for found in shape.matrices())
    return 4 * hidden + 8 * (trained - hidden)


def _stacked(shape: Shape) -> float:
    """What Muon computes with: matrices of one shape are stacked, and the iteration has some of them at once."""
    alike: dict[tuple[int, int], int] = {}
    for found in shape.matrices():
        for sizes in found.values():
            alike[sizes] = alike.get(sizes, 0) + 1
    return max((16.0 * count * reads * writes for (reads, writes), count in alike.items()), default=0.0)
