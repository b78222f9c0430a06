#!/usr/bin/env bash
#SBATCH --job-name=dci_jax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A run on SLURM, one process per GPU (JAX finds the others): sbatch [--nodes=4 ...] launch/slurm.sh --config=... --workdir=...
# A job that was stopped is queued again and goes on. `launch/slurm.sh --dry_run ...` prints what a job would start.
# A sweep: python -m launch.sweep slurm ..., which submits this script as a job array, by default one GPU per point.
set -uo pipefail
# SLURM runs a copy of this script; the job starts where it was submitted.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" || exit 2
dry_run=()
if [ "${1:-}" = --dry_run ]; then
    dry_run=(echo)
    shift
fi
if [ $# = 0 ]; then
    echo "launch/slurm.sh [--dry_run] --config=... --workdir=...: give the flags of a run" >&2
    exit 2
fi
if [ "${1:-}" = sweep ]; then
    shift
    line=(python -m launch.sweep point --index="${SLURM_ARRAY_TASK_ID:-0}" "$@")
else
    line=(python -m dci_jax.main "$@")
fi
if [ -e .venv/bin/activate ]; then
    # shellcheck source=/dev/null
    source .venv/bin/activate
fi
"${dry_run[@]}" srun --kill-on-bad-exit=1 "${line[@]}"
code=$?
# 75: stopped from outside; 134 (SIGABRT), 137 (SIGKILL), 143 (SIGTERM): a process was lost. 2: bad input, 1: a fault.
case $code in 75 | 134 | 137 | 143)
    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
    ;;
esac
exit "$code"
