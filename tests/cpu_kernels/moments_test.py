"""Mean and variance by channel, and their derivative, are those of their formulas at every shape."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.cpu_kernels.moments import moments

# Few rows, many that are added up in 4 and in 8 parts, an odd number of them, a single pixel, no image.
SHAPES = [(4, 5, 6, 3), (5, 32, 40, 3), (9, 32, 6, 5), (3, 35, 2, 7), (1, 1, 1, 4), (7, 3), (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_and_variance_are_numpys(shape):
    x = np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)
    mean, var = jax.jit(moments)(x)
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (9, 32, 6, 5), (7, 3)])
def test_the_derivative_of_the_moments_is_that_of_their_formula(shape):
    def plain(x):
        return jnp.mean(x, range(x.ndim - 1)), jnp.var(x, range(x.ndim - 1))

    rng = np.random.default_rng(0)
    x, change = (jnp.array(rng.normal(2, 3, shape), jnp.float32) for _ in range(2))
    chex.assert_trees_all_close(jax.jvp(moments, (x,), (change,)), jax.jvp(plain, (x,), (change,)), rtol=1e-4)

    def loss(f, x):
        mean, var = f(x)
        return jnp.sum(jnp.sin(mean)) + jnp.sum(var**1.5)

    found, wanted = (jax.grad(loss, 1)(f, x) for f in (moments, plain))
    chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-5)
