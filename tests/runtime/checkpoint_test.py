import subprocess
import sys

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
