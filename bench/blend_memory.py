"""Ten million rows through the data engine: rows a second, and the most memory that a process held."""

import os
import random
import resource
import tempfile
import threading
import time
from pathlib import Path

from bench.outcome import parser, peak_memory, tell
from bench.sft_throughput import demo_model


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    given = arguments.parse_args()
    from alloy.data.config import DataConfig, SourceConfig
    from alloy.data.prepare import prepare
    from alloy.policy import load_tokenizer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = load_tokenizer(demo_model(folder / "model"))
        path = write(folder / "rows.jsonl", given.rows)
        before = own_memory()
        began = time.perf_counter()
        config = DataConfig(sources=[SourceConfig(path=path)])
        with MemoryWatch() as watch:
            prepared = prepare(config, tokenizer, 4096, 0, folder / "cache")
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        again = prepare(config, tokenizer, 4096, 0, folder / "cache")
        cached = time.perf_counter() - began
        assert again.counts == prepared.counts
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = path.stat().st_size / 2**30
        store = sum(file.stat().st_size for file in (folder / "cache").rglob("*.bin")) / 2**30
    result = {
        "peak_own_memory_gib": watch.peak,
        "own_memory_before_gib": before,
        "peak_memory_with_mapped_files_gib": peak_memory(),
        "peak_memory_of_a_worker_gib": workers,
        "rows": given.rows,
        "rows_per_second": given.rows / seconds,
        "seconds": seconds,
        "seconds_when_cached": cached,
        "file_gib": size,
        "store_gib": store,
        "cores": os.cpu_count(),
    }
    rows = [[key.replace("_", " "), f"{value:,.2f}"] for key, value in result.items() if value is not None]
    tell(f"{given.rows:,} rows", ["", ""], rows, result, given.json)


def own_memory() -> float:
    """Of this process now, GiB, without the pages of mapped files: those the kernel takes back at need."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("the kernel tells no RssAnon")


class MemoryWatch:
    """The most own memory while it is entered, looked at twenty times a second."""

    def __init__(self) -> None:
        self.peak = own_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, own_memory())


def write(path: Path, count: int) -> Path:
    """Short rows, no two equal."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            stream.write(
                f'{{"prompt": "{number} and {rng.randrange(100)}?", "completion": "{number * 7}"}}\n'
            )
    return path


if __name__ == "__main__":
    main()
