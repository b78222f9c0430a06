#!/usr/bin/env bash
# Runs every variant of configs/ablation.py into FOLDER/VARIANT: launch/ablation.sh FOLDER [--config.field=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    echo "launch/ablation.sh FOLDER [--config.field=value ...]: give the folder for the runs" >&2
    exit 2
fi
folder=$1
shift
source launch/setup.sh
for variant in $(python -c 'from configs.ablation import VARIANTS; print(*VARIANTS)'); do
    python -m dci_jax.main --config="configs/ablation.py:$variant" --workdir="$folder/$variant" "$@"
done
