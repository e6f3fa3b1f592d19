#!/bin/bash
# Assimilate observations window by window: sbatch docs/slurm/assimilation.sh
# cycle.yaml has the settings that `seaice-lab settings assimilate run` lists. Shortly before the
# time is over, the job is put into the queue again and continues at the first unfinished window.
#SBATCH --job-name=seaice-assimilation
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

seaice-lab assimilate run runs/cycle --config cycle.yaml &
work=$!
wait "$work"
