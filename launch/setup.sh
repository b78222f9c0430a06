# shellcheck shell=bash disable=SC1091
# Sourced by the other scripts: makes .venv with this project in it and activates it. PYTHON names the interpreter.
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "dci_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.11 and run this again." >&2
    exit 2
fi
# The stamp is written last: an installation that was interrupted is made anew.
if [ ! -e .venv/installed ] || [ pyproject.toml -nt .venv/installed ]; then
    "$PYTHON" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
    touch .venv/installed
fi
source .venv/bin/activate
