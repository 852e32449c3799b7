"""A plan for people: two tables, what does not fit, and what to know of the numbers."""

from collections.abc import Sequence

from alloy.config import StageConfig, TrainingConfig
from alloy.plan.launch import Launch
from alloy.plan.phase import KINDS
from alloy.plan.recipe import StagePlan
from alloy.plan.remedy import Remedy

_SHOWN = {"weights": "weights", "gradients": "gradients", "optimizer": "optimizer", "activations": "activations",
          "logits": "logits", "cache": "KV cache", "models": "other models", "buffers": "buffers"}  # fmt: skip
_SAID = 8
"""Notes of all stages that are told one by one."""


def render(
    recipe: str, plans: Sequence[StagePlan], launch: Launch, remedies: dict[str, Remedy | None]
) -> str:
    lines = [_heading(recipe, launch), "", *_work_table(plans), "", *_memory_table(plans, launch)]
    verdict = _verdicts(plans, launch, remedies)
    notes = _notes(plans, launch)
    return "\n".join([*lines, *(["", *verdict] if verdict else []), "", *notes])


def _heading(recipe: str, launch: Launch) -> str:
    kind = "process on a CPU" if launch.cpu else "device"
    many = f"{launch.devices} {kind}{'' if launch.devices == 1 else 'es' if launch.cpu else 's'}"
    many = many.replace("process on a CPUes", "processes on a CPU")
    of = f" of {size(launch.device_memory)}" if launch.device_memory else ""
    sharding = f", {launch.sharding}" if launch.sharded else ""
    offload = f", {launch.offload} offloaded" if launch.offload != "none" else ""
    return f"{recipe}: {many}{of}{sharding}{offload}"


def _work_table(plans: Sequence[StagePlan]) -> list[str]:
    rows = [["stage", "parameters", "steps", "sequence", "trained", "scored", "sampled", "FLOPs", "training",
             "sampling", "disk"]]  # fmt: skip
    for plan in plans:
        training, compute, shape = plan.work.training, plan.compute, plan.shape
        rows.append(
            [
                plan.stage,
                _parameters(plan) if shape else "",
                f"{training.steps:,}" if training else "",
                f"{training.length:,}" if training else "",
                *(count(tokens) for tokens in (compute.trained, compute.scored, compute.sampled)),
                f"{compute.operations:.1e}" if compute.operations else "",
                duration(compute.training_seconds),
                duration(compute.sampling_seconds),
                _disk(plan),
            ]
        )
    total = [
        "all", "", "", "",
        *(count(sum(getattr(p.compute, name) for p in plans)) for name in ("trained", "scored", "sampled")),
        f"{sum(p.compute.operations for p in plans):.1e}",
        duration(sum(p.compute.training_seconds for p in plans)),
        duration(sum(p.compute.sampling_seconds for p in plans)),
        size(sum(p.disk.stays for p in plans) + max((p.disk.passes for p in plans), default=0)),
    ]  # fmt: skip
    return aligned([*rows, total])


def _parameters(plan: StagePlan) -> str:
    assert plan.shape is not None
    shape = plan.shape
    active = f" ({count(shape.active)} active)" if shape.active != shape.parameters else ""
    return count(shape.parameters) + active


def _disk(plan: StagePlan) -> str:
    if not plan.disk.stays and not plan.disk.passes:
        return ""
    more = f" + {size(plan.disk.passes)}" if plan.disk.passes else ""
    return size(plan.disk.stays) + more


def _memory_table(plans: Sequence[StagePlan], launch: Launch) -> list[str]:
    shown = [kind for kind in KINDS if any(plan.memory.most(kind) for plan in plans)]
    rows = [["memory a device", *(_SHOWN[kind] for kind in shown), "peak", "while"]]
    for plan in plans:
        if not plan.memory.phases:
            continue
        peak = plan.memory.peak
        fit = "" if plan.fits(launch) else "  does not fit"
        cells = (size(plan.memory.most(kind)) if plan.memory.most(kind) else "" for kind in shown)
        rows.append([plan.stage, *cells, size(peak.bytes), peak.name + fit])
    return aligned(rows, last_left=True)


