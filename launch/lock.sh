#!/usr/bin/env bash
# Writes launch/lock.txt anew: the newest versions that pyproject.toml allows, for every Python and system at once. Needs uv
# (https://docs.astral.sh/uv). Afterwards the tests have to pass on the oldest and the newest Python (CONTRIBUTING.md).
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v uv >/dev/null; then
    echo "launch/lock.sh needs uv, which is not on the PATH: pip install uv" >&2
    exit 2
fi
# The PyTorch that the tables were measured beside; newer ones were not tried.
printf 'torch==2.13.0\ntimm==1.0.31\n' |
    uv pip compile pyproject.toml --universal --upgrade --quiet --no-annotate --no-header --constraint - \
        --extra cuda13 --extra tpu --extra torch --extra onnx --extra docs --extra dev --output-file launch/lock.new
{
    echo "# Constraints for pip (launch/setup.sh), made by launch/lock.sh: what the tests pass with and what docs/speed.md was measured"
    echo "# with, for Python 3.11 (the newest JAX for it is 0.10) and for later ones."
    cat launch/lock.new
} > launch/lock.txt
rm launch/lock.new
