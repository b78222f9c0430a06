import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.blocks import feature_shapes
from dci_jax.models.inverter import Decoder, Inverter, inverters, shuffle, unshuffle


def test_shuffle_undoes_unshuffle_and_places_pixels():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 6, 4, 3)))
    np.testing.assert_array_equal(shuffle(unshuffle(x, 2), 2), x)
    assert unshuffle(x, 2).shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(unshuffle(x, 2)[0, 1, 1, 3:6], x[0, 2, 3])


def test_an_untrained_inverter_of_a_residual_block_is_the_shortcut():
    f = jnp.array(np.random.default_rng(0).uniform(size=(2, 8, 8, 4)), jnp.float32)
    module = Inverter((8, 8, 4), width=8, rounds=2, depth=2, nonnegative=True)
    params = module.init(jax.random.key(0), f, jnp.tanh)
    np.testing.assert_allclose(module.apply(params, f, jnp.tanh), f)


def test_the_blocks_answer_reaches_the_estimate():
    f = jnp.array(np.random.default_rng(0).uniform(size=(2, 8, 8, 4)), jnp.float32)
    module = Inverter((8, 8, 4), width=8, rounds=1, depth=2, nonnegative=False)
    params = module.init(jax.random.key(0), f, jnp.tanh)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    a, b = (module.apply(params, f, block) for block in (jnp.tanh, lambda x: -x))
    assert np.abs(a - b).max() > 0.1


def test_shapes_widths_and_signs_follow_the_network(network):
    modules = inverters(network, width=1.5, rounds=1, depth=2)
    shapes = feature_shapes(network)
    assert [m.shape for m in modules] == list(shapes[:-1])
    assert [m.nonnegative for m in modules] == [False] + [True] * (len(modules) - 1)
    assert [modules[i].width for i in (0, 1, 4, 7)] == [24, 24, 48, 96]


@pytest.mark.parametrize("size", [32, 16, 8])
def test_the_decoder_reaches_the_inputs_size(size):
    f = jnp.zeros((2, size, size, 16))
    decoder = Decoder((32, 32, 3), width=8)
    image, _ = decoder.init_with_output(jax.random.key(0), f)
    assert image.shape == (2, 32, 32, 3)
