"""Packing a million lengths into sequences of 131,072 tokens: time, fill and memory."""

import time

import numpy as np

from alloy.data.packing import best_fit, next_fit
from bench.outcome import parser, peak_memory, tell

CAPACITY = 131_072


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--lengths", type=int, default=1_000_000)
    given = arguments.parse_args()
    rows, results = [], []
    for seed in range(3):
        lengths = draw(given.lengths, median=4000, above=40_000, seed=seed)
        # What is longer than a sequence stands alone: it is no part of the packing.
        lengths = lengths[lengths <= CAPACITY]
        for name, fit in (("best fit", best_fit), ("next fit", next_fit)):
            began = time.perf_counter()
            bins = fit(lengths, CAPACITY)
            seconds = time.perf_counter() - began
            fill = lengths.sum() / (len(bins) * CAPACITY)
            rows.append([name, str(seed), f"{seconds:.2f}", f"{100 * fill:.3f}", f"{len(bins):,}"])
            if fit is best_fit:
                results.append((seconds, fill))
    result = {
        "seconds": max(seconds for seconds, _ in results),
        "fill": min(float(fill) for _, fill in results),
        "peak_memory_gib": peak_memory(),
        "lengths": given.lengths,
    }
    tell("packing into 131,072", ["how", "seed", "seconds", "full, %", "sequences"], rows, result, given.json)


def draw(count: int, median: float, above: float, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Log-normal lengths, 5% of which are longer than `above`."""
    spread = np.log(above / median) / 1.6449
    lengths = np.random.default_rng(seed).lognormal(np.log(median), spread, count)
    return np.maximum(lengths.astype(np.int64), 1)


if __name__ == "__main__":
    main()
