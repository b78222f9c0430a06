import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.inverse_network import inverse_network
from dci_jax.inputs.mixture import Prior, batches


@pytest.mark.slow
def test_training_lowers_the_error_on_images_it_has_not_seen(network, tmp_path):
    inputs = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))
    images = np.asarray(batches(inputs, jax.random.key(9), 20)(0))
    features = networks.run(network, images, 0, 2)
    errors = []
    for steps in (1, 100):
        read = inverse_network(
            network,
            inputs,
            ("layer1.0",),
            jax.random.key(0),
            tmp_path / str(steps),
            width=8,
            batch=16,
            learning_rate=5e-3,
            steps=steps,
            precision="float32",
        )
        errors.append(np.mean((np.asarray(read["layer1.0"](features)) - images) ** 2))
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.5 * images.var()


@pytest.mark.slow
def test_an_encoder_learns_a_generators_latents(generator, tmp_path):
    inputs = Prior((), ((generator.latent, 1.0),), generator.input_shape)
    latents = batches(inputs, jax.random.key(9), 20)(0)
    features = networks.run(generator, latents, 0, 2)
    errors = []
    for steps in (1, 100):
        read = inverse_network(
            generator,
            inputs,
            ("block2",),
            jax.random.key(0),
            tmp_path / str(steps),
            width=8,
            batch=32,
            learning_rate=5e-3,
            steps=steps,
            precision="float32",
        )
        errors.append(np.mean((np.asarray(read["block2"](features)) - latents) ** 2))
    assert errors[1] < 0.9 * errors[0]
