import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dci_jax.attacks.decoder import Decoder, Encoder
from dci_jax.dci.grid import shuffle, unshuffle
from dci_jax.dci.trained.inverter_network import Inverter, inverters
from dci_jax.errors import InputError
from dci_jax.network import feature_shapes
from dci_jax.pieces import sequential


def test_shuffle_undoes_unshuffle_and_places_pixels():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 6, 4, 3)))
    np.testing.assert_array_equal(shuffle(unshuffle(x, 2), 2), x)
    assert unshuffle(x, 2).shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(unshuffle(x, 2)[0, 1, 1, 3:6], x[0, 2, 3])


def test_an_untrained_inverter_of_a_residual_block_is_the_shortcut():
    f = jnp.array(np.random.default_rng(0).uniform(size=(2, 8, 8, 4)), jnp.float32)
    module = Inverter(1, 4, width=8, num_corrections=2, depth=2, nonnegative=True)
    params = module.init(jax.random.key(0), f, jnp.tanh)
    np.testing.assert_allclose(module.apply(params, f, jnp.tanh), f)


def test_the_blocks_answer_reaches_the_estimate():
    f = jnp.array(np.random.default_rng(0).uniform(size=(2, 8, 8, 4)), jnp.float32)
    module = Inverter(1, 4, width=8, num_corrections=1, depth=2, nonnegative=False)
    params = module.init(jax.random.key(0), f, jnp.tanh)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    a, b = (module.apply(params, f, block) for block in (jnp.tanh, lambda x: -x))
    assert np.abs(a - b).max() > 0.1


# (block, features, downsampling, upsampling, depth): a residual one, one with other channels, one that halves, one that doubles, few layers.
ROUNDS = {
    "same": (jnp.tanh, (6, 6, 4), 1, 1, 2),
    "deeper": (jnp.tanh, (6, 6, 4), 1, 1, 3),
    "one layer": (jnp.tanh, (6, 6, 4), 1, 1, 1),
    "channels": (lambda x: jnp.concatenate([x, x**2], -1), (6, 6, 8), 1, 1, 2),
    "halves": (lambda x: jnp.tanh(x)[:, ::2, ::2], (3, 3, 4), 2, 1, 2),
    "doubles": (lambda x: jnp.repeat(jnp.repeat(x**2, 2, 1), 2, 2), (12, 12, 4), 1, 2, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ROUNDS)
def test_what_is_known_before_a_round_changes_neither_value_nor_gradients(case):
    """Against the equation as it stands in the module's first lines, with all three inputs in every round."""
    block, shape, downsampling, upsampling, depth = ROUNDS[case]
    module = Inverter(downsampling, 4, width=8, num_corrections=3, depth=depth, nonnegative=True, upsampling=upsampling)
    rng = np.random.default_rng(0)
    f, weights = (jnp.array(rng.uniform(size=size), jnp.float32) for size in ((2, *shape), (2, 6, 6, 4)))
    params = module.init(jax.random.key(0), f, block)
    params = jax.tree.map(lambda leaf: jnp.array(rng.normal(size=leaf.shape) / 10, jnp.float32), params)

    def layer(params, name, x):
        kernel, bias = params["params"][name]["kernel"], params["params"][name]["bias"]
        return nn.Conv(len(bias), kernel.shape[:2], padding=1).apply({"params": {"kernel": kernel, "bias": bias}}, x)

    def equation(params, f):
        f = unshuffle(f, upsampling)
        x = shuffle(layer(params, "start", f), downsampling) if "start" in params["params"] else f
        for r in range(3):
            y = jnp.concatenate([unshuffle(x, downsampling), f, f - unshuffle(block(x), upsampling)], -1)
            for i in range(depth - 1):
                y = nn.gelu(layer(params, f"round{r}_conv{i}", y))
            x = nn.relu(x + shuffle(layer(params, f"round{r}_last", y), downsampling))
        return x

    def of(way):
        return jax.value_and_grad(lambda params, f: (way(params, f) * weights).sum(), (0, 1))(params, f)

    found, wanted = of(lambda params, f: module.apply(params, f, block)), of(equation)
    far = jax.tree.map(lambda a, b: jnp.linalg.norm(a - b) / jnp.linalg.norm(b), found, wanted)
    assert max(jax.tree.leaves(far)) < 1e-4, far


def test_factors_widths_and_signs_follow_the_network(network20):
    modules = inverters(network20, 10, width=1.5, cap=64, num_corrections=1, depth=2)
    shapes = feature_shapes(network20)
    assert [m.channels for m in modules] == [shape[-1] for shape in shapes[:-1]]
    assert [m.downsampling for m in modules] == [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
    assert [m.nonnegative for m in modules] == [False] + [True] * (len(modules) - 1)
    assert [modules[i].width for i in (0, 1, 4, 7)] == [24, 24, 48, 64]  # 96, but for the cap


@pytest.mark.parametrize("downsampling", [1, 2, 4])
def test_the_decoder_reaches_the_inputs_size(downsampling):
    f = jnp.zeros((2, 32 // downsampling, 32 // downsampling, 16))
    image, _ = Decoder(downsampling, 3, width=8).init_with_output(jax.random.key(0), f)
    assert image.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("function", [lambda _, x: x.mean((1, 2)), lambda _, x: x[:, :20, :20]])
def test_features_that_no_inverter_can_undo_are_refused_by_name(function):
    network = sequential("mine", (32, 32, 3), [("flat", function, {})])
    with pytest.raises(InputError, match="mine: flat makes features"):
        inverters(network, 1, width=1.0, cap=64, num_corrections=1, depth=2)


def test_a_block_that_enlarges_is_undone_at_its_inputs_size():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 4, 4, 6)), jnp.float32)

    def block(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    module = Inverter(1, 6, width=8, num_corrections=1, depth=2, nonnegative=False, upsampling=2)
    params = module.init(jax.random.key(0), block(x), block)
    assert module.apply(params, block(x), block).shape == x.shape
    assert params["params"]["round0_conv0"]["kernel"].shape == (3, 3, 6 + 2 * 24, 8)


def test_a_latent_is_an_image_of_one_pixel(generator):
    modules = inverters(generator, 5, width=1.0, cap=64, num_corrections=1, depth=2)
    assert [m.upsampling for m in modules] == [4, 2, 2, 2, 1]
    assert [m.downsampling for m in modules] == [1] * 5
    assert [m.vector for m in modules] == [True] + [False] * 4
    f = jnp.zeros((2, *feature_shapes(generator)[1]))
    found, params = modules[0].init_with_output(
        jax.random.key(0), f, lambda z: jnp.zeros((len(z), *f.shape[1:])) + z.sum()
    )
    assert found.shape == (2, 128)
    assert params["params"]["start"]["kernel"].shape[:2] == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("upsampling", [4, 8, 32])
def test_the_encoder_ends_in_a_latent(upsampling):
    f = jnp.zeros((2, upsampling, upsampling, 3))
    latent, params = Encoder(upsampling, 100, width=8).init_with_output(jax.random.key(0), f)
    assert latent.shape == (2, 100)
    assert params["params"]["last"]["kernel"].shape[0] <= 8 * 16 * 4 * 8
