import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import blocks
from dci_jax.attacks.gauss_newton import damped, gauss_newton
from dci_jax.blocks import Block, Network


def attack(network, split, features, **more):
    settings = {"steps": 8, "damping": 1e-2, **more}
    read = gauss_newton(network, None, (split,), jax.random.key(0), None, **settings)
    return np.asarray(read[split](features))


def test_a_damped_step_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    jacobian, residual = rng.normal(size=(30, 4)), rng.normal(size=30)
    weight = 0.3
    gram = jacobian.T @ jacobian
    wanted = np.linalg.solve(gram + weight * np.trace(gram) / 4 * np.eye(4), jacobian.T @ residual)
    found = damped(jnp.float32(jacobian), jnp.float32(residual), weight)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_it_finds_the_code_behind_an_image(generator):
    codes = jax.random.normal(jax.random.key(0), (3, 128))
    images = blocks.run(generator, codes)
    start = {"image": lambda _: codes + 0.1 * jax.random.normal(jax.random.key(1), codes.shape)}
    found = attack(generator, "image", images, start=start, damping=1e-4)
    before = np.linalg.norm(start["image"](None) - codes)
    assert np.linalg.norm(found - codes) < 0.1 * before


def test_each_code_is_found_alone(generator):
    images = blocks.run(generator, jax.random.normal(jax.random.key(0), (3, 128)))
    together = attack(generator, "image", images, steps=2)
    alone = attack(generator, "image", images[1:2], steps=2)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_what_the_features_do_not_show_stays_and_codes_stay_in_range():
    matrix = jnp.array([[2.0, 0.0], [1.0, 0.0]])
    block = Block(matrix, "image", lambda m, z: (z @ m.T, {}))
    network = Network((block,), None, "linear", (2,), latent="uniform")
    start = {"image": lambda _: jnp.array([[0.0, 0.7]])}
    found = attack(network, "image", jnp.array([[1.0, 0.5]]), start=start)
    np.testing.assert_allclose(found, [[0.5, 0.7]], atol=1e-4)
    outside = attack(network, "image", jnp.array([[9.0, 4.5]]), start=start)
    np.testing.assert_allclose(outside, [[1.0, 0.7]], atol=1e-4)
