"""What every process of a ZeRO-3 launch holds of a model, as one JSON object a process; started by test_parts."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from alloy.artifact import is_main_process
from alloy.policy import _load, load_model
from alloy.processes import gathered, share
from alloy.sharding import put_together, set_trained, trained_tensors


def held(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main(folder: str, out: str) -> None:
    # Alive, as a trainer keeps it: by it transformers knows that it is to divide.
    arguments = SFTConfig(output_dir=out, use_cpu=True, bf16=False)
    divided = _load(folder, "float32", AutoModelForCausalLM)
    whole = load_model(folder)
    numbers = [parameter.ds_numel for parameter in divided.parameters()]
    found = {
        "parameters": sum(numbers),
        "held": held(divided),
        "parts": sum(parameter.ds_tensor.numel() for parameter in divided.parameters()),
        "whole": held(whole),
        "again": held(_load(folder, "float32", AutoModelForCausalLM)),
    }
    mine = share(list(range(5)))
    found["gathered"] = gathered([10 * item for item in mine])
    tensors = trained_tensors(divided)
    found["trained"] = len(tensors)
    found["same"] = all(torch.equal(tensors[n], p) for n, p in whole.named_parameters() if n in tensors)
    # What goes back is of the file that all read, here the weights that were loaded, doubled.
    set_trained(divided, {name: 2 * parameter.detach() for name, parameter in whole.named_parameters()})
    with put_together(list(divided.parameters())):
        pairs = zip(divided.parameters(), whole.parameters(), strict=True)
        found["doubled"] = all(torch.equal(ours, 2 * theirs) for ours, theirs in pairs)
    assert arguments.deepspeed_plugin is not None
    Path(out, f"found-{int(not is_main_process())}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
