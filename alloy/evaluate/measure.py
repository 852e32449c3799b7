"""Every model on every suite: results item by item, differences to the parents, one table."""

import json
import shutil
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from alloy.artifact import Artifact, Parent, Run, fingerprint_json, write_atomically
from alloy.environments.registry import Environments, fingerprint_environment
from alloy.errors import InputError, StageError
from alloy.evaluate.against import answers_of, prompts_of, win_rates
from alloy.evaluate.config import EvaluateConfig, SuiteConfig
from alloy.evaluate.lengths import fitted_tasks
from alloy.evaluate.suites import FORM, SuiteResult, measure_suite
from alloy.evaluate.summary import summarise
from alloy.evaluate.table import render
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import RewardModel
from alloy.policy import device_name, load_tokenizer
from alloy.rollout.engine import Engine
from alloy.rollout.factory import open_engine
from alloy.stage import say


def train(config: EvaluateConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    """Measure; named `train` as every stage's work is."""
    judge = _judge(config)
    _check(config, parents)
    _begin(run)
    models = {name: parents[name] for name in config.models}
    results: dict[str, dict[str, SuiteResult]] = {}
    for name, parent in models.items():
        began = time.time()
        results[name] = measure_model(parent, config, run)
        told = "  ".join(f"{suite} {100 * r.interval().value:.1f}" for suite, r in results[name].items())
        say(f"  {name:14} {told}  ({time.time() - began:.0f} s)")
    summary = summarise(results, {name: _compared_with(name, models, config) for name in models}, config)
    summary["files"] = _files(models, config)
    _remove_others(run.folder / "items", summary["files"])
    summary["win_rates"] = _win_rates(config, parents, results, judge)
    write_atomically(run.folder / "results.json", json.dumps(summary, indent=1))
    write_atomically(run.folder / "table.txt", render(summary))
    metrics = {f"{s}/{u}": cell["value"] for s, row in summary["cells"].items() for u, cell in row.items()}
    metrics |= {
        f"win_rate/{row['stage']}/{row['by']}/{key}": row[key]["value"]
        for row in summary["win_rates"]
        for key in ("plain", "controlled")
        if key in row
    }
    errors = sum(result.errors for row in results.values() for result in row.values())
    return run.finish("evaluation", {**metrics, "errors": errors}, device=device_name())


def _judge(config: EvaluateConfig) -> Judge | None:
    """The judge of the win rates, asked once before anything is measured.

    Raises:
        InputError: it does not answer.
    """
    if config.win_rate is None or config.win_rate.judge is None:
        return None
    judge = Judge(config.win_rate.judge.model_copy(update={"both_orders": True}))
    judge.prepare()
    return judge


def _win_rates(
    config: EvaluateConfig,
    parents: dict[str, Parent],
    results: dict[str, dict[str, SuiteResult]],
    judge: Judge | None,
) -> list[dict[str, Any]]:
    given = config.win_rate
    if given is None:
        return []
    answers = {
        name: answers_of(row[given.suite], load_tokenizer(parents[name].path))
        for name, row in results.items()
    }
    scorer = RewardModel(parents["reward_model"].path) if config.reward_model else None
    return win_rates(given, prompts_of(config.suites[given.suite]), answers, scorer, judge)


def _check(config: EvaluateConfig, parents: dict[str, Parent]) -> None:
    """Make every suite's tasks once: bad data ends here, before a folder is touched or a model loaded.

    Raises:
        InputError: with file and line; or lengths that a model has no positions or a task no room for.
    """
    for name, suite in config.suites.items():
        if not suite.lengths:
            made = Environments.make({suite.environment: suite.options})
            made[suite.environment].tasks(suite.split, suite.items, 0)  # type: ignore[arg-type]
            continue
        for model in config.models:
            _refuse_longer_than(parents[model].path, name, suite)
            fitted_tasks(suite, min(suite.lengths), load_tokenizer(parents[model].path))


def _begin(run: Run) -> None:
    """Begin, and keep the items of other inputs: each file's name says what it was measured on.

    Set aside, they survive a kill between the two renames.
    """
    items, aside = run.folder / "items", run.folder.with_name(f".{run.folder.name}.items")
    if run.force or items.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    if items.is_dir() and (run.folder / "inputs.json").is_file() and not run.force:
        items.replace(aside)
    run.begin()
    if aside.is_dir():
        aside.replace(items)


def measure_model(parent: Parent, config: EvaluateConfig, run: Run) -> dict[str, SuiteResult]:
    """All suites on one model; what was already measured on these weights is read back."""
    found: dict[str, SuiteResult] = {}
    engine: Engine | None = None
    tokenizer = load_tokenizer(parent.path)
    with ExitStack() as stack:

        def opened(grace: int) -> Engine:
            nonlocal engine
            if engine is None:
                engine = stack.enter_context(open_engine(parent.path, tokenizer, config.rollout, grace))
            engine.grace = grace
            return engine

        for name, suite in config.suites.items():
            found[name] = measure_suite(
                name,
                suite,
                partial(opened, suite.grace_tokens),
                tokenizer,
                config.seed,
                run.folder / _file(parent, name, suite, config),
                config.portion_items,
            )
            if not found[name].items:
                raise StageError(
                    f"{name}: the verifier failed on all {found[name].errors} items, first with "
                    f"{found[name].completions[0]['detail']!r}. Mend what it says and run again."
                )
    return found


def _refuse_longer_than(folder: Path, name: str, suite: SuiteConfig) -> None:
    """Refuse prompts that a model has no positions for.

    Raises:
        InputError: with both numbers.
    """
    room = json.loads((folder / "config.json").read_text()).get("max_position_embeddings")
    needed = max(suite.lengths, default=0) + suite.max_completion_tokens
    if suite.lengths and isinstance(room, int) and needed > room:
        raise InputError(
            f"suites.{name}.lengths: {max(suite.lengths)} tokens and {suite.max_completion_tokens} of completion, and "
            f"{folder} has positions for {room} (max_position_embeddings). Ask for shorter ones."
        )


def _file(parent: Parent, name: str, suite: SuiteConfig, config: EvaluateConfig) -> str:
    """Where a suite's items on a model are kept, by all that they depend on."""
    what = [
        FORM,
        parent.lineage.fingerprint,
        name,
        suite.model_dump(mode="json"),
        fingerprint_environment(suite.environment, suite.options),
        config.rollout.model_dump(mode="json"),
        config.portion_items,
        config.seed,
    ]
    return f"items/{name}-{fingerprint_json(what)[:16]}.jsonl"


def _files(models: dict[str, Parent], config: EvaluateConfig) -> dict[str, dict[str, str]]:
    """By model and suite where the items are."""
    return {
        model: {name: _file(parent, name, suite, config) for name, suite in config.suites.items()}
        for model, parent in models.items()
    }


def _compared_with(name: str, models: dict[str, Parent], config: EvaluateConfig) -> list[str]:
    """What a model was made from, and what the config compares it with."""
    return list(dict.fromkeys([*_stage_parents(name, models), *config.compare.get(name, [])]))


def _stage_parents(name: str, models: dict[str, Parent]) -> list[str]:
    """The measured models that a model was made from, in the order of its parents.

    They are known by their weights; of several with equal ones, the folder decides.
    """
    made = models[name].artifact
    found: list[str] = []
    for lineage in made.parents.values() if made else []:
        same = [
            other
            for other, model in models.items()
            if other != name and model.lineage.fingerprint == lineage.fingerprint
        ]
        found += ([other for other in same if models[other].lineage.path == lineage.path] or same)[:1]
    return found


def _remove_others(items: Path, files: dict[str, dict[str, str]]) -> None:
    """Remove items that no result is made of any more."""
    kept = {Path(file).name for row in files.values() for file in row.values()}
    for path in items.iterdir():
        if path.name not in kept:
            path.unlink()


def read_results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found
