"""A feature codec and noise calibrated by Fisher information, against what their equations say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.defenses import codec
from dci_jax.defenses.channel import Channel, learn, message_bytes, send
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Block, Network

PRIOR = Prior((), (("dead_leaves", 1.0),), (16, 16, 3))
KEY = jax.random.key(0)


def network(params, apply):
    return Network((Block(params, "layer", lambda p, x: (apply(p, x), {})),), None, "small", (16, 16, 3))


@pytest.fixture(scope="module")
def mixed():
    """Two colours of three are nearly the third: the codec's first channel holds most."""
    return network(jnp.float32([[1, 0.9, 1], [1, 1, 0.9], [0.9, 1, 1]]), lambda p, x: x @ p)


def test_fine_steps_lose_nothing_and_coarse_ones_save_bytes(mixed):
    images = PRIOR.sample(jax.random.key(1), 4)
    features = images @ mixed.blocks[0].params
    channels = [learn(Channel("codec", step), mixed, 1, PRIOR, KEY, Path(), 0) for step in (0.001, 0.1, 1.0)]
    errors = [float(jnp.std(send(c, KEY, features) - features) / jnp.std(features)) for c in channels]
    assert errors[0] < 1e-3 < errors[1] < 0.05 < errors[2] < 0.5
    sizes = [message_bytes(c, features, send(c, KEY, features)).mean() for c in channels]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]


def test_coefficients_are_those_of_an_orthonormal_transform(mixed):
    channel = learn(Channel("codec", 1e-4), mixed, 1, PRIOR, KEY, Path(), 0)
    features = PRIOR.sample(jax.random.key(1), 4) @ mixed.blocks[0].params
    found = codec.coefficients(channel.params, features, 1e-4) * 1e-4 * channel.params["deviation"]
    energy = jnp.sum((features - channel.params["mean"]) ** 2, (1, 2, 3))
    np.testing.assert_allclose(jnp.sum(found**2, (1, 2, 3)), energy, rtol=1e-3)
    assert float(jnp.mean(found[..., 0] ** 2)) > 50 * float(jnp.mean(found[..., 1] ** 2))


def test_wide_coefficients_do_not_wrap():
    example = np.float32([[[1000.0, -3.0]]])
    assert codec.coefficient_bytes(example, 1.0) != codec.coefficient_bytes(example % 256, 1.0)


def test_calibrated_noise_has_the_scale_of_the_bound():
    """Where the device multiplies by 2, tr(J^T J) = 4 d: an unbiased estimate of deviation 0.1 wants noise of 0.2."""
    doubled = network(jnp.float32(2.0), lambda p, x: p * x)
    channel = learn(Channel("fisher_noise", 20.0), doubled, 1, PRIOR, KEY, Path(), 0)
    assert float(channel.params["scale"]) == pytest.approx(0.2, rel=0.02)
    features = jnp.zeros((64, 16, 16, 3))
    estimate = send(channel, KEY, features) / 2
    assert float(-10 * jnp.log10(jnp.mean(estimate**2))) == pytest.approx(20, abs=0.2)
