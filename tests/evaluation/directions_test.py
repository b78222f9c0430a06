import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.evaluation.directions import spectrum
from dci_jax.network import Block, Network, run


def linear(matrix, latent):
    """A generator whose one block is a matrix [pixels, entries]."""
    block = Block(jnp.asarray(matrix), "image", lambda m, z: (z @ m.T, {}))
    return Network((block,), None, "linear", (matrix.shape[1],), latent=latent)


def test_a_linear_generators_spectrum_is_its_matrixs():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 5)).astype(np.float32)
    latents = rng.normal(size=(3, 5)).astype(np.float32)
    _, wanted, directions = np.linalg.svd(matrix)
    values, vectors = spectrum(linear(matrix, "normal"), latents, 1)
    np.testing.assert_allclose(values, np.broadcast_to(wanted / 20**0.5, (3, 5)), rtol=1e-4)
    np.testing.assert_allclose(np.abs(vectors[1] @ directions.T), np.eye(5), atol=1e-3)
    uniform, _ = spectrum(linear(matrix, "uniform"), latents, 1)
    np.testing.assert_allclose(uniform, values / 3**0.5, rtol=1e-5)


def test_directions_that_an_image_hardly_shows_keep_their_digits():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 4)))[0] for n in (20, 4))
    wanted = np.array([1, 1e-2, 1e-4, 1e-5], np.float32)  # J'J would have 1e-10 of its largest
    matrix = np.float32(left * wanted @ right.T)
    values, _ = spectrum(linear(matrix, "normal"), np.zeros((1, 4), np.float32), 1)
    np.testing.assert_allclose(values[0] * 20**0.5, wanted, rtol=0.05)


@pytest.mark.slow
def test_a_step_along_a_direction_changes_pixels_by_its_value(generator):
    latents = jax.random.normal(jax.random.key(0), (2, 128))
    index = len(generator.blocks)
    values, vectors = spectrum(generator, latents, index)
    assert (np.diff(values, axis=1) <= 1e-7).all()
    step = 1e-2
    for i in (0, 50):
        change = run(generator, latents + step * vectors[:, i]) - run(generator, latents)
        rms = np.sqrt(np.mean(change**2, (1, 2, 3))) / step
        np.testing.assert_allclose(rms, values[:, i], rtol=0.1)
