"""The Slurm script on two "nodes": two launchers on this machine, each with a process of its own."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.launching import environment

SRUN = """#!/bin/bash
# Stands for srun: a task a node, the first that fails ends it.
shift
for node in 0 1; do SLURM_NODEID=$node "$@" & tasks+=($!); done
status=0
for task in "${tasks[@]}"; do wait "$task" || status=1; done
exit $status
"""
SCONTROL = "#!/bin/bash\nprintf '127.0.0.1\\n127.0.0.2\\n'\n"


def test_the_script_is_bash() -> None:
    subprocess.run(["bash", "-n", "configs/accelerate/slurm.sh"], check=True)


@pytest.mark.distributed
@pytest.mark.parametrize("sharding", ["cpu-ddp", "cpu-zero3"])
def test_a_stage_on_two_nodes(started: Path, tmp_path: Path, sharding: str) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(stat.S_IRWXU)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        ["bash", "configs/accelerate/slurm.sh", "sft", "configs/micro/sft-1.yaml",
         f"parent={started / 'base'}", f"output={tmp_path / 'sft'}", "train.max_steps=2"],
        capture_output=True, text=True, timeout=280, check=False,
        env={**environment(), "PATH": f"{commands}:{os.environ['PATH']}", "PYTHON": sys.executable,
             "ACCELERATE": f"configs/accelerate/{sharding}.yaml", "SLURM_JOB_NODELIST": "n[0-1]",
             "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "PORT": str(port)},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    artifact = json.loads((tmp_path / "sft" / "artifact.json").read_text())
    assert artifact["world_size"] == 2