def _verdicts(plans: Sequence[StagePlan], launch: Launch, remedies: dict[str, Remedy | None]) -> list[str]:
    found = []
    for plan in plans:
        if plan.stage not in remedies:
            continue
        remedy, peak = remedies[plan.stage], plan.memory.peak
        told = f"{plan.stage} does not fit: {size(peak.bytes)} while {peak.name}, {size(launch.usable)} are usable."
        if remedy is None:
            told += " Nothing that can be set makes it fit: take larger devices, or more of them."
        else:
            told += f" It fits with {remedy.told(launch)}: {size(remedy.plan.memory.peak.bytes)}."
            if remedy.plan.memory.host:
                told += f" {size(remedy.plan.memory.host)} a device then lie in the machine's memory."
        found.append(told)
    return found


def _notes(plans: Sequence[StagePlan], launch: Launch) -> list[str]:
    lines = [
        f"Times: training and scoring at {launch.mfu:.0%} of {launch.flops / 1e12:,.0f} TFLOP/s a device, sampling at "
        f"{launch.mbu:.0%} of {launch.bandwidth / 1e12:.2f} TB/s; --mfu, --device-flops, --mbu, --device-bandwidth.",
        "Kinds of memory are not all there at once: the peak is of the largest moment. Disk: what stays + what passes.",
    ]
    float32 = [p.stage for p in plans if p.work.training and p.work.training.precision == "float32"]
    if float32:
        lines.append(
            f"In float32 (train.precision): {', '.join(float32)}; a device has fewer operations of those than of "
            "bfloat16, which the times are of."
        )
    lines += _means(plans, launch)
    if launch.usable is not None:
        lines.append(
            f"Of a device {launch.reserve:.0%} are left to its driver and its allocator (--reserve)."
        )
    if any(plan.work.sampling for plan in plans):
        lines.append(
            f"A prompt is planned with {launch.prompt_tokens} tokens (--prompt-tokens), a completion as long as it may be."
        )
    if any(plan.memory.host for plan in plans):
        most = max(plan.memory.host for plan in plans)
        lines.append(f"In the machine's memory: {size(most)} at most, for each of its devices.")
    lines += [f"{plan.stage}: {note}" for plan in plans for note in plan.notes]
    return lines


def _means(plans: Sequence[StagePlan], launch: Launch) -> list[str]:
    """How training is computed on a GPU, where that follows the device."""
    if launch.cpu or not any(plan.work.training for plan in plans):
        return []
    lines = [
        "On a GPU: attention by FlashAttention's kernels or PyTorch's own; liger-kernel's fused kernels where it is "
        "installed (train.fused_kernels), which memory is planned without."
    ]
    if any(plan.work.training and plan.shape and plan.shape.hybrid for plan in plans):
        lines.append(
            "Mamba layers are planned with the kernels of mamba_ssm and causal_conv1d, which are in no lock: install them "
            "there."
        )
    decided = [plan for plan in plans if _decides_by_need(plan.config)]
    if decided and launch.usable is None:
        lines.append(
            "Gradient checkpointing is decided by the device's memory (train.gradient_checkpointing): planned without; "
            "--device-memory."
        )
    elif decided:
        on, off = ([p.stage for p in decided if p.checkpoints is told] for told in (True, False))
        told = [f"{word} in {', '.join(stages)}" for word, stages in (("on", on), ("off", off)) if stages]
        lines.append(f"Gradient checkpointing by need (train.gradient_checkpointing): {'; '.join(told)}.")
    return lines


def _decides_by_need(config: StageConfig) -> bool:
    return isinstance(config, TrainingConfig) and config.train.gradient_checkpointing == "auto"


def aligned(rows: Sequence[Sequence[str]], *, last_left: bool = False) -> list[str]:
    """Columns to the right, the first to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for column in range(1, len(row)):
            last = last_left and column == len(row) - 1
            cells.append(row[column] if last else row[column].rjust(widths[column]))
        lines.append("  ".join(cells).rstrip())
    return lines


def count(number: float) -> str:
    """1,234 as it is; from ten thousand on with three digits and a prefix."""
    if not number:
        return ""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            scaled = number / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:,.0f}{unit}"
    return f"{number:,.0f}"


def size(number: float | None) -> str:
    """Bytes in powers of two."""
    value = float(number or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    if not seconds:
        return ""
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
