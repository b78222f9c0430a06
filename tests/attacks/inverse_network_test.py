import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.inverse_network import inverse_network
from dci_jax.inputs.mixture import Prior, batches


def learned(network, split, depth, unseen, folder, source, batch, steps):
    """(the error on inputs it has not seen, their variance) of a small decoder."""
    inputs = Prior((), ((source, 1.0),), network.input_shape)
    settings = dict(width=8, batch=batch, learning_rate=5e-3, steps=steps, precision="float32")
    read = inverse_network(network, inputs, (split,), jax.random.key(0), folder, **settings)
    found = np.asarray(read[split](networks.run(network, unseen, 0, depth)))
    return np.mean((found - unseen) ** 2), unseen.var()


def new(source, shape):
    return np.asarray(batches(Prior((), ((source, 1.0),), shape), jax.random.key(9), 20)(0))


@pytest.mark.slow
def test_it_learns_to_read_images_it_has_not_seen(network, tmp_path):
    error, variance = learned(network, "stem", 1, new("dead_leaves", (32, 32, 3)), tmp_path, "dead_leaves", 8, 100)
    assert error < 0.5 * variance


@pytest.mark.slow
def test_an_encoder_learns_a_generators_latents(generator, tmp_path):
    latents = new(generator.latent, generator.input_shape)
    error, variance = learned(generator, "block2", 2, latents, tmp_path, generator.latent, 32, 100)
    assert error < 0.95 * variance
