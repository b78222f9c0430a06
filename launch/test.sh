#!/usr/bin/env bash
# Sets itself up in .venv, then checks style and runs the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
ruff check .
ruff format --check .
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
