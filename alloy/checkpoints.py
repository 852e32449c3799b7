"""Checkpoints that are whole or not there: written under another name, synced, renamed.

checkpoints/.partial/checkpoint-6/     while it is written
checkpoints/checkpoint-6/              whole; files.json names its files and their sizes
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch.distributed
from safetensors import safe_open
from transformers import Trainer

from alloy.artifact import Run, is_main_process, sync_folder, write_atomically
from alloy.sharding import whole_models
from alloy.unlogged import read_unlogged, write_unlogged

MANIFEST = "files.json"
_PARTIAL = ".partial"


class WholeCheckpoints(Trainer):
    """A trainer whose checkpoints appear at once, and whose resumed epochs are those of a run that never stopped."""

    _partial: Path | None = None
    _resumed: Path | None = None

    def train(self, resume_from_checkpoint: Any = None, **given: Any) -> Any:
        self._resumed = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **given)

    def _get_output_dir(self, trial: Any) -> str:
        # The trainer prunes in the folder that it writes to; there is nothing there to be pruned.
        return str(self._partial or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        partial = folder / _PARTIAL
        if is_main_process():
            shutil.rmtree(partial, ignore_errors=True)
            (partial / name).mkdir(parents=True)
        _wait()
        self._partial = partial
        try:
            self.write_beside(partial / name)
            write_unlogged(self, partial / name)
            super()._save_checkpoint(model, trial)
        except BaseException:
            # What it took of a full disk is given back; the checkpoints before are as they were.
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            self._partial = None
        # Each process syncs what it wrote; which of the files these are, it need not know.
        sync_folder(partial / name)
        _wait()
        if is_main_process():
            _publish(partial / name, folder / name)
            prune(folder, self.args.save_total_limit)
        _wait()

    def write_beside(self, folder: Path) -> None:
        """Write what a trainer has to keep beside its weights. Every process calls it."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As the trainer's, for models whose files name their weights otherwise than they do themselves, too.

        Experts of a mixture are one tensor each in a file, and one for all in memory. Told to be lenient, PyTorch
        passes over every name that the model does not have, and the run would go on from the parent's weights.

        Raises:
            RuntimeError: the checkpoint lacks weights of the model, or has others.
        """
        model = self.model if model is None else model
        folder = Path(resume_from_checkpoint)
        written = weight_names(folder)
        if self.is_fsdp_enabled or written is None or written <= model.state_dict().keys():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        with whole_models():
            loaded = type(model).from_pretrained(folder, dtype=model.dtype, use_safetensors=True)
        model.load_state_dict(loaded.state_dict())

    def _run_epoch(self, *, epoch: int, train_dataloader: Any, **given: Any) -> None:
        if self._resumed is not None:
            read_unlogged(self, self._resumed)
            self._resumed = None
        # The trainer looks at the number of steps after a step only: resumed after the last, it would do one more.
        if self.state.global_step >= self.args.max_steps:
            return
        # In several processes a resumed epoch would have the first one's order: the sampler lies too deep
        # for the trainer's own call.
        # DeepSpeed's adapter for divided sequences has the loader inside.
        sampler = getattr(train_dataloader, "dl", train_dataloader).batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **given)


def _wait() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _publish(written: Path, final: Path) -> None:
    sizes = {
        str(path.relative_to(written)): path.stat().st_size
        for path in sorted(written.rglob("*"))
        if path.is_file()
    }
    write_atomically(written / MANIFEST, json.dumps(sizes, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    written.replace(final)
    written.parent.rmdir()
    sync_folder(final.parent, deep=False)


def weight_names(folder: Path) -> set[str] | None:
    """The tensors of a whole model in a folder; None where there is none, but an adapter or parts of one."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        return None
    names: set[str] = set()
    for path in files:
        with safe_open(path, "pt") as tensors:
            names.update(tensors.keys())
    return names


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, the oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def prune(folder: Path, keep: int | None) -> None:
    """Remove all but the newest `keep` checkpoints; None keeps all."""
    for old in checkpoints(folder)[: -keep if keep else 0]:
        # By rename first: a kill half-way through the removal leaves nothing that looks like a checkpoint.
        removed = folder / f".{old.name}"
        shutil.rmtree(removed, ignore_errors=True)
        old.replace(removed)
        shutil.rmtree(removed, ignore_errors=True)


def broken(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; empty where it is whole."""
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text())
    except FileNotFoundError:
        return f"{MANIFEST} is not there"
    except ValueError:
        return f"{MANIFEST} cannot be read"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is not there"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    return ""


def last_checkpoint(run: Run) -> str | None:
    """The newest whole checkpoint of an interrupted run; broken ones are passed over with a warning."""
    for checkpoint in reversed(checkpoints(run.checkpoints)):
        wrong = broken(checkpoint)
        if not wrong:
            run.rewind(step_of(checkpoint))
            return str(checkpoint)
        if is_main_process():
            print(f"warning: {checkpoint} is broken ({wrong}) and is passed over", file=sys.stderr)
            # Left there, it would be counted among those that are kept.
            shutil.rmtree(checkpoint, ignore_errors=True)
    run.rewind(-1)
    return None


def kept_checkpoint(folder: Path) -> str:
    """What a run that stops says of its newest checkpoint."""
    whole = [step_of(path) for path in checkpoints(folder) if not broken(path)]
    return f"the checkpoint of step {whole[-1]} is kept" if whole else "there is no checkpoint yet"
