# shellcheck shell=bash disable=SC1091
# Sourced by the other scripts: makes .venv with this project in it, with the versions of lock.txt, and activates it. PYTHON
# names the interpreter; without it the newest that works is taken, because newer versions of JAX need newer ones of Python.
works() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
if [ -z "${PYTHON:-}" ]; then
    # Of each version the one on the PATH, else one that pyenv or uv installed: pyenv's shims are there and refuse to run.
    for version in 3.13 3.12 3.11; do
        for PYTHON in "python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python \
            "$(uv python find --no-python-downloads --system "$version" 2>/dev/null || true)"; do
            if works "$PYTHON"; then break 2; fi
        done
        PYTHON=python3
    done
fi
if ! works "$PYTHON"; then
    echo "dci_jax needs Python 3.11 or newer, with venv; set PYTHON=/path/to/python3.11 and run this again." >&2
    exit 2
fi
# uv installs in seconds what pip takes minutes for; pip does it where uv cannot be had.
install() {
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint launch/lock.txt)
    if "${pip[@]}" uv 2>/dev/null &&
        .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --constraint launch/lock.txt -e '.[dev]'; then
        return
    fi
    "${pip[@]}" -e '.[dev]'
}
# The stamp is written last: an installation that was interrupted is made anew.
if [ ! -e .venv/installed ] || [ pyproject.toml -nt .venv/installed ] || [ launch/lock.txt -nt .venv/installed ]; then
    echo "Making .venv with $("$PYTHON" --version), $PYTHON." >&2
    "$PYTHON" -m venv --clear .venv
    install
    touch .venv/installed
fi
source .venv/bin/activate
# XLA:CPU takes a program's buffer anew each time it runs: in pages of 2 MB instead of 4 kB that is cheap (docs/speed.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
