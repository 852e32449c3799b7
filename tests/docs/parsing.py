"""Whether a command would be taken: its modules, files and flags exist. Nothing is run."""

import argparse
import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from unittest.mock import patch

from shown import ROOT

PLACEHOLDERS = {r"sweep \.\.\.": "sweep --reasoning A --chat B --alphas 0.1,0.5 --suites math --out DIR"}


class NotTakenError(Exception):
    """A command that would fail at once."""


class _ParsedError(BaseException):
    """Raised in place of going on, once a command's arguments were read."""


def check(text: str) -> None:
    """Read a command as its program would.

    Raises:
        NotTakenError: no such module, file, target or flag.
    """
    for shown, meant in PLACEHOLDERS.items():
        text = re.sub(shown, meant, text)
    text = re.sub(r"^\w+=\$\((.*)\)$", r"\1", text)
    words = shlex.split(text)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    for sign in ("<", ">", "|"):
        if sign in words:
            at = words.index(sign)
            words = words[at + 1 :] if sign == "|" else words[:at]
    for word in words:
        if re.match(r"configs/\S+\.(yaml|sh)$", word) and not (ROOT / word).is_file():
            raise NotTakenError(f"there is no {word}")
    _PARSERS[words[0]](words[1:])


def _make(words: list[str]) -> None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotTakenError(done.stderr.strip())


def _accelerate(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    try:
        with contextlib.redirect_stderr(io.StringIO()) as told:
            given = launch_command_parser().parse_args(words[1:])
    except SystemExit:
        raise NotTakenError(told.getvalue().strip().rpartition("\n")[2]) from None
    if not given.module:
        raise NotTakenError("accelerate launch without -m")
    _module(given.training_script, given.training_script_args)


def _sbatch(words: list[str]) -> None:
    script = next(at for at, word in enumerate(words) if word.endswith("slurm.sh"))
    _module(words[script + 1], words[script + 2 :])


def _python(words: list[str]) -> None:
    if words[0] != "-m":
        raise NotTakenError("python without -m")
    _module(words[1], words[2:])


@contextlib.contextmanager
def _stopping_after_arguments() -> Iterator[None]:
    """Within it every argument parser stops the program once it has read what it was given."""

    def stopping(read: object) -> object:
        def parse(self: argparse.ArgumentParser, *given: object, **more: object) -> object:
            read(self, *given, **more)  # type: ignore[operator]
            raise _ParsedError

        return parse

    with contextlib.ExitStack() as patches:
        for name in ("parse_args", "parse_intermixed_args", "parse_known_args"):
            read = getattr(argparse.ArgumentParser, name)
            # parse_args itself calls parse_known_args: it is read by the inner one, and stops there.
            patches.enter_context(patch.object(argparse.ArgumentParser, name, stopping(_whole(name, read))))
        yield


def _whole(name: str, read: object) -> object:
    inner = argparse.ArgumentParser.parse_known_args
    intermixed = argparse.ArgumentParser.parse_known_intermixed_args

    def parse(self: argparse.ArgumentParser, args: object = None, namespace: object = None) -> None:
        # The whole methods, spelt out with the unpatched parts: what is left over is an error in both.
        if name == "parse_intermixed_args":
            with patch.object(argparse.ArgumentParser, "parse_known_args", inner):
                _, rest = intermixed(self, args, namespace)  # type: ignore[arg-type]
        else:
            _, rest = inner(self, args, namespace)  # type: ignore[arg-type]
        if rest and name != "parse_known_args":
            self.error(f"unrecognized arguments: {' '.join(rest)}")

    return parse


def _module(name: str, words: list[str]) -> None:
    from alloy.errors import InputError

    with (
        patch.object(sys, "argv", [name, *words]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as told,
        warnings.catch_warnings(action="ignore"),
    ):
        try:
            with _stopping_after_arguments():
                runpy.run_module(name, run_name="__main__")
        except _ParsedError:
            return
        except (InputError, ImportError) as error:
            raise NotTakenError(str(error)) from None
        except SystemExit as end:
            if end.code:
                raise NotTakenError(told.getvalue().strip()) from None


_PARSERS = {"make": _make, "accelerate": _accelerate, "sbatch": _sbatch, "python": _python}
