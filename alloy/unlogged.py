"""What was computed since the last line of the log goes with a checkpoint: a run that goes on logs what it would have.

The trainers keep it in memory alone: sums of the loss, lists of what TRL measures, the tokens seen. Without it
the first line after a checkpoint is a mean over the updates since then, and the count of tokens begins anew.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any


def _path(trainer: Any, folder: Path) -> Path:
    return folder / f"unlogged-{trainer.args.process_index}.json"


def write_unlogged(trainer: Any, folder: Path) -> None:
    """Each process writes its own."""
    kept = {
        "loss": trainer._tr_loss.item(),
        "logged_loss": trainer._total_loss_scalar,
        "logged_step": trainer._globalstep_last_logged,
        "tokens": trainer._total_train_tokens,
        "measured": trainer._metrics["train"],
    }
    # Some of what TRL measures are tensors.
    _path(trainer, folder).write_text(json.dumps(kept, default=float))


def read_unlogged(trainer: Any, folder: Path) -> None:
    """Take up what `write_unlogged` wrote, once the trainer has set its own to nothing.

    A checkpoint of another number of processes may have none for this one: it begins anew, as it did.
    """
    path = _path(trainer, folder)
    if not path.is_file():
        return
    kept = json.loads(path.read_text())
    trainer._tr_loss += kept["loss"]
    trainer._total_loss_scalar = kept["logged_loss"]
    trainer._globalstep_last_logged = kept["logged_step"]
    trainer._total_train_tokens = kept["tokens"]
    trainer._metrics["train"] = defaultdict(list, kept["measured"])
