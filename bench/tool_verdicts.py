"""Verdicts on tool use a second: ours beside WorkBench's rule in pandas.

The same recorded calls, half of them wrong, on the same tables, the two in turn; every verdict must be the
same. The rule in pandas is the one that the tests compare with (tests/environments/workbench_oracle.py): it
reads the files once and copies frames. Both replay a query's gold calls for every verdict. The workplace,
which has tables of its own and no peer, is judged beside it in companies of WorkBench's size.
"""

import importlib.util
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.outcome import parser, ratio_interval, tell

ORACLE = Path(__file__).parents[1] / "tests" / "environments" / "workbench_oracle.py"
TABLES = {
    "events": "calendar",
    "inbox": "email",
    "customers": "customers",
    "tasks": "tasks",
    "visits": "analytics",
}
"""Of the workplace, and which of WorkBench's it is made as large as."""
TARGET_MILLISECONDS = 1.0


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the folder with WorkBench's files, which are not part of Alloy",
    )
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    rows = recorded(given.data)
    pandas_rule = oracle()
    played = workplace(given.data, len(rows))
    found: dict[str, list[float]] = {"ours": [], "pandas": [], "workplace": []}
    for run in range(given.runs):
        order = ("ours", "pandas") if run % 2 == 0 else ("pandas", "ours")
        verdicts = {}
        for name in order:
            judged = ours(given.data, rows) if name == "ours" else beside(pandas_rule, given.data, rows)
            seconds, verdicts[name] = judged
            found[name].append(seconds / len(rows))
        if verdicts["ours"] != verdicts["pandas"]:
            raise SystemExit("the verdicts differ: nothing is measured")
        found["workplace"].append(judge_workplace(played) / len(played))
    ratio, low, high = ratio_interval([b / a for a, b in zip(found["ours"], found["pandas"], strict=True)])
    milliseconds = {name: 1000 * sum(each) / len(each) for name, each in found.items()}
    result: dict[str, Any] = {
        "ratio": ratio,
        "ratio_interval": [low, high],
        **{f"{name}_verdicts_per_second": 1000 / spent for name, spent in milliseconds.items()},
        **{f"{name}_milliseconds": spent for name, spent in milliseconds.items()},
        "verdicts": len(rows),
        "within_target": max(milliseconds["ours"], milliseconds["workplace"]) <= TARGET_MILLISECONDS,
    }
    names = {
        "ours": "WorkBench's rule, ours",
        "pandas": "WorkBench's rule in pandas",
        "workplace": "workplace",
    }
    table = [
        [name, f"{result[f'{key}_verdicts_per_second']:,.0f}", f"{milliseconds[key]:.3f}"]
        for key, name in names.items()
    ]
    table.append(["ours / pandas", f"{ratio:.0f} [{low:.0f}, {high:.0f}]", ""])
    tell(f"{len(rows)} verdicts on tool use", ["", "verdicts a second", "ms"], table, result, given.json)


def recorded(data: Path) -> list[dict[str, Any]]:
    """A row a query: its gold calls, or in turn those of the query before it."""
    from alloy.environments.workbench import load_tasks

    tasks = load_tasks(data)
    return [
        {"calls": tasks[i - i % 2].gold["calls"], "gold": task.gold["calls"]} for i, task in enumerate(tasks)
    ]


def ours(data: Path, rows: list[dict[str, Any]]) -> tuple[float, list[bool]]:
    """Seconds and verdicts; a judge of its own each time, so that no gold state is known beforehand."""
    from alloy.environments.workbench import row_verifier

    verify = row_verifier(data)
    began = time.perf_counter()
    verdicts = [verify(row) for row in rows]
    return time.perf_counter() - began, [verdict.reward == 1.0 for verdict in verdicts]


def oracle() -> Any:
    spec = importlib.util.spec_from_file_location("workbench_oracle", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def beside(rule: Any, data: Path, rows: list[dict[str, Any]]) -> tuple[float, list[bool]]:
    rule.is_correct(data, [], [])
    began = time.perf_counter()
    verdicts = [bool(rule.is_correct(data, row["calls"], row["gold"])) for row in rows]
    return time.perf_counter() - began, verdicts


def workplace(data: Path, count: int) -> list[tuple[Any, Any, Any]]:
    """Tasks in companies as large as WorkBench's, and the worlds that half of the demonstrations left."""
    from alloy.environments.workbench_tables import read_state
    from alloy.environments.workplace import WorkplaceEnvironment, replay

    state = read_state(data)
    sizes = {table: len(getattr(state, name).rows) for table, name in TABLES.items()}
    environment = WorkplaceEnvironment(rows_per_table=100)
    played = []
    for number, task in enumerate(environment.tasks("train", count, 0)):
        tables = enlarged(task.gold["tables"], sizes)
        large = replace(task, gold={**task.gold, "tables": tables})
        turns = large.demonstration if number % 2 else large.demonstration[:-2]
        played.append((environment, large, replay(environment.open(large), turns)))
    return played


def enlarged(tables: dict[str, dict[str, Any]], sizes: dict[str, int]) -> dict[str, dict[str, Any]]:
    """With further rows that no request speaks of, under ids above all that are there."""
    free = 1 + max(int(key) for table in tables.values() for key in table)
    grown = {}
    for name, table in tables.items():
        width = len(next(iter(table.values()), ()))
        more = max(0, sizes.get(name, 0) - len(table))
        grown[name] = {**table, **{str(free + i): [f"row {i}"] * width for i in range(more)}}
        free += more
    return grown


def judge_workplace(played: list[tuple[Any, Any, Any]]) -> float:
    began = time.perf_counter()
    for environment, task, world in played:
        environment.judge(task, [], world)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
