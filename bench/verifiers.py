"""Math completions judged a second, beside TRL's accuracy_reward, and what hostile ones cost the others.

The same completions on the same machine, the two in turn. TRL judges in this process; Alloy in workers
that are killed when a completion takes too long. TRL is not given the hostile ones: its limit is a signal
to the main thread, which trainers with asynchronous rewards do not judge in.
"""

import random
import time
from typing import Any

from bench.outcome import parser, ratio_interval, tell

HOSTILE = (
    "The answer is $9^{9^{9^{9}}}$.",
    "The answer is \\boxed{" + "9" * 100_000 + "}.",
    "The answer is \\boxed{" + "(" * 5_000 + "1" + ")" * 5_000 + "}.",
    "\\boxed{" + "{" * 20_000 + "}",
    "The answer is \\boxed{" + "\\frac{1}{" * 300 + "2" + "}" * 300 + "}.",
    "The answer is \\boxed{(x+1)^{99999999}}.",
)
"""Nested powers, answers of 100,000 characters, deep brackets."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--completions", type=int, default=20_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--limit", type=float, default=2.0, help="seconds, for each completion")
    given = arguments.parse_args()
    rows = easy(given.completions)
    found: dict[str, list[float]] = {"ours": [], "trl": [], "hostile": []}
    hostile_rows, hostile = with_hostile(rows, share=0.01)
    statuses: dict[str, int] = {}
    for run in range(given.runs):
        order = ("ours", "trl") if run % 2 == 0 else ("trl", "ours")
        for name in order:
            found[name].append(ours(rows, given)[0] if name == "ours" else trl(rows))
        seconds, verdicts = ours(hostile_rows, given)
        found["hostile"].append(seconds)
        for verdict in (verdicts[index] for index in hostile):
            statuses[verdict.status] = statuses.get(verdict.status, 0) + 1
        wrong = [v for i, v in enumerate(verdicts) if i not in hostile and v.reward is None]
        if wrong:
            raise SystemExit(f"{len(wrong)} easy completions were not judged beside hostile ones: {wrong[0]}")
    ratio, low, high = ratio_interval([b / a for a, b in zip(found["ours"], found["trl"], strict=True)])
    allowed = given.limit * len(hostile) / given.workers
    slower = [b - a for a, b in zip(found["ours"], found["hostile"], strict=True)]
    result: dict[str, Any] = {
        "ratio": ratio,
        "ratio_interval": [low, high],
        "ours_completions_per_second": len(rows) * given.runs / sum(found["ours"]),
        "trl_completions_per_second": len(rows) * given.runs / sum(found["trl"]),
        "hostile": len(hostile),
        "slower_by_seconds": max(slower),
        "allowed_seconds": allowed,
        "hostile_statuses": statuses,
    }
    table = [
        ["Alloy, judged a second", f"{result['ours_completions_per_second']:,.0f}"],
        ["TRL, judged a second", f"{result['trl_completions_per_second']:,.0f}"],
        ["ratio", f"{ratio:.2f} [{low:.2f}, {high:.2f}]"],
        [f"slower with {len(hostile)} hostile ones, s", f"{max(slower):.1f} of {allowed:.0f} allowed"],
        ["their verdicts", ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))],
    ]
    tell(f"{len(rows):,} math completions", ["", ""], table, result, given.json)


def easy(count: int) -> list[dict[str, str]]:
    """Boxed numbers, fractions and roots with a line of reasoning; a third of them wrong."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        a, b = rng.randint(2, 999), rng.randint(2, 99)
        gold = rng.choice((f"{a}", f"\\frac{{{a}}}{{{b}}}", f"{a}.{b}", f"{a}\\sqrt{{{b}}}", f"-{a}"))
        said = gold if rng.random() < 2 / 3 else f"{a + 1}"
        text = f"We take {a} and then {b}, and find what was asked. The answer is $\\boxed{{{said}}}$."
        rows.append({"completion": text, "gold": f"${gold}$"})
    return rows


def with_hostile(rows: list[dict[str, str]], share: float) -> tuple[list[dict[str, str]], set[int]]:
    """The rows with some completions replaced, and which."""
    chosen = random.Random(1).sample(range(len(rows)), int(len(rows) * share))
    changed = list(rows)
    for number, index in enumerate(chosen):
        changed[index] = rows[index] | {"completion": HOSTILE[number % len(HOSTILE)]}
    return changed, set(chosen)


def ours(rows: list[dict[str, str]], given: Any) -> tuple[float, list[Any]]:
    """Seconds to judge all rows, the workers' start left out as the peer's imports are."""
    from alloy.verify.pool import VerifierPool

    with VerifierPool(given.workers, given.limit) as pool:
        pool.judge("math", rows[:4])
        began = time.perf_counter()
        verdicts = pool.judge("math", rows)
        return time.perf_counter() - began, verdicts


def trl(rows: list[dict[str, str]]) -> float:
    from trl.rewards import accuracy_reward

    completions = [[{"role": "assistant", "content": row["completion"]}] for row in rows]
    solutions = [row["gold"] for row in rows]
    accuracy_reward(completions[:4], solutions[:4])
    began = time.perf_counter()
    accuracy_reward(completions, solutions)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
