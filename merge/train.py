"""The merge stage from top to bottom: parents, what varies, the merged model, artifact."""

from alloy.artifact import Artifact, Kind, Parent, Run
from alloy.errors import StageError
from alloy.policy import device_name
from alloy.stage import say
from merge.checkpoint import from_parent
from merge.choose import Point
from merge.config import MergeConfig, SweepConfig
from merge.linear import LinearMixture
from merge.many import MethodMixture
from merge.mixture import Mixture, Setting
from merge.suites import evaluator, measure_of
from merge.sweep import Sweep, check, sweep


def train(config: MergeConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    """Find alpha, or take the given one, and merge; named `train` as every stage's work is."""
    # Parents that cannot be merged are refused before anything that was here is touched.
    mixture = mixture_of(config, parents)
    if config.sweep is None:
        mixture.blend_at(config.alpha)
    else:
        check(mixture, config.sweep.alphas or config.sweep.values, config.sweep.groups)
    run.begin()
    swept = find_setting(config, config.sweep, run, mixture) if config.sweep else None
    setting = swept.choice.setting if swept else config.alpha
    report = mixture.write(
        setting,
        run.folder / "model",
        max_shard_bytes=config.max_shard_bytes,
        replace=True,
        table=swept.table if swept else "",
    )
    if swept and report.shards != swept.choice.shards:
        raise StageError(
            f"{report.out} is not what was evaluated: its files have other hashes. Run the stage again with --force."
        )
    metrics = {**_named(mixture, setting), "tensors": report.tensors, "bytes": report.bytes}
    notes: dict[str, object] = {"merge": report.notes, "shards": report.shards}
    if swept:
        metrics |= {
            swept.objective.name.replace(" ", "_"): swept.objective.value(swept.choice),
            **swept.choice.means,
        }
        notes["sweep"] = swept.summary()
    return run.finish(_kind(mixture), metrics, device=device_name(), notes=notes)


def mixture_of(config: MergeConfig, parents: dict[str, Parent]) -> Mixture:
    """What the config merges.

    Raises:
        InputError: the parents do not fit.
    """
    if config.method == "linear":
        reasoning, chat = (from_parent(parents[role], role) for role in ("reasoning", "chat"))
        return LinearMixture(
            reasoning, chat, donor=config.donor, dtype=config.dtype, match_tokens=config.match_tokens
        )
    return MethodMixture(
        config.method,
        config.options,
        [from_parent(parents[name], name) for name in config.models],
        from_parent(parents["base"], "base") if config.base else None,
        donor=config.donor,
        dtype=config.dtype,
        over=config.sweep.option if config.sweep else "",
    )


def find_setting(config: MergeConfig, asked: SweepConfig, run: Run, mixture: Mixture) -> Sweep:
    """Sweep the config's settings; every point is logged as it is found."""
    found: list[Point] = []

    def tell(point: Point) -> None:
        run.log(len(found), {**_named(mixture, point.setting), **point.means})
        found.append(point)
        told = "  ".join(f"{suite} {100 * mean:.1f}" for suite, mean in point.means.items())
        say(f"  {mixture.over} {point.told:<5} {told}")

    swept = sweep(
        mixture,
        asked.alphas or asked.values,
        evaluator(asked.suites, asked.batch_size, config.seed),
        measure=measure_of(asked.suites, config.seed),
        out=run.folder,
        # Beside the run folder, which is emptied when the config changes: a finer grid reuses the points.
        points=run.folder.with_name(f"{run.folder.name}.points"),
        rule=asked.rule,
        weights=asked.weights,
        groups=asked.groups,
        rounds=asked.rounds,
        max_shard_bytes=config.max_shard_bytes,
        progress=tell,
    )
    reused = f"{swept.reused} of {swept.reused + swept.evaluated} points reused"
    say(f"  chosen: {mixture.over} {swept.choice.told} by the rule {swept.rule}; {reused}")
    return swept


def _named(mixture: Mixture, setting: Setting) -> dict[str, float]:
    """A setting as numbers with names: alpha, or alpha/attention, alpha/mlp, ..."""
    if setting is None:
        return {}
    if isinstance(setting, float | int):
        return {mixture.over: setting}
    return {f"{mixture.over}/{group}": alpha for group, alpha in setting.items()}


def _kind(mixture: Mixture) -> Kind:
    made = mixture.plan.config.get("architectures") or []
    return "reward-model" if any("SequenceClassification" in kind for kind in made) else "policy"
