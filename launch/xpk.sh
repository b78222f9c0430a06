#!/usr/bin/env bash
# A run on TPU slices of GKE by XPK: launch/xpk.sh [--dry_run] CLUSTER TYPE IMAGE --config=... --workdir=/runs/...
# TYPE is a TPU such as v5litepod-256. Attach the shared storage with `xpk storage`; restarts go on from the checkpoints.
set -euo pipefail
dry_run=()
if [ "${1:-}" = --dry_run ]; then
    dry_run=(echo)
    shift
fi
if [ $# -lt 4 ]; then
    echo "launch/xpk.sh [--dry_run] CLUSTER TYPE IMAGE --config=... --workdir=...: give a cluster, a type such as v5litepod-256, a container image, and the flags of a run" >&2
    exit 2
fi
cluster=$1 kind=$2 image=$3
shift 3
"${dry_run[@]}" xpk workload create --cluster="$cluster" --workload=dci-jax --tpu-type="$kind" \
    --num-slices=1 --docker-image="$image" --max-restarts=100 --restart-on-exit-codes=75 \
    --command="python -m dci_jax.main $(printf '%q ' "$@")"
