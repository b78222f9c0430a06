import jax
import numpy as np
import pytest

from dci_jax import blocks
from dci_jax.errors import InputError
from dci_jax.losses import batch_norm_statistics
from dci_jax.synthesis import synthesize

SETTINGS = dict(
    batches=2, batch=8, steps=30, start="white_noise", learning_rate=0.05, statistics=10.0,
    cross_entropy=0.1, total_variation=0.1, l2=0.0, jitter=2,
)  # fmt: skip


def distance(network, images):
    _, found = blocks.trace(network, images / np.float32(255))
    return float(batch_norm_statistics(found, blocks.running_statistics(network)))


def test_statistics_come_closer_and_pixels_stay_valid(network, tmp_path):
    key = jax.random.key(0)
    images = synthesize(network, key, tmp_path / "long", **SETTINGS)
    before = synthesize(network, key, tmp_path / "short", **{**SETTINGS, "steps": 1})
    assert images.shape == (16, 32, 32, 3)
    assert images.dtype == np.uint8
    assert distance(network, images[:8]) < 0.9 * distance(network, before[:8])


def test_finished_batches_are_kept_and_the_rest_equals_an_undisturbed_run(network, tmp_path):
    settings = {**SETTINGS, "steps": 2}
    whole = synthesize(network, jax.random.key(0), tmp_path, **settings)
    kept = tmp_path / "batch_00000.npy"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "batch_00001.npy").unlink()
    (tmp_path / "batch_00001.npy.part").write_bytes(b"a kill in the middle of writing")
    again = synthesize(network, jax.random.key(0), tmp_path, **settings)
    np.testing.assert_array_equal(again, whole)
    assert kept.stat().st_mtime_ns == stamp


def test_no_batches_give_an_empty_bank(network, tmp_path):
    images = synthesize(network, jax.random.key(0), tmp_path, **{**SETTINGS, "batches": 0})
    assert images.shape == (0, 32, 32, 3)


def test_a_network_without_batch_norm_is_refused(network, tmp_path):
    bare = network.replace(
        blocks=tuple(b.replace(params={"params": b.params["params"]}) for b in network.blocks)
    )
    with pytest.raises(InputError, match="no BatchNorm"):
        synthesize(bare, jax.random.key(0), tmp_path, **SETTINGS)
