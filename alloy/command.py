"""What every command line of the project does the same way: exit statuses, logging, progress."""

import argparse
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from alloy.artifact import is_main_process
from alloy.disk import disk_trouble
from alloy.errors import InputError, StageError
from alloy.parent_death import end_with
from alloy.preemption import Preempted, heeded


def main(run: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Call a command and turn what it raises into a message and an exit status.

    0 done; 1 a stage failed after it had started; 2 the config or the data is wrong.
    """
    # Threads that spin at barriers stall each other on a machine shared with anyone: measured here,
    # a second busy process made training eight times slower with spinning, twice without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # The libraries' progress bars would cut through ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with heeded():
            if "TORCHELASTIC_RUN_ID" in os.environ:
                # A launcher that is killed cannot end its processes: they are told to end, and save.
                end_with(os.getppid(), signal.SIGTERM)
            return run(list(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        return _say(f"error: {error}", 2)
    except StageError as error:
        return _say(f"failed: {error}", 1)
    except Preempted as end:
        return _say(str(end), 1) if is_main_process() else 1
    except KeyboardInterrupt:
        return _say("stopped. Run the same command again to go on from the last checkpoint.", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if told := disk_trouble(error):
            return _say(f"failed: {told}", 1)
        if os.environ.get("ALLOY_TRACEBACK"):
            traceback.print_exc()
        return _say(f"failed: {error}", 1)
    except Exception as error:
        if told := disk_trouble(error):
            return _say(f"failed: {told}", 1)
        traceback.print_exc()
        return _say(f"failed: {type(error).__name__}: {error}", 1)


def _say(message: str, status: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return status


def quiet_libraries() -> None:
    """Warnings of the libraries that a user can do nothing about are not shown."""
    for name in ("transformers", "trl", "datasets", "accelerate", "torch", "vllm", "deepspeed", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if not Path("/dev/nvidiactl").exists():
        # Told so, DeepSpeed does not look for a GPU and warn that it found none.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are input errors (exit status 2) in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}\n{self.format_usage().strip()}")


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)
