"""What a GRPO or RLHF stage leaves in its run folder, made up: pass rates, what was drawn, what was kept."""

import random
from typing import Any

ENVIRONMENTS = ("math", "instructions", "tools")
# Tasks of an environment by rollouts passed, 0 to 4, as the parent and as later policies pass them.
PASSED = {
    "math": {0: [20, 14, 12, 10, 8], 20: [12, 12, 14, 14, 12], 40: [8, 8, 12, 16, 20]},
    "instructions": {0: [4, 8, 16, 20, 16], 20: [2, 6, 12, 20, 24], 40: [1, 3, 10, 18, 32]},
    "tools": {0: [64, 0, 0, 0, 0], 20: [40, 10, 8, 4, 2], 40: [24, 12, 12, 10, 6]},
}
CURRICULUM = {
    "rollouts": 4,
    "drop_solved": True,
    "drop_unsolved": True,
    "first_pass_rate": 0.75,
    "last_pass_rate": 0.25,
    "spread": 0.2,
    "follow": True,
    "again_every_steps": 20,
}
# Held-out outcome of every environment, in the order of ENVIRONMENTS, and where one fell.
MEASURED: dict[int, tuple[tuple[float, float, float], list[str]]] = {
    0: ((0.30, 0.55, 0.20), []),
    10: ((0.32, 0.54, 0.24), []),
    20: ((0.38, 0.42, 0.30), ["instructions"]),
    30: ((0.42, 0.58, 0.34), []),
    40: ((0.48, 0.60, 0.41), []),
    50: ((0.62, 0.46, 0.50), ["instructions"]),
    60: ((0.49, 0.59, 0.40), []),
}
HELD_OUT_TASKS = 100


def metrics(step: int, steps: int, curriculum: bool, noise: random.Random) -> dict[str, float]:
    """What the trainer and the sampler log at a step beside TRL's own."""
    at = step / steps
    row: dict[str, float] = {
        "zero_signal/rolled": 0.5 - 0.2 * at + 0.05 * noise.random(),
        "zero_signal/trained": 0.2 - 0.1 * at + 0.05 * noise.random(),
        "groups/rolled": 20 + noise.randrange(8),
        "completions/with_advantage": 0.7 + 0.2 * at + 0.05 * noise.random(),
        "sampler_gap/mean": 0.004 + 0.001 * noise.random(),
        "sampler_gap/max": 0.4 + 0.2 * noise.random(),
        "sampler_gap/effective": 0.98 - 0.01 * noise.random(),
        "verdict/unparsable": 0.2 * (1 - at) + 0.02 * noise.random(),
        "verdict/timeout": 0.01 * (step % 7 == 0),
        "verdict/error": 0.0,
    }
    for place, label in enumerate(ENVIRONMENTS):
        row[f"zero_signal/{label}"] = 0.4 + 0.1 * place - 0.2 * at + 0.05 * noise.random()
        row[f"rewards/{label}/mean"] = 0.7 - 0.35 * at + 0.05 * place + 0.04 * noise.gauss(0, 1)
        row[f"rewards/{label}/std"] = 0.3 + 0.02 * noise.random()
        if step in MEASURED:
            row[f"validation/{label}"] = MEASURED[step][0][place]
        if curriculum:
            row[f"curriculum/{label}/target"] = 0.75 - 0.5 * at
            row[f"curriculum/{label}/pass_rate"] = 0.72 - 0.45 * at + 0.03 * noise.gauss(0, 1)
    return row


def profile(step: int) -> dict[str, Any]:
    rates: dict[str, dict[str, float]] = {}
    for label in ENVIRONMENTS:
        passed = [count for count, tasks in enumerate(PASSED[label][step]) for _ in range(tasks)]
        rates[label] = {f"{label}/train/0/{i}": count / 4 for i, count in enumerate(passed)}
    return {"step": step, "rollouts": 4, "seconds": 12.5, "rates": rates}


def validation(kept: int, last: int = 60) -> dict[str, Any]:
    """Every measured step up to the last; half an interval is a tenth."""
    steps = []
    for step, (values, fell) in MEASURED.items():
        environments: dict[str, Any] = {}
        for label, value, parent in zip(ENVIRONMENTS, values, MEASURED[0][0], strict=True):
            cell: dict[str, Any] = {"value": value, "low": value - 0.1, "high": value + 0.1}
            cell |= {"n": HELD_OUT_TASKS, "items": {f"{label}/validation/0/0": 1.0}}
            if step:
                gain = value - parent
                cell["gain"] = {"value": gain, "low": gain - 0.05, "high": gain + 0.05}
            environments[label] = cell
        entry = {"step": step, "mean": sum(values) / 3, "fell": fell, "environments": environments}
        if step <= last:
            steps.append(entry)
    return {"kept": kept, "steps": steps}


def _grpo() -> dict[str, Any]:
    """Profiled three times; step 40 is kept, for at 50 an environment fell."""
    profiles = {"profile.json": profile(0), "profile-20.json": profile(20), "profile-40.json": profile(40)}
    return {**profiles, "validation.json": validation(40)}


def _rlhf() -> dict[str, Any]:
    """No curriculum, and no step without a fall that was better than the parent."""
    measured = validation(0)
    for entry in measured["steps"][1:]:
        entry["fell"] = ["tools"]
    return {"validation.json": measured}


FILES = {"grpo": _grpo(), "rlhf": _rlhf()}
