"""How a benchmark tells what it found: a table for people, and one JSON object on the last line."""

import argparse
import json
import math
import resource
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

# Student's t, two-sided 95%, for two to ten measurements.
_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def parser(about: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--json", action="store_true", help="print the JSON object alone")
    return made


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of ratios and its 95% interval (Student's t on the logarithms)."""
    logs = [math.log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return ratios[0], ratios[0], ratios[0]
    half = _T[len(logs)] * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs)), math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def peak_memory() -> float:
    """Of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def tell(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], result: dict[str, Any], alone: bool
) -> None:
    if not alone:
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        Console(width=120).print(table)
    print(json.dumps(result))
