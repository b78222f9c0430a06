import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.errors import InputError
from dci_jax.runtime.checkpoint import Checkpointer
from tests.conftest import ROOT

# In a process of its own, because the limit on a file's size holds for all of it.
MANY_WRITES = """
import resource, signal, sys
import numpy as np
from dci_jax.runtime import process
from dci_jax.runtime.checkpoint import Checkpointer
process.prepare()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tree = {str(i): np.random.rand(300, 300) for i in range(60)}
for number in range(4):
    try:
        with Checkpointer(f"{sys.argv[1]}/{number}") as checkpoints:
            checkpoints.save(1, tree)
    except OSError as error:
        print(error.strerror)
"""


def test_of_many_writes_that_fail_one_is_told(tmp_path):
    done = subprocess.run([sys.executable, "-c", MANY_WRITES, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["File too large"] * 4
    assert done.stderr == ""


def test_a_damaged_checkpoint_is_told_with_its_cure(tmp_path):
    tree = {"a": jnp.arange(1000.0)}
    with Checkpointer(tmp_path / "c") as checkpoints:
        checkpoints.save(3, tree)
    with Checkpointer(tmp_path / "c") as checkpoints:
        step, found = checkpoints.restore(tree)
    assert step == 3
    np.testing.assert_array_equal(found["a"], tree["a"])
    for file in (tmp_path / "c" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-7])
    with (
        Checkpointer(tmp_path / "c") as checkpoints,
        pytest.raises(InputError, match=r"c/3 is damaged \(.*\); delete it"),
    ):
        checkpoints.restore(tree)
