"""The suites of EleutherAI's lm-evaluation-harness: its command line, called on a model folder."""

import importlib.util
import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alloy.errors import InputError, StageError
from alloy.evaluate.statistics import Interval

_MODELS = {"transformers": "hf", "vllm": "vllm"}
_NORMAL = 1.959964
"""Of a 95% interval."""


def run_harness(
    folder: Path, tasks: str, out: Path, engine: str, items: int | None, seed: int, more: str = ""
) -> list[dict[str, Any]]:
    """Measure a model folder on tasks of lm-eval; what it writes lies in `out`/lm-eval.

    Args:
        tasks: as lm-eval names them, by comma.
        items: of each task at most.
        more: arguments of lm-eval's own, as on its command line.
    Returns: `task`, `metric` and the interval of each, from the standard error that lm-eval gives.
    Raises:
        InputError: lm-eval is not installed.
        StageError: it failed; what it said stands on standard error.
    """
    refuse_without_harness()
    written = out / "lm-eval"
    arguments = ["--model", _MODELS[engine], "--model_args", f"pretrained={folder}"]
    arguments += [
        "--tasks",
        tasks,
        "--output_path",
        str(written),
        "--seed",
        str(seed),
        "--apply_chat_template",
    ]
    arguments += ["--limit", str(items)] if items is not None else []
    ended = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *arguments, *shlex.split(more)],
        # Standard output is for our own results.
        stdout=sys.__stderr__,
        check=False,
    )
    if ended.returncode:
        raise StageError(f"lm-eval ended with status {ended.returncode}. What it said stands above.")
    results = sorted(written.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    if not results:
        raise StageError(f"lm-eval wrote no results into {written}. What it said stands above.")
    return read_harness(results[-1])


def refuse_without_harness() -> None:
    """
    Raises:
        InputError: lm-eval is not installed, and how it is.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            '--lm-eval: lm-eval is not installed. `pip install "lm-eval[hf]"` into the environment that runs Alloy; '
            "Alloy itself does not need it."
        )


def read_harness(path: Path) -> list[dict[str, Any]]:
    """Every metric of a results file that has a standard error.

    Raises:
        StageError: the file is none of this version's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        counts = found["n-samples"]
        return [
            {"task": task, "metric": name.replace(",none", ""), **asdict(interval)}
            for task, metrics in found["results"].items()
            for name, value in metrics.items()
            if (interval := _interval(metrics, name, value, counts.get(task, {}).get("effective", 0)))
        ]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise StageError(f"{path}: no results of lm-eval 0.4 ({error}).") from None


def _interval(metrics: dict[str, Any], name: str, value: Any, n: int) -> Interval | None:
    metric, comma, of_filter = name.partition(",")
    error = metrics.get(f"{metric}_stderr{comma}{of_filter}")
    if not isinstance(value, int | float) or not isinstance(error, int | float):
        return None
    return Interval(float(value), value - _NORMAL * error, value + _NORMAL * error, n)
