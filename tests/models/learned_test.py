"""A learned convolution is flax.linen.Conv's: its first weights, its value, and its gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dci_jax.models.learned import Weights, biased, conv


def test_names_and_first_values_are_those_of_flax():
    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return conv(x, Weights((3, 3, 4, 6), name="one")(), "float32")

    class Theirs(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(6, (3, 3), padding=1, name="one")(x)

    x = jnp.array(np.random.default_rng(0).normal(size=(2, 8, 8, 4)), jnp.float32)
    (ours, params), (theirs, wanted) = (module().init_with_output(jax.random.key(3), x) for module in (Ours, Theirs))
    chex.assert_trees_all_equal(params, wanted)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (2, 3, 5, 7), (4, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradients_of_a_bias_are_those_of_a_sum(shape, dtype):
    rng = np.random.default_rng(0)
    y, change, bias = (
        jnp.array(rng.normal(size=size), kind)
        for size, kind in zip((shape, shape, shape[-1]), (dtype, dtype, "float32"), strict=True)
    )
    value, back = jax.vjp(biased, y, bias)
    assert value.dtype == y.dtype
    np.testing.assert_array_equal(value, y + bias.astype(dtype))
    of_y, of_bias = back(change)
    np.testing.assert_array_equal(of_y, change)
    assert of_bias.dtype == jnp.float32
    exact = np.asarray(change, np.float64).sum(tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(of_bias, exact, rtol=1e-4, atol=1e-4)
