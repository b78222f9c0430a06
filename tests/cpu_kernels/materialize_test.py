"""What is computed once is not computed again by those who read it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.cpu_kernels.materialize import materialize

KERNEL = jnp.full((3, 3, 4, 4), 0.02)
BLOCKS = 6


def chain(kept, x):
    """Residual blocks, as a ResNet has them."""
    for _ in range(BLOCKS):
        y = jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = kept(jax.nn.relu(x + y))
    return jnp.sum(x**2)


def same(x):
    return x


def rectified(kept, x):
    """How many ReLUs the compiled gradient computes."""
    program = jax.jit(jax.grad(lambda x: chain(kept, x))).lower(x).compile().as_text()
    return len(re.findall(r" maximum\(", program))


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="XLA:CPU takes no notice of it before JAX 0.12")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator decides for itself")
def test_a_chain_of_blocks_is_computed_once():
    x = jnp.ones((2, 8, 8, 4))
    assert rectified(materialize, x) == BLOCKS < rectified(same, x)


def test_it_changes_nothing_in_any_derivative():
    x, change = (jax.random.normal(jax.random.key(seed), (2, 8, 8, 4)) for seed in range(2))
    for derived in (jax.grad, along, each):
        found, wanted = (
            derived(functools.partial(chain, kept))(x, *[change] * (derived is along)) for kept in (materialize, same)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def along(function):
    return lambda x, change: jax.jvp(jax.grad(function), (x,), (change,))[1]


def each(function):
    return lambda x: jax.vmap(jax.grad(function))(x[:, None])
