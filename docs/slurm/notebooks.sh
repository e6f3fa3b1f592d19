#!/bin/bash
# Run the notebooks 01 to 05 once for each setting: sbatch docs/slurm/notebooks.sh
# Prepare the store first, because all jobs read it: seaice-lab prepare stores/sample.zarr
# The executed notebooks are in runs/width_*/notebooks.
#SBATCH --job-name=seaice-notebooks
#SBATCH --array=0-2
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
source .venv/bin/activate  # or: conda activate seaice_lab

widths=(8 16 32)
width=${widths[$SLURM_ARRAY_TASK_ID]}
seaice-lab pipeline -p run="runs/width_$width" -p width="$width" -p store=stores/sample.zarr
