"""The merge stage from top to bottom: parents, alpha, the merged model, artifact."""

from alloy.artifact import Artifact, Kind, Parent, Run
from alloy.policy import device_name
from alloy.stage import say
from merge.checkpoint import Checkpoint, from_parent
from merge.choose import Point
from merge.config import MergeConfig, SweepConfig
from merge.preflight import preflight
from merge.stream import merge_checkpoints
from merge.suites import evaluator, measure_of
from merge.sweep import Sweep, sweep


def train(config: MergeConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    """Find alpha, or take the given one, and merge; named `train` as every stage's work is."""
    reasoning = from_parent(parents["reasoning"], "reasoning")
    chat = from_parent(parents["chat"], "chat")
    # A pair that cannot be merged is refused before anything that was here is touched.
    preflight(reasoning, chat, donor=config.donor, dtype=config.dtype)
    run.begin()
    swept = find_alpha(config, config.sweep, run, reasoning, chat) if config.sweep else None
    alpha = swept.choice.alpha if swept else float(config.alpha or 0.0)
    report = merge_checkpoints(
        reasoning,
        chat,
        alpha,
        run.folder / "model",
        donor=config.donor,
        dtype=config.dtype,
        max_shard_bytes=config.max_shard_bytes,
        replace=True,
        table=swept.markdown() if swept else "",
    )
    metrics = {"alpha": alpha, "tensors": report.tensors, "bytes": report.bytes}
    notes: dict[str, object] = {"merge": report.notes, "shards": report.shards}
    if swept:
        metrics |= {"product": swept.choice.product, **swept.choice.means}
        notes["sweep"] = swept.summary()
    return run.finish(_kind(parents), metrics, device=device_name(), notes=notes)


def find_alpha(
    config: MergeConfig, asked: SweepConfig, run: Run, reasoning: Checkpoint, chat: Checkpoint
) -> Sweep:
    """Sweep the config's alphas; every point is logged as it is found."""

    def tell(point: Point) -> None:
        step = asked.alphas.index(point.alpha)
        run.log(step, {"alpha": point.alpha, "product": point.product, **point.means})
        told = "  ".join(f"{suite} {100 * mean:.1f}" for suite, mean in point.means.items())
        say(f"  alpha {point.alpha:<5g} {told}  product {100 * point.product:.1f}")

    found = sweep(
        reasoning,
        chat,
        asked.alphas,
        evaluator(asked.suites, asked.batch_size, config.seed),
        measure=measure_of(asked.suites, config.seed),
        out=run.folder,
        # Beside the run folder, which is emptied when the config changes: a finer grid reuses the points.
        points=run.folder.with_name(f"{run.folder.name}.points"),
        rule=asked.rule,
        donor=config.donor,
        dtype=config.dtype,
        progress=tell,
    )
    reused = f"{found.reused} of {len(found.points)} points reused"
    say(f"  chosen: alpha {found.choice.alpha:g} by the rule {found.rule}; {reused}")
    return found


def _kind(parents: dict[str, Parent]) -> Kind:
    kinds = {parent.artifact.kind for parent in parents.values() if parent.artifact}
    return "reward-model" if kinds == {"reward-model"} else "policy"
