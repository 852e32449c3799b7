"""Which step of a run is kept: the best on held-out tasks of all environments together.

A step may be kept only if no environment fell: the interval of its paired difference to the parent may
not lie wholly below 0. The parent itself is step 0, so that a run which helps nowhere changes nothing.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from alloy.artifact import is_main_process, write_atomically
from alloy.evaluate.statistics import mean_interval, paired_difference

Scores = Mapping[str, Mapping[str, float]]
"""By environment, by task id."""


class Selection:
    """The steps of a run that were measured, in `validation.json`, and the weights of those that may win.

    The main process writes; all of them decide alike.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "validation.json"
        self.weights = folder / "best"
        self.entries: list[dict[str, Any]] = []
        if self.path.is_file():
            self.entries = json.loads(self.path.read_text())["steps"]

    def rewind(self, step: int) -> None:
        """Forget what was measured after the step that a run goes on from."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def measured(self, step: int) -> bool:
        return any(entry["step"] == step for entry in self.entries)

    def take(self, step: int, scores: Scores, beside: Mapping[str, Scores] | None = None) -> bool:
        """Enter a step's scores; whether it is the best so far, and its weights are to be written.

        Args:
            beside: what else was measured, by name; shown, and nothing is chosen by it.
        """
        parent = self.entries[0]["environments"] if self.entries else {}
        environments = {label: _cell(mine, parent.get(label)) for label, mine in scores.items()}
        fell = [label for label, cell in environments.items() if cell.get("gain", {}).get("high", 0.0) < 0]
        self.entries.append(
            {
                "step": step,
                "mean": fmean(cell["value"] for cell in environments.values()),
                "fell": fell,
                "environments": environments,
                "beside": self._beside(beside or {}),
            }
        )
        if is_main_process():
            write_atomically(self.path, json.dumps({"kept": self.kept(), "steps": self.entries}, indent=1))
        return bool(step and self.kept() == step)

    def _beside(self, beside: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
        parent = self.entries[0].get("beside", {}) if self.entries else {}
        return {
            name: {
                label: _cell(mine, parent.get(name, {}).get(label)) for label, mine in found.items() if mine
            }
            for name, found in beside.items()
        }

    def kept(self, until: int | None = None) -> int:
        """The step with the best mean of those where nothing fell; of equal ones the first."""
        there = [e for e in self.entries if until is None or e["step"] <= until]
        allowed = [entry for entry in there if not entry["fell"]]
        return int(max(allowed, key=lambda entry: (entry["mean"], -entry["step"]))["step"]) if allowed else 0

    def waited(self) -> int:
        """Measurements since the step that is the best so far."""
        kept = self.kept()
        return sum(entry["step"] > kept for entry in self.entries)

    def entry(self, step: int) -> dict[str, Any]:
        return next(entry for entry in self.entries if entry["step"] == step)

    def folder(self, step: int) -> Path:
        return self.weights / f"step-{step}"

    def clean(self, checkpoint: int) -> None:
        """Remove weights that a run going on from this checkpoint could not keep any more."""
        if not is_main_process() or not self.weights.is_dir():
            return
        for folder in self.weights.iterdir():
            if int(folder.name.rpartition("-")[2]) < self.kept(checkpoint):
                shutil.rmtree(folder, ignore_errors=True)

    def metrics(self) -> dict[str, float]:
        """What the artifact says of the choice; empty where nothing was measured."""
        if not self.entries:
            return {}
        kept, parent = self.entry(self.kept()), self.entries[0]
        found = {"validation/kept_step": float(kept["step"])}
        for label, cell in kept["environments"].items():
            found[f"validation/{label}/parent"] = parent["environments"][label]["value"]
            found[f"validation/{label}/kept"] = cell["value"]
            for key, value in cell.get("gain", {}).items():
                found[f"validation/{label}/gain/{key}"] = value
        return found


def _cell(mine: Mapping[str, float], parent: Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {**asdict(mean_interval(list(mine.values()))), "items": dict(mine)}
    if parent is not None:
        both = [task for task in mine if task in parent["items"]]
        gain = paired_difference([mine[task] for task in both], [parent["items"][task] for task in both])
        told["gain"] = {"value": gain.value, "low": gain.low, "high": gain.high}
    return told
