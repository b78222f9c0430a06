#!/usr/bin/env bash
# Sets itself up in .venv, then reads photographs back from inside a ResNet-20: configs/quickstart.py.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=${1:-runs/quickstart}
source launch/setup.sh
python -m dci_jax.main --config=configs/quickstart.py --workdir="$workdir"
echo "Open $workdir/report/index.html in a browser. Before commands of your own: source .venv/bin/activate"
