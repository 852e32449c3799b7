"""One stage in a process of its own, and the memory that it took from where its model is loaded.

    python -m bench.plan_process OUT.json PACKAGE CONFIG.yaml [key.sub=value ...]

The last lines of OUT.json are one object for each process of a launch.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from alloy.command import main


def measured(out: Path, package: str, config: Path, overrides: list[str]) -> int:
    """Run a stage; its peak starts anew where the weights are about to be read.

    Everything that a stage imports and all its data are there by then, so that what is counted from there on
    is the model and what is done with it.
    """
    from alloy.pipeline import load_stage_config
    from alloy.stage import quiet_libraries

    quiet_libraries()
    train = import_module(f"{package}.train")
    _import_what_training_imports()
    load, before = train.load_for_training, []

    def loading(*given: Any, **named: Any) -> Any:
        if not before:
            before.append(_status("VmRSS"))
            Path("/proc/self/clear_refs").write_text("5")
        return load(*given, **named)

    train.load_for_training = loading  # type: ignore[attr-defined]
    stage = import_module(package)
    stage.run(load_stage_config(package, config, overrides), force=True)
    told = {"rank": int(os.environ.get("RANK", "0")), "bytes": _status("VmHWM") - before[0]}
    with out.open("a") as stream:
        stream.write(json.dumps(told) + "\n")
    return 0


def _import_what_training_imports() -> None:
    """Libraries are not the model's memory: those that a trainer imports late are imported here."""
    import accelerate.data_loader
    import torch.distributed
    import transformers.trainer
    import trl

    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed

        assert deepspeed.zero
    assert accelerate.data_loader
    assert torch.distributed
    assert transformers.trainer
    assert trl


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{name}:")).split()[1]) * 1024


if __name__ == "__main__":
    out, package, config, *overrides = sys.argv[1:]
    sys.exit(main(lambda given: measured(Path(out), package, Path(config), given), overrides))
