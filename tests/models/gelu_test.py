"""Our GELU is Flax's, with its derivatives, and keeps nothing but its input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dci_jax.models.gelu import gelu

X = np.float32([-30, -3, -1, -0.1, 0, 0.1, 1, 3, 30])


def total(function):
    return lambda x: jnp.sum(function(x) ** 2)


@pytest.mark.parametrize(
    "derived",
    [
        lambda f: f,
        lambda f: jax.grad(total(f)),
        lambda f: lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1],
        lambda f: jax.vmap(jax.grad(jax.grad(f))),
    ],
)
def test_it_and_its_derivatives_are_flaxs(derived):
    chex.assert_trees_all_close(jax.jit(derived(gelu))(X), jax.jit(derived(nn.gelu))(X), atol=1e-5, rtol=1e-5)


def test_it_is_of_its_inputs_type():
    assert gelu(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_nothing_but_its_input_is_kept_for_the_derivative():
    x = jnp.ones((4, 5))
    _, pull = jax.vjp(gelu, x)
    kept = [leaf for leaf in jax.tree.leaves(pull) if np.shape(leaf) == x.shape]
    assert len(kept) == 1, kept
