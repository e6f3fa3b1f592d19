#!/bin/bash
# Train a surrogate on all GPUs of one or more nodes: sbatch docs/slurm/train_several_gpus.sh
# For more nodes, change --nodes. srun starts torchrun once on each node, and torchrun starts one
# process for each GPU. All processes meet at a port of the first node. batch_size is the number of
# samples of each process. To forecast instead, replace the last line of the command by
#   -m seaice_lab.cli forecast runs/large --steps 60 &
#SBATCH --job-name=seaice-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
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

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))  # jobs on the same node need different ones
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun --nnodes="$SLURM_NNODES" \
    --nproc-per-node="$SLURM_GPUS_ON_NODE" \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:$port" \
    -m seaice_lab.cli train runs/large -p store=stores/sample.zarr -p epochs=500 &
work=$!
wait "$work"
