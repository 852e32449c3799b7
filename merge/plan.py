"""What a merge does, in numbers of its config; imports no torch."""

from alloy.plan.launch import Launch
from alloy.plan.tasks import suite_sampling
from alloy.plan.work import Work
from alloy.rl_config import EngineConfig
from merge.config import MergeConfig


def work(config: MergeConfig, launch: Launch) -> Work:
    """Weights are blended on the CPU, a run at a time; a sweep holds its parents and evaluates every point."""
    start = "reasoning" if config.method == "linear" else "models"
    parents = 2 if config.method == "linear" else len(config.models) + (config.base is not None)
    sweep = config.sweep
    if sweep is None:
        return Work(start=start)
    values = len(sweep.alphas or sweep.values)
    # A search moves every group along all values, in every round at most.
    points = values + len(sweep.groups) * sweep.rounds * values
    engine = EngineConfig(batch_size=sweep.batch_size)
    sampling, notes = suite_sampling(sweep.suites.items(), engine, launch, points)
    return Work(
        start=start,
        sampling=sampling,
        host_models=parents,
        notes=(*notes, f"{points} points at most, evaluated in one process"),
    )
