#!/bin/bash
# Train a surrogate on all GPUs of a node: sbatch docs/slurm/train_several_gpus.sh
# torchrun starts a process for each GPU. The batch size is that of each process.
#SBATCH --job-name=seaice-train
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=256G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
source .venv/bin/activate  # or: conda activate seaice_lab

requeue() {
    kill -TERM "$work"
    wait "$work" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap requeue USR1

torchrun --standalone --nproc-per-node="$SLURM_GPUS_ON_NODE" -m seaice_lab.cli \
    train runs/large -p store=stores/sample.zarr -p epochs=500 &
work=$!
wait "$work"
