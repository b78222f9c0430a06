"""What a program of this project sets in its process."""

import subprocess
import sys

import pytest

ASKED = (
    "from dci_jax.runtime import process; process.prepare(); import jax; print(jax.config.jax_default_matmul_precision)"
)


@pytest.mark.parametrize(("said", "expected"), [({}, "highest"), ({"JAX_DEFAULT_MATMUL_PRECISION": "high"}, "high")])
def test_products_are_exact_unless_the_user_says_otherwise(said, expected, monkeypatch):
    monkeypatch.delenv("JAX_DEFAULT_MATMUL_PRECISION", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    found = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected
