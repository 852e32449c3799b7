#!/bin/bash
# One stage on as many nodes as the job has:
#
#     sbatch [--nodes 4] configs/accelerate/slurm.sh sft configs/qwen3-8b/sft-1.yaml [key.sub=value ...]
#     ACCELERATE=configs/accelerate/fsdp2.yaml sbatch configs/accelerate/slurm.sh ...
#
# Submitted again, it goes on from the last checkpoint; finished, it does nothing.
#SBATCH --job-name=alloy
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
# A preempted job is put back into the queue, and has two minutes to save.
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail

export CONFIG=${ACCELERATE:-configs/accelerate/zero3.yaml}
export GPUS=${SLURM_GPUS_ON_NODE:-8}
export HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export PORT=${PORT:-29500}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

# One launcher a node; each starts a process a GPU. The single quotes leave SLURM_NODEID to the node.
srun --kill-on-bad-exit=1 bash -c '
    exec "${PYTHON:-.venv/bin/python}" -m accelerate.commands.launch --config_file "$CONFIG" \
        --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
        --num_processes "$((SLURM_NNODES * GPUS))" \
        --main_process_ip "$HEAD" --main_process_port "$PORT" -m "$@"' bash "$@"
