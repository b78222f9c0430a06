import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dci_jax.cpu_kernels import onednn
from dci_jax.cpu_kernels.convolution import convolve
from dci_jax.cpu_kernels.onednn import fenced, options

NUMBERS = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
taken = pytest.mark.skipif(options() is None, reason="oneDNN's convolutions are taken on a CPU from JAX 0.12 on")


def ours(x, kernel):
    return convolve(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NUMBERS)


def channels_first(x, kernel):
    x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1))).transpose(0, 2, 3, 1)


def each_channel_alone(x, kernel):
    kernel = kernel[:, :, :1]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NUMBERS, feature_group_count=x.shape[-1]
    )


ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "hard swish": nn.hard_swish,
    "square": jnp.square,
}
READERS = {
    "alone": lambda activation, x, y: activation(y + 0.1),
    "by others": lambda activation, x, y: x + activation(y) + jnp.sin(y),
    "by statistics": lambda activation, x, y: activation(y) * (1 + (y**2).mean()),
}


@pytest.mark.slow
@taken
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("way", [ours, channels_first, each_channel_alone])
def test_values_and_gradients_are_those_without_it(way, activation, read):
    """XLA puts an activation into oneDNN's convolution, and who else reads what is before it gets the wrong array (JAX 0.12.0)."""
    kernels = [0.1 * jax.random.normal(jax.random.key(seed), (3, 3, 4, 4)) for seed in range(3)]
    x = jax.random.uniform(jax.random.key(9), (2, 8, 8, 4), minval=-1)

    def loss(x, kernels):
        for kernel in kernels:
            x = READERS[read](ACTIVATIONS[activation], x, way(x, kernel))
        return jnp.sum(jnp.cos(x)), x

    both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    wanted = jax.jit(both)(x, kernels)
    found = jax.jit(fenced(both), compiler_options=options())(x, kernels)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(b)


@taken
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_values_alone_are_those_without_it(activation):
    kernel, x = jax.random.normal(jax.random.key(0), (3, 3, 4, 4)), jax.random.normal(jax.random.key(1), (2, 8, 8, 4))

    def answer(x, kernel):
        y = ours(x, kernel)
        return ACTIVATIONS[activation](y), y

    found = jax.jit(fenced(answer), compiler_options=options())(x, kernel)
    for a, b in zip(found, jax.jit(answer)(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def with_everything(x):
    """Products in a loop, in a branch, in a rematerialised function, in a jitted one, and one that nobody reads."""

    def body(carry, _):
        return jax.checkpoint(lambda c: nn.silu(c @ c))(carry), None

    x, _ = jax.lax.scan(body, x, None, length=3)
    x = jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x, x)
    x = jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: 0.1 * (x @ x), x)
    jax.lax.dot(x, x)
    return {"sum": jax.jit(jnp.dot)(x, x).sum(), "key": jax.random.key(3)}


def test_a_barrier_stands_behind_every_product_wherever_it_is(monkeypatch):
    monkeypatch.setattr(onednn, "options", dict)
    x = 0.1 * jnp.ones((2, 2))
    program = str(jax.make_jaxpr(fenced(with_everything))(x))
    products = re.findall(r"(\w+):\S+ = dot_general", program)
    behind = re.findall(r"optimization_barrier (\w+)", program)
    assert products == behind
    assert len(products) == 5
    assert fenced(with_everything)(x)["sum"] == with_everything(x)["sum"]


def test_products_in_bfloat16_are_told_whose_gradients_no_barrier_makes_right(monkeypatch):
    monkeypatch.setattr(onednn, "options", dict)
    with pytest.raises(onednn.HalfPrecision):
        jax.jit(fenced(with_everything))(jnp.ones((2, 2), jnp.bfloat16))


def test_without_oneDNN_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(onednn, "options", lambda: None)
    assert fenced(with_everything) is with_everything


@taken
def test_convolutions_are_onednns_but_for_the_gradient_of_weights():
    kernels = [0.3 * jax.random.normal(jax.random.key(seed), (3, 3, *of)) for seed, of in enumerate(((3, 8), (8, 4)))]

    def loss(kernels, x):
        for kernel in kernels:
            x = nn.relu(ours(x, kernel))
        return jnp.sum((x - 1) ** 2)

    gradient = jax.jit(fenced(jax.grad(loss)), compiler_options=options())
    program = gradient.lower(kernels, np.ones((2, 8, 8, 3), np.float32)).compile().as_text()
    calls = [line for line in program.splitlines() if "__onednn$convolution" in line]
    assert len(calls) == 3  # two forwards, and the second layer's input
    assert len(re.findall(r" convolution\(", program)) == 2
