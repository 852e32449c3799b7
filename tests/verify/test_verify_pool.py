import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alloy.errors import InputError
from alloy.verify.pool import PoolClosed, VerifierPool
from alloy.verify.worker import PROGRESS_BYTES, Progress

OBEY = "hostile_verifiers:obey"
LIMIT = 1.5


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, LIMIT) as started:
        yield started


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def is_alive(pid: int) -> bool:
    """Running, and not only a zombie that nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_order_is_kept(pool: VerifierPool) -> None:
    rows = [{"reward": number / 1000} for number in range(1000)]
    assert [verdict.reward for verdict in pool.judge(OBEY, rows)] == [row["reward"] for row in rows]


def test_no_rows(pool: VerifierPool) -> None:
    assert pool.judge("math", []) == []


def test_an_unknown_verifier(pool: VerifierPool) -> None:
    with pytest.raises(InputError, match="'maths' is no verifier"):
        pool.judge("maths", [{}])


def test_a_function_that_is_not_there_is_an_error_of_each_row(pool: VerifierPool) -> None:
    assert [verdict.status for verdict in pool.judge("hostile_verifiers:nothing", [{}, {}])] == ["error"] * 2


@pytest.mark.parametrize("do", ["hang", "hang holding the interpreter"])
def test_a_hanging_row_is_a_timeout_and_the_others_are_judged(pool: VerifierPool, do: str) -> None:
    rows = [{"reward": 0.5} for _ in range(40)]
    rows[7] = {"do": do}
    began = time.monotonic()
    verdicts = pool.judge(OBEY, rows)
    assert time.monotonic() - began < LIMIT + 8
    assert (verdicts[7].reward, verdicts[7].status) == (None, "timeout")
    assert verdicts[7].detail == "no verdict within 1.5 s"
    assert [verdict.reward for verdict in verdicts[:7] + verdicts[8:]] == [0.5] * 39


def test_the_limit_is_for_each_row_and_not_for_the_chunk(pool: VerifierPool) -> None:
    verdicts = pool.judge(OBEY, [{"do": "sleep", "seconds": 0.5}] * 8)
    assert [verdict.status for verdict in verdicts] == ["ok"] * 8


@pytest.mark.parametrize(
    ("do", "detail"),
    [
        ("die", "the verifier's process died"),
        ("exit", "the verifier's process died"),
        ("raise", "RuntimeError: as told"),
        ("eat memory", "MemoryError"),
        ("recurse", "RecursionError"),
    ],
)
def test_what_goes_wrong_costs_only_its_own_row(pool: VerifierPool, do: str, detail: str) -> None:
    rows = [{"reward": 0.25} for _ in range(30)]
    rows[0] = rows[29] = {"do": do}
    verdicts = pool.judge(OBEY, rows)
    assert [(verdict.reward, verdict.status) for verdict in (verdicts[0], verdicts[29])] == [
        (None, "error")
    ] * 2
    assert verdicts[0].detail.startswith(detail)
    assert [verdict.reward for verdict in verdicts[1:29]] == [0.25] * 28


def test_a_killed_worker_takes_its_children_along(pool: VerifierPool) -> None:
    # The odd number tells the child from any other.
    assert pool.judge(OBEY, [{"do": "spawn and hang", "seconds": "7319.25"}])[0].status == "timeout"

    def is_gone() -> bool:
        found = subprocess.run(["pgrep", "-f", "sleep 7319.25"], capture_output=True, check=False)
        return found.returncode == 1

    assert wait_until(is_gone)


def test_calls_from_several_threads_share_the_workers(pool: VerifierPool) -> None:
    results: dict[int, list[float | None]] = {}

    def call(number: int) -> None:
        verdicts = pool.judge(OBEY, [{"reward": number / 10}] * 200)
        results[number] = [verdict.reward for verdict in verdicts]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number / 10] * 200 for number in range(5)}


def test_a_reader_of_the_progress_never_sees_half_of_it() -> None:
    """Zeros in between would make a row that has just begun look hours late."""
    memory = mmap.mmap(-1, PROGRESS_BYTES)
    progress = Progress(memory)
    progress.write(1, 1001.0)
    writer = os.fork()
    if writer == 0:
        ends = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < ends:
            number = number % 1000 + 1
            progress.write(number, 1000.0 + number)
        os._exit(0)
    seen = set()
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        for _ in range(1000):
            number, began = progress.read()
            seen.add(number)
            # The time may be newer than the number, as far as the writer came between the two looks.
            assert 1 <= number <= 1000
            assert began > 1000
    assert len(seen) > 100


def test_workers_are_kept_and_import_no_model_library(pool: VerifierPool) -> None:
    pool.judge(OBEY, [{"do": "sleep", "seconds": 0.1}] * 4)
    first = {verdict.detail for verdict in pool.judge(OBEY, [{"do": "tell"}] * 50)}
    second = {verdict.detail for verdict in pool.judge(OBEY, [{"do": "tell"}] * 50)}
    assert first | second == {detail.split()[0] for detail in first | second}
    assert len(first | second) <= 2


def test_importing_the_verifiers_imports_no_model_library() -> None:
    program = (
        "import pkgutil, importlib, sys, alloy.verify as room\n"
        "for found in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'alloy.verify.{found.name}')\n"
        "print({'torch', 'transformers', 'trl', 'sympy', 'numpy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_closing_ends_the_workers_and_refuses_more() -> None:
    with VerifierPool(2, LIMIT) as pool:
        pids = {int(verdict.detail) for verdict in pool.judge(OBEY, [{"do": "tell"}] * 20)}
        assert all(is_alive(pid) for pid in pids)
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
    with pytest.raises(PoolClosed):
        pool.judge(OBEY, [{}])


def test_closing_from_another_thread_ends_a_call() -> None:
    pool = VerifierPool(1, 60.0)
    pool.judge(OBEY, [{}])
    threading.Timer(0.5, pool.close).start()
    with pytest.raises(PoolClosed):
        pool.judge(OBEY, [{"do": "hang"}])


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent death signal")
@pytest.mark.parametrize("do", ["tell", "hang", "hang holding the interpreter"])
def test_workers_end_with_a_parent_that_is_killed(do: str) -> None:
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from alloy.verify.pool import VerifierPool\n"
        "pool = VerifierPool(1, 600.0)\n"
        f"print(pool.judge({OBEY!r}, [{{'do': 'tell'}}])[0].detail, flush=True)\n"
        f"pool.judge({OBEY!r}, [{{'do': {do!r}}}])\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    time.sleep(0.3)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: not is_alive(pid))
    parent.stdout.close()
    assert parent.stdin
    parent.stdin.close()


@pytest.mark.parametrize(("workers", "seconds"), [(0, 1.0), (1, 0.0)])
def test_sizes_must_be_positive(workers: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        VerifierPool(workers, seconds)
