#!/bin/bash
# Train a surrogate on one GPU: sbatch docs/slurm/train.sh
# Shortly before the time is over, the job is put into the queue again. The same command continues
# at the last epoch that was finished.
#SBATCH --job-name=seaice-train
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
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

seaice-lab train runs/mine -p store=stores/sample.zarr -p epochs=500 &
work=$!
wait "$work"
