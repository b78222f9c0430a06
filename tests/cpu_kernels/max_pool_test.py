import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.cpu_kernels.max_pool import max_pool

SAME = (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
HALF = (1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4
ODD = (1, 1, 3, 2), (1, 1, 2, 2), ((0, 0), (0, 0), (1, 2), (0, 1))


def windows(x, window, strides, pads):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)


@pytest.mark.parametrize("how", [SAME, HALF, ODD])
def test_value_and_gradient_are_those_of_xlas_windows(how):
    x = jax.random.normal(jax.random.key(0), (2, 9, 10, 3))
    y, pull = jax.vjp(lambda x: max_pool(x, *how), x)
    wanted, pull_wanted = jax.vjp(lambda x: windows(x, *how), x)
    np.testing.assert_array_equal(y, wanted)
    change = jax.random.normal(jax.random.key(1), y.shape)
    np.testing.assert_allclose(pull(change)[0], pull_wanted(change)[0], atol=1e-6)


def test_a_small_step_moves_what_is_largest():
    x, step = (jax.random.normal(jax.random.key(seed), (1, 8, 8, 2)) for seed in (0, 1))
    _, moved = jax.jvp(lambda x: max_pool(x, *SAME), (x,), (step,))
    found = (max_pool(x + 1e-3 * step, *SAME) - max_pool(x, *SAME)) / 1e-3
    np.testing.assert_allclose(found, moved, atol=2e-2)


def test_of_equal_values_the_first_has_the_gradient():
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, *HALF)))(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], np.tile([[1, 0], [0, 0]], (2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_smaller_than_a_window_are_pooled(side):
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
    y, pull = jax.vjp(lambda x: max_pool(x, *SAME), x)
    wanted, pull_wanted = jax.vjp(lambda x: windows(x, *SAME), x)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_allclose(pull(jnp.ones_like(y))[0], pull_wanted(jnp.ones_like(y))[0], atol=1e-6)
