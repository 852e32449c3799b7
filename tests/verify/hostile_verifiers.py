"""Verifiers that misbehave, for the pool's tests; its workers import them by name."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

from alloy.verify.verdict import Verdict


def obey(row: dict[str, Any]) -> Verdict:
    """Do what the row says, then give its `reward`."""
    match row.get("do"):
        case "hang":
            while True:
                time.sleep(1)
        case "hang holding the interpreter":
            len(str(9 ** (10**9)))
        case "spawn and hang":
            subprocess.Popen(["sleep", row["seconds"]])
            time.sleep(60)
        case "sleep":
            time.sleep(row["seconds"])
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "raise":
            raise RuntimeError("as told")
        case "eat memory":
            bytearray(64 * 2**30)
        case "recurse":
            return obey(row)
        case "tell":
            heavy = {"torch", "transformers", "trl", "vllm"} & set(sys.modules)
            return Verdict(1.0, "ok", f"{os.getpid()} {' '.join(sorted(heavy))}".strip())
    return Verdict(float(row.get("reward", 1.0)))
