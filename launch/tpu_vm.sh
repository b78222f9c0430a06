#!/usr/bin/env bash
# A run on all hosts of a Cloud TPU VM or queued resource: launch/tpu_vm.sh [--dry_run] NAME ZONE --config=... --workdir=/runs/...
# The workdir must be on a file system that all hosts share (Filestore, or Cloud Storage through gcsfuse). Google
# develops GKE further, not this interface: prefer `python -m launch.jobset --accelerator=tpu` or launch/xpk.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
dry_run=()
if [ "${1:-}" = --dry_run ]; then
    dry_run=(echo)
    shift
fi
if [ $# -lt 3 ]; then
    echo "launch/tpu_vm.sh [--dry_run] NAME ZONE --config=... --workdir=...: give the TPU VM's name, its zone, and the flags of a run" >&2
    exit 2
fi
name=$1 zone=$2
shift 2
on_all_hosts=(gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all)
copy=(gcloud compute tpus tpu-vm scp --recurse "$PWD" "$name:dci_jax" --zone="$zone" --worker=all)
# Into a folder that is there already, scp would put another one inside, and the old code would run; it may hold runs, so it is kept.
"${dry_run[@]}" "${on_all_hosts[@]}" --command="[ ! -e dci_jax ] || mv dci_jax dci_jax.\$(date +%s)"
"${dry_run[@]}" "${copy[@]}"
"${dry_run[@]}" "${on_all_hosts[@]}" --command="cd dci_jax && pip install --quiet --constraint launch/lock.txt '.[tpu]'"
"${dry_run[@]}" "${on_all_hosts[@]}" --command="cd dci_jax && python3 -m dci_jax.main $(printf '%q ' "$@")"
