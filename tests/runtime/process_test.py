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


LOST = """
import gc, signal, time
from dci_jax.runtime import process

process.prepare()

def interrupted(phase, info):
    if phase == "start":
        gc.callbacks.remove(interrupted)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)

gc.callbacks.append(interrupted)
try:
    gc.collect()
    time.sleep(20)
    print("lost")
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_is_not_lost_in_the_garbage_collector():
    found = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "stopped"
    assert "Traceback" not in found.stderr
