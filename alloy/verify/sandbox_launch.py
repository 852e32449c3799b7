"""The first program in a sandbox: it shuts the doors behind itself and becomes the program that nobody trusts.

    python -I -S sandbox_launch.py SETTINGS -- COMMAND ...

Settings are JSON: `namespaces` (whether to make them), `readable` (folders that stay visible, each with
where it is seen), `limits`.
Only the standard library is imported, and it runs before anything untrusted does.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

NOBODY = 2_000_000
"""Root becomes the user of this number plus its process id: nobody else's processes count against its limit."""
INSIDE = 1_000
"""The user that the program believes to be, where it was not root that started it."""

_NEW_MOUNTS, _NEW_HOSTNAME, _NEW_IPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x1000_0000, 0x2000_0000, 0x4000_0000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_PARENT_DEATH_SIGNAL, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    settings, command = json.loads(arguments[0]), arguments[2:]
    _control(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    nobody = NOBODY + os.getpid()
    if settings["namespaces"]:
        _enter_namespaces()
        _die_with(os.fork())
        _control(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        _show_only(settings["readable"], settings["limits"]["file_bytes"])
    if os.getuid() == 0:
        _become(nobody)
    # What is init in its namespace, or the reaper without one, outlives the program by as long as it
    # takes to end all that the program started.
    _control(_SUBREAPER, 1)
    program = os.fork()
    if program:
        _end_with(program, settings["namespaces"])
    os.setsid()
    _limit(settings["limits"])
    _control(_NO_NEW_PRIVILEGES, 1)
    os.execve(command[0], command, {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8",
                                    "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"})  # fmt: skip


def _control(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _become(user: int) -> None:
    """Root counts no processes against its limit, and what it may read is everything."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _control(_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # a change of user forgets it


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    flags = _NEW_MOUNTS | _NEW_PROCESSES | _NEW_NETWORK | _NEW_IPC | _NEW_HOSTNAME
    if user == 0:
        _check(_libc.unshare(flags), "unshare")
        return
    _check(_libc.unshare(flags | _NEW_USER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{INSIDE} {user} 1"), ("gid_map", f"{INSIDE} {group} 1")):  # fmt: skip
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _die_with(child: int) -> None:
    """In the parent: wait for the child and end as it did."""
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(_exit_code(status))


def _end_with(program: int, in_namespace: bool) -> None:
    """Reap until the program ends, end what it left behind, and exit with its status."""
    status = 0
    while True:
        pid, ended = os.wait()
        if pid == program:
            status = ended
            break
    if not in_namespace:
        _end_descendants()
    # In a namespace the kernel ends all that is left when its first process does.
    os._exit(_exit_code(status))


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_descendants() -> None:
    """Those of a subreaper become its children when their own parents end."""
    for _ in range(1_000):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for child in children:
            os.kill(child, signal.SIGKILL)
        for _ in children:
            os.wait()


def _show_only(readable: list[list[str]], size: int) -> None:
    """A root of its own: the folders that are readable, an empty /tmp of `size` bytes, /proc, three devices."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    root = "/tmp"
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "mode=755,size=64k")
    for folder, seen in readable:
        if os.path.islink(folder):
            os.symlink(os.readlink(folder), root + seen)
        else:
            os.makedirs(root + seen, exist_ok=True)
            _bind(folder, root + seen, _NO_SUID | _NO_DEVICES)
    os.makedirs(f"{root}/dev")
    for device in ("null", "zero", "urandom"):
        with open(f"{root}/dev/{device}", "w"):
            pass
        _mount(f"/dev/{device}", f"{root}/dev/{device}", None, _BIND)
    for folder in ("tmp", "proc", "old"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _NO_SUID | _NO_DEVICES, f"mode=777,size={size}")
    # Within a container that hides part of /proc the kernel gives none: then there is none.
    with contextlib.suppress(OSError):
        _mount("proc", f"{root}/proc", "proc", _NO_SUID | _NO_DEVICES | _NO_EXEC)
    _check(_libc.syscall(_pivot_root(), root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/tmp")
    _check(_libc.umount2(b"/old", _DETACH), "umount")
    os.rmdir("/old")
    _mount(None, "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)


def _pivot_root() -> int:
    return {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def _bind(source: str, target: str, flags: int) -> None:
    _mount(source, target, None, _BIND | _RECURSIVE)
    # Read-only needs a second look; flags that the source has cannot be taken away by it.
    told = os.statvfs(source).f_flag
    kept = (told & os.ST_NOEXEC and _NO_EXEC) | (told & os.ST_NOATIME) | (told & os.ST_NODIRATIME)
    kept |= told & os.ST_RELATIME and 1 << 21
    _mount(None, target, None, _REMOUNT | _BIND | _READ_ONLY | flags | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    given = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _check(_libc.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), given[3]), f"mount {target}")


def _limit(limits: dict[str, Any]) -> None:
    for name, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(name, (value, value))


if __name__ == "__main__":
    main(sys.argv[1:])
