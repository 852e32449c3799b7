"""Iterated DPO from top to bottom: sample, judge, pair, train, validate, again; the best is kept."""

import shutil
from statistics import fmean

from alloy.artifact import Artifact, Parent, Run, is_main_process, resolve_parent
from alloy.device import settle
from alloy.environments.registry import check_gold
from alloy.evaluate.statistics import paired_difference
from alloy.policy import device_name
from alloy.rl_sampling import make_environments
from alloy.selection import Selection
from alloy.stage import say
from dpo.config import DpoConfig
from dpo.iteration import Loop
from dpo.plan import work


def train(config: DpoConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    config = settle(config, work)
    environments = make_environments(config)
    loop = Loop(config, environments)
    # Validation is of templates that no training task has.
    for label in environments:
        known = check_gold(environments, [*loop.drawn[label], *loop.held_out[label]])
        say(f"  {label}: {len(loop.drawn[label])} tasks; the known solutions of {known} are all judged 1.0")
    run.begin()
    run.rewind(-1)
    selection = Selection(run.folder)
    selection.rewind(-1)

    best = last = parents["parent"]
    before = loop.validate(run.part("iteration-0", {}), best)
    run.log(0, before.metrics)
    selection.take(0, before.success)
    metrics: dict[str, float] = {f"{name}/0": value for name, value in before.metrics.items()}
    tokens = without_gain = 0
    for iteration in range(1, config.iterations + 1):
        step = iteration * config.train.max_steps
        part = run.part(f"iteration-{iteration}", {"parent": best.lineage})
        artifact = part.finished() or loop.iterate(part, iteration, best)
        if artifact is None:
            break
        last = resolve_parent(part.folder)
        after = loop.validate(part, last)
        run.log(step, after.metrics)
        rose = selection.take(step, after.success)
        metrics |= {f"{name}/{iteration}": value for name, value in artifact.metrics.items()}
        metrics |= {f"{name}/{iteration}": value for name, value in after.metrics.items()}
        for label, scores in after.success.items():
            gain = paired_difference(*_same_tasks(scores, before.success[label]))
            metrics |= {
                f"gain/{label}/{iteration}/{key}": getattr(gain, key) for key in ("value", "low", "high")
            }
            say(f"  iteration {iteration}: {label} {gain.percent()} points on the best before")
        tokens += artifact.tokens
        without_gain = 0 if rose else without_gain + 1
        if rose:
            best, before = last, after
        if without_gain == config.patience:
            say(f"  validation has not risen in {without_gain} iteration(s): the loop ends")
            break
    kept = selection.kept() // config.train.max_steps
    if is_main_process():
        shutil.copytree(best.path, run.folder / "model", dirs_exist_ok=True)
    success = fmean(cell["value"] for cell in selection.entry(selection.kept())["environments"].values())
    say(f"  kept iteration {kept} of {iteration}: validation success {success:.1%}")
    return run.finish(
        "policy",
        {**metrics, **selection.metrics(), "kept_iteration": kept},
        tokens=tokens,
        device=device_name(),
        notes={"kept": kept, "iterations": iteration},
    )


def _same_tasks(scores: dict[str, float], others: dict[str, float]) -> tuple[list[float], list[float]]:
    both = [task for task in scores if task in others]
    return [scores[task] for task in both], [others[task] for task in both]
