import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from training.discriminator import Discriminator, power_iteration, spectral_norm

NARROW = Discriminator(8)


def variables(iterations):
    found = dict(NARROW.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    for _ in range(iterations):
        found = power_iteration(found)
    return found


@pytest.mark.slow
def test_the_power_iteration_finds_the_largest_singular_value():
    found = variables(200)
    kernels = {k: v for k, v in flatten_dict(found["params"]).items() if k[-1] == "kernel"}
    assert len(kernels) == 11  # two in each of four blocks, two shortcuts, the last
    for path, kernel in kernels.items():
        u = flatten_dict(found["spectral"])[*path[:-1], "u"]
        largest = np.linalg.norm(np.asarray(kernel).reshape(-1, kernel.shape[-1]), 2)
        np.testing.assert_allclose(spectral_norm(kernel, u), largest, rtol=1e-3)


def test_scaling_a_weight_changes_nothing():
    found, images = variables(5), jax.random.uniform(jax.random.key(1), (3, 32, 32, 3))
    scaled = jax.tree.map_with_path(lambda path, leaf: 7 * leaf if path[-1].key == "kernel" else leaf, found["params"])
    scores = NARROW.apply(found, images)
    assert scores.shape == (3,)
    np.testing.assert_allclose(NARROW.apply({**found, "params": scaled}, images), scores, rtol=1e-4)


@pytest.mark.slow
def test_the_singular_vectors_take_no_gradient():
    images = jax.random.uniform(jax.random.key(1), (3, 32, 32, 3))
    gradient = jax.grad(lambda v: NARROW.apply(v, images).sum())(variables(5))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["spectral"]))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient["params"]))
