"""How arrays lie on eight devices: run in a process of its own, because this one has a single device."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dci_jax.runtime import sharding
from tests.command_line import ROOT


def on_eight_devices(program):
    """Run a program with eight CPU devices; returns what it prints."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_uneven_last_batch_is_padded_with_its_last_row(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    rows = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(sharding.padded(rows), [[0, 1], [2, 3], [4, 5], [4, 5]])
    np.testing.assert_array_equal(sharding.padded(rows[:2]), [[0, 1], [2, 3]] + [[2, 3]] * 2)
    four = np.ones((4, 1))
    assert sharding.padded(four) is four


def test_weights_are_copied_and_images_are_split():
    said = on_eight_devices("""
import numpy as np
from dci_jax.runtime import sharding
even = sharding.put(np.ones((16, 3)), sharding.batch_sharded())
print(even.addressable_shards[0].data.shape[0], len(even.addressable_shards))
print(sharding.put(np.ones((10, 3)), sharding.batch_sharded()).is_fully_replicated)
print(sharding.put(np.ones((16, 3)), sharding.replicated()).is_fully_replicated)
print(sharding.put(np.float32(1), sharding.batch_sharded()).is_fully_replicated)
print(sharding.local_rows(24), sharding.local_rows(10))
""")
    assert said == ["2", "8", "True", "True", "True", "(24,", "0)", "(10,", "0)"]


def test_training_state_stays_as_it_was_laid_and_images_are_optimised_in_shares():
    said = on_eight_devices("""
import jax, jax.numpy as jnp, numpy as np, optax
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize, step
seen = []
def loss(x, target, batch):
    value = jnp.sum((x - target) ** 2)
    return value, {"loss": value}
adam = optax.adam(0.1)
for count in (16, 10):
    x, _ = minimize(loss, np.zeros((count, 3), np.float32), jnp.float32(1), lambda _: None, steps=40,
                    optimizer=adam, layout=sharding.batch_sharded())
    print(x.addressable_shards[0].data.shape[0], float(abs(x - 1).max()) < 0.2)
""")
    assert said == ["2", "True", "10", "True"]


@pytest.mark.slow
def test_the_inputs_of_a_step_do_not_depend_on_the_devices(tmp_path):
    program = """
import jax, numpy as np
from dci_jax.runtime import sharding
from dci_jax.inputs.mixture import Prior, batches
pool = [np.full((8, 8, 3), i, np.uint8) for i in range(40)]
read = batches(Prior(pool, (("synthetic", 0.5), ("dead_leaves", 0.5)), (6, 6, 3)), jax.random.key(0), 16)
x = read(3)
print(len(x.sharding.device_set), len({str(s.index) for s in x.addressable_shards}))
np.save(%r, sharding.fetch(x))
"""
    one, eight = str(tmp_path / "one.npy"), str(tmp_path / "eight.npy")
    assert on_eight_devices(program % eight) == ["8", "8"]
    exec(program % one, {})
    np.testing.assert_allclose(np.load(one), np.load(eight), atol=1e-6)
