"""Programs against unit tests, and the attacks that none may win by."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alloy.verify.code import find_program, verify_code
from alloy.verify.pool import VerifierPool
from alloy.verify.sandbox import Limits, isolation, not_isolated, run_python
from alloy.verify.verdict import Verdict

SHORT = Limits(seconds=2.0, cpu_seconds=2)
RIGHT = "def add(a, b):\n    return a + b"
TESTS = (
    "assert add(1, 2) == 3",
    "assert abs(add(0.5, 0.25) - 0.75) < 1e-9",
    "assert add('a', 'b') in ['ab']",
)


def judged(program: str, tests: tuple[str, ...] = TESTS, limits: Limits = SHORT) -> Verdict:
    return verify_code(f"Here it is.\n```python\n{program}\n```\nDone.", tests, limits=limits)


def test_this_machine_isolates_programs() -> None:
    assert isolation() in ("bubblewrap", "namespaces"), (
        "the attacks below need a kernel that can shut them in"
    )


@pytest.mark.parametrize(
    ("program", "reward", "passed"),
    [
        (RIGHT, 1.0, 1.0),
        ("def add(a, b):\n    return a - b", 0.0, 0.0),
        ("def add(a, b):\n    return 3 if a == 1 else 0.75 if a == 0.5 else ''", 0.0, 2 / 3),
        ("def plus(a, b):\n    return a + b", 0.0, 0.0),
        ("def add(a, b:\n    return a + b", 0.0, 0.0),
        ("raise ValueError('no')", 0.0, 0.0),
        (f"{RIGHT}\nif __name__ == '__main__':\n    raise ValueError('the tests import it')", 1.0, 1.0),
    ],
)
def test_a_program_is_judged_by_its_tests(program: str, reward: float, passed: float) -> None:
    verdict = judged(program)
    assert (verdict.reward, verdict.status) == (reward, "ok")
    assert verdict.parts == {"passed": pytest.approx(passed)}


# Each program wants the reward, or what is not its own; `done` would be said by one that got it.
ATTACKS = {
    "never ending": "def add(a, b):\n    while True: pass",
    "never ending while it is read": "while True: pass",
    "exiting early": "import sys\nsys.exit(0)",
    "exiting early, at once": "import os\nos._exit(0)",
    "exiting early, in a test": "def add(a, b):\n    import os\n    os._exit(0)",
    "an object that equals everything": (
        "class Yes:\n    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda *_: True\n"
        "    __sub__ = __rsub__ = __abs__ = lambda s, *_: s\n    __hash__ = lambda s: 1\n"
        "def add(a, b): return Yes()"
    ),
    "a number that equals everything": (
        "class Yes(int):\n    __eq__ = __lt__ = lambda *_: True\n    __hash__ = int.__hash__\n"
        "def add(a, b): return Yes(7)"
    ),
    "a text that equals everything": (
        "class Yes(str):\n    __eq__ = __lt__ = lambda *_: True\n    __hash__ = str.__hash__\n"
        "    __str__ = lambda s: 'ab'\n"
        "def add(a, b): return Yes('no') if a == 'a' else a + b"
    ),
    "monkeypatching the checker": (
        "import builtins, unittest, operator\n"
        "builtins.AssertionError = type('Never', (Exception,), {})\n"
        "builtins.compile = lambda *_, **__: (lambda: None).__code__\n"
        "builtins.exec = lambda *_: None\nbuiltins.abs = lambda x: 0\noperator.eq = lambda *_: True\n"
        "def add(a, b): return 0"
    ),
    "writing the verdict": (
        "import os, json\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"passed\": 3, \"of\": 3, \"first\": \"\"}\\n')\n"
        "    except OSError: pass\ndef add(a, b): return 0"
    ),
    "answering before it is asked": (
        "import os\nfor fd in range(3, 64):\n    for n in range(1, 9):\n"
        "        try: os.write(fd, ('[\"answer\", %d, [], \"value\", 3]\\n' % n).encode())\n"
        "        except OSError: pass\ndef add(a, b): return 0"
    ),
    "calling into the tests": (
        "import os, json\nfor fd in range(3, 64):\n"
        "    for op in ('get', 'names', 'call'):\n"
        "        try: os.write(fd, (json.dumps(['ask', 1, op, [['yours', 0], '__globals__', []]]) + '\\n').encode())\n"
        "        except OSError: pass\ndef add(a, b): return 0"
    ),
    "reading the tests in memory": (
        "import gc, sys\n"
        "found = [o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o and 'entry_point' in o]\n"
        "frames = [f for f in sys._current_frames().values()]\n"
        "if found: raise SystemExit\ndef add(a, b): return 'done' if found else 0"
    ),
    "killing its parent": (
        "import os, signal\n"
        "for pid in (os.getppid(), 1, -1):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\n"
        "def add(a, b): return 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_the_checker_wins_nothing(attack: str) -> None:
    began = time.monotonic()
    verdict = judged(ATTACKS[attack])
    assert (verdict.reward, verdict.status) == (0.0, "ok"), verdict
    assert time.monotonic() - began < SHORT.seconds + 2


def test_a_fork_bomb_is_counted_and_gone_with_its_sandbox() -> None:
    outcome = run_python(
        "import os\nmade = 0\ntry:\n    while True:\n        if os.fork() == 0:\n"
        "            import time; time.sleep(7318)\n        made += 1\n"
        "except OSError: print(made, flush=True); os._exit(3)",
        limits=SHORT,
    )
    assert (outcome.ended, outcome.status) == ("itself", 3)
    assert int(outcome.stdout) <= SHORT.processes
    assert "7318" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout


def test_a_daemon_does_not_outlive_its_sandbox() -> None:
    run_python(
        "import os, sys\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execv(sys.executable, "
        "[sys.executable, '-c', 'import time; time.sleep(7317)'])",
        limits=SHORT,
    )
    assert "7317" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout


def test_memory_is_limited() -> None:
    outcome = run_python("x = bytearray(600 * 2**20)\nprint('done')", limits=SHORT)
    assert outcome.stdout == b""
    assert outcome.stderr.strip().endswith(b"MemoryError")


def test_the_disk_is_limited() -> None:
    outcome = run_python(
        "import itertools\nfor n in itertools.count():\n    open(f'/tmp/{n}', 'wb').write(bytes(2**20))\n    print(n)",
        limits=SHORT,
    )
    assert b"No space left on device" in outcome.stderr
    assert len(outcome.stdout.split()) <= SHORT.file_bytes / 2**20
    one = run_python("open('/tmp/x', 'wb').write(bytes(17 * 2**20))\nprint('done')", limits=SHORT)
    assert one.stdout == b""
    assert one.status != 0


def test_output_is_limited() -> None:
    assert run_python("while True: print('x' * 4096)", limits=SHORT).ended == "too much output"


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nprint('done')"
        assert run_python(program, limits=SHORT).stdout == b""


def test_nothing_of_this_machine_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "swordfish")
    secret = tmp_path / "secret"
    secret.write_text("swordfish")
    here = os.getpid()
    outcome = run_python(
        "import glob, os\n"
        f"print(os.environ.get('MY_SECRET'), os.path.exists({str(secret)!r}), os.path.exists('/etc'), os.path.exists('/home'))\n"
        "print(len([n for n in os.listdir('/proc') if n.isdigit()]))\n"
        "for path in [*glob.glob('/proc/[0-9]*/environ'), *glob.glob('/proc/[0-9]*/root/*/*/secret'),"
        f" '/proc/{here}/environ', '/proc/1/root{secret}', '/proc/self/root{secret}', '/proc/1/cwd{secret}']:\n"
        "    try: print('swordfish' in open(path, errors='replace').read())\n    except OSError: pass\n",
        limits=SHORT,
    )
    lines = outcome.stdout.decode().split("\n")
    assert lines[0] == "None False False False"
    assert int(lines[1]) <= 3  # what began it, and itself
    assert "True" not in lines[2:]


@pytest.mark.parametrize("path", ["/x", "/usr/x", "/proc/sys/kernel/core_pattern", "/dev/x", "/old/x"])
def test_nothing_is_written_but_in_its_own_folder(path: str) -> None:
    outcome = run_python(f"open({path!r}, 'w').write('|/bin/sh')\nprint('done')", limits=SHORT)
    assert outcome.stdout == b""
    assert run_python("open('/tmp/x', 'w').write('a')\nprint(open('/tmp/x').read())").stdout == b"a\n"
    assert run_python("import os\nprint(os.listdir('/tmp'))").stdout == b"[]\n"


def test_privileges_do_not_come_back() -> None:
    outcome = run_python(
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "for try_ in (lambda: os.setuid(0), lambda: os.chroot('/tmp'), lambda: os.mknod('/tmp/d', 0o60600, 1)):\n"
        "    try: try_(); print('done')\n    except OSError: pass\n"
        "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.ptrace(16, 1, 0, 0))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))])",
        limits=SHORT,
    )
    assert outcome.stdout.decode().splitlines() == ["-1 -1", "['0000000000000000', '0000000000000000', '1']"]


def test_what_ends_is_told_with_its_status() -> None:
    assert run_python("print(input()[::-1])", b"abc\n").stdout == b"cba\n"
    assert run_python("raise SystemExit(3)").status == 3
    assert run_python("import os; os.kill(os.getpid(), 11)").status == 128 + 11
    late = run_python("import os\nos.close(1); os.close(2)\nwhile True: pass", limits=Limits(seconds=0.5))
    assert late.ended == "late"


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def sort(x): x.sort()", "x = [3, 1]\nsort(x)\nassert x == [1, 3]"),
        ("def fill(d, s): d['a'] = {1: (2, 3)}; s.add(4)", "d, s = {}, {5}\nfill(d, s)\nassert d == {'a': {1: (2, 3)}} and s == {4, 5}"),
        ("def values(): return 1 << 5000, -0.5, 2j, b'x', {1}, frozenset((2,)), range(3), None, True",
         "assert values() == (1 << 5000, -0.5, 2j, b'x', {1}, frozenset((2,)), range(3), None, True)"),
        ("def f(): return float('nan'), float('inf')", "a, b = f()\nassert a != a and b > 1e300"),
        ("from collections import Counter\ndef count(x): return Counter(x)", "assert count('aab') == {'a': 2, 'b': 1}"),
        ("def squares(n):\n    for i in range(n): yield i * i", "assert list(squares(4)) == [0, 1, 4, 9]"),
        ("def twice(f, x): return f(f(x))", "assert twice(lambda x: x + 3, 1) == 7"),
        ("def half(x):\n    if x % 2: raise ValueError('odd')\n    return x // 2",
         "try:\n    half(3)\nexcept ValueError as error:\n    assert str(error) == 'odd'\nelse:\n    assert False"),
        ("class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x); return self\n"
         "    def __len__(self): return len(self.items)\n    def __getitem__(self, i): return self.items[i]",
         "s = Stack().push(4).push(5)\nassert isinstance(s, Stack) and len(s) == 2 and s[1] == 5 and s.items == [4, 5]\nassert 5 in s and 6 not in s"),
        ("def add(a, b): return a + b", "def check(candidate):\n    assert candidate(1, 2) == 3"),
        ("def add(a, b): return a + b", "def test_add():\n    assert add(2, 2) == 4"),
        ("def add(a, b): return a + b", "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(2, 2), 4)"),
        ("import datetime, fractions\ndef day(): return datetime.date(2024, 2, 29), fractions.Fraction(1, 3)",
         "import datetime\nfrom fractions import Fraction\nassert day() == (datetime.date(2024, 2, 29), Fraction(1, 3))"),
    ],
)  # fmt: skip
def test_what_crosses_between_program_and_tests(program: str, test: str) -> None:
    verdict = verify_code(
        f"```python\n{program}\n```", [test], entry_point="add" if "def add" in program else None
    )
    assert verdict.reward == 1.0, verdict.detail


@pytest.mark.parametrize(
    "test",
    [
        "def check(candidate):\n    assert candidate(1, 2) == 4",
        "def test_add():\n    assert add(2, 2) == 5",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(2, 2), 5)",
        "import unittest\nclass T(unittest.TestCase):\n    pass",
        "assert",
    ],
)
def test_a_test_of_any_form_can_fail(test: str) -> None:
    assert verify_code(f"```python\n{RIGHT}\n```", [test], entry_point="add").reward == 0.0


def test_the_program_continues_a_prompt_or_says_it_again() -> None:
    prompt = 'def inc(x):\n    """One more."""\n'
    test = "def check(candidate):\n    assert candidate(1) == 2"
    for answer in ("    return x + 1", "```python\n    return x + 1\n```", "```python\ndef inc(x):\n    return x + 1\n```"):  # fmt: skip
        assert verify_code(answer, [test], entry_point="inc", prompt=prompt).reward == 1.0, answer


def test_inputs_and_outputs() -> None:
    answer = "```python\nprint(int(input()) * 2)\n```"
    assert verify_code(answer, inputs=[("4\n", "8"), ("5\n", "10  \n\n")]).reward == 1.0
    verdict = verify_code(answer, inputs=[("4\n", "8"), ("5\n", "11")])
    assert (verdict.reward, verdict.detail, verdict.parts) == (0.0, "input 2: said '10\\n'", {"passed": 0.5})
    assert "ValueError" in verify_code(answer, inputs=[("x\n", "8")]).detail


def test_the_last_program_is_the_answer() -> None:
    assert find_program("```python\na = 1\n```\nBetter:\n```python\nb = 2\n```") == "b = 2\n"
    assert find_program("```python\na = 1\n```\nRun it:\n```bash\nls\n```") == "a = 1\n"
    assert find_program("def f(): pass") == "def f(): pass"
    assert find_program("I cannot do that.") is None


@pytest.mark.parametrize(
    ("completion", "detail"),
    [
        ("<think>```python\ndef add(a, b): return a + b\n```", "the thinking was never closed"),
        ("I cannot do that.", "no Python found"),
        (f"```python\n{RIGHT}\n# {'x' * 100_000}\n```", "a program of more than 100,000 characters"),
        (f"```python\n{RIGHT} # \0\n```", "a program of more than 100,000 characters"),
    ],
)
def test_the_model_s_fault_is_a_zero(completion: str, detail: str) -> None:
    verdict = verify_code(completion, TESTS)
    assert (verdict.reward, verdict.status) == (0.0, "unparsable")
    assert verdict.detail.startswith(detail)


def test_no_tests_are_our_fault() -> None:
    assert verify_code(f"```python\n{RIGHT}\n```").status == "error"


def test_in_the_pool_what_never_ends_is_a_zero_and_not_a_timeout() -> None:
    rows = [
        {"completion": f"```python\n{program}\n```", "tests": list(TESTS), "seconds": 1}
        for program in (RIGHT, ATTACKS["never ending"], RIGHT)
    ]
    with VerifierPool(2, 10.0) as pool:
        verdicts = pool.judge("code", rows)
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, 1.0]
    assert verdicts[1].detail == "did not end within 1 s"


def test_the_command_says_what_is_not_isolated() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alloy", "verify", "code", "--workers", "1"],
        input='{"completion": "```python\\nx = 1\\n```", "tests": ["assert x == 1"]}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"reward": 1.0' in done.stdout
    assert f"programs are isolated by {isolation()}" in done.stderr
    assert "open network connections" in not_isolated("limits")
    assert "open network connections" not in not_isolated(isolation())
