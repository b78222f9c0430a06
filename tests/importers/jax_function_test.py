"""A network made of any JAX function equals it, has its modules' ends as split points, and taps its BatchNorm layers."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dci_jax
from dci_jax.dci.blocks import split_stages
from dci_jax.errors import InputError
from dci_jax.importers.jax_places import nonnegative
from dci_jax.importers.jaxpr import traced
from dci_jax.network import feature_shapes, logits, run, running_statistics, split_names, trace, with_side
from docs import jax_functions

KEY = jax.random.key(0)
SPLITS = {
    "flax_linen": (("stem", "block1", "block2"), 4),
    "flax_nnx": (("layer1", "layer2"), 2),
    "haiku_style": (("conv1", "conv2"), 2),
    "equinox": (("layers",), 0),
    "keras_on_jax": (("conv1", "conv2"), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLITS)
def test_a_function_of_every_library_is_cut_at_its_modules(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    library = {"equinox": "equinox", "keras_on_jax": "keras"}.get(name)
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    network = getattr(jax_functions, name)()
    names, norms = SPLITS[name]
    assert split_names(network) == names
    images = np.random.default_rng(0).uniform(0, 1, (3, *network.input_shape)).astype(np.float32)
    features, found = trace(network, images)
    assert [f.shape[1:] for f in features] == list(feature_shapes(network))
    assert logits(network, features[-1]).shape == (3, 10)
    assert jax.tree.structure(found) == jax.tree.structure(running_statistics(network))
    assert len(jax.tree.leaves(found)) == 2 * norms
    np.testing.assert_allclose(run(network, images)[:1], run(network, images[:1]), rtol=1e-4, atol=1e-5)


def normalized(params, x):
    """A stem with BatchNorm in front of a max pooling whose windows overlap, a residual block that begins with BatchNorm."""

    def conv(w, x, stride=1):
        return jax.lax.conv_general_dilated(x, w, (stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def norm(name, x):
        return (x - params[name]["mean"]) / jnp.sqrt(params[name]["var"] + 1e-5)

    x = jax.nn.relu(norm("stem_norm", conv(params["stem"]["w"], x, 2)))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    y = conv(params["block"]["conv"]["w"], jax.nn.relu(norm("block_norm", x)))
    return (x + y).mean((1, 2)) @ params["head"]["w"]


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    found = {
        "stem": {"w": rng.normal(0, 0.3, (3, 3, 3, 8))},
        "block": {"conv": {"w": rng.normal(0, 0.1, (3, 3, 8, 8))}},
        "head": {"w": rng.normal(0, 1, (8, 5))},
    }
    found |= {f"{n}_norm": {"mean": rng.normal(0, 1, 8), "var": rng.uniform(0.5, 2, 8)} for n in ("stem", "block")}
    return jax.tree.map(np.float32, found)


@pytest.mark.slow
def test_statistics_are_those_of_what_goes_into_a_norm(params):
    network = dci_jax.from_jax(normalized, params, (16, 24, 3), mean=(0.5,), std=(0.2,))
    images = np.random.default_rng(1).uniform(0, 1, (4, 16, 24, 3)).astype(np.float32)
    features, found = trace(network, images)
    (at,) = [k for k, statistics in enumerate(found) if "block_norm" in statistics]
    np.testing.assert_allclose(found[at]["block_norm"]["mean"], features[at].mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[at]["block_norm"]["var"], features[at].var((0, 1, 2)), rtol=1e-4, atol=1e-5)
    assert running_statistics(network)[at]["block_norm"]["mean"] is not None
    np.testing.assert_allclose(
        logits(network, features[-1]), normalized(params, (images - 0.5) / np.float32(0.2)), rtol=1e-4, atol=1e-5
    )


def test_a_convolution_and_the_pooling_behind_it_are_two_stages_and_relu_is_known(params):
    network = dci_jax.from_jax(normalized, params, (16, 24, 3))
    assert [len(block.stages) for block in network.blocks][:1] == [2]
    assert len(split_stages(network).blocks) == len(network.blocks) + 1
    assert [block.nonnegative for block in network.blocks][:2] == [False, True]


@pytest.mark.parametrize(
    ("function", "never_negative"),
    [
        (lambda x: jnp.clip(x, 0, 6), True),
        (jax.nn.relu6, True),
        (lambda x: jax.nn.relu(x) + 2 * jnp.abs(x) / 3, True),
        (lambda x: jnp.clip(x, -1, 6), False),
        (lambda x: jax.nn.relu(x) + x, False),
        (lambda x: jax.nn.relu(x) - 1, False),
        (lambda x: jnp.minimum(jax.nn.relu(x), x), False),
        (lambda x: -2 * jax.nn.relu(x), False),
    ],
)
def test_what_is_never_negative_is_known(function, never_negative):
    x = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)
    program = traced(lambda arrays, x: function(x), [], [], x)
    assert nonnegative(program, program.output) == never_negative


@pytest.mark.slow
def test_images_of_another_size_are_taken(params):
    network = with_side(dci_jax.from_jax(normalized, params, (16, 16, 3)), 32)
    x = np.random.default_rng(1).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(logits(network, run(network, x)), normalized(params, x), rtol=1e-4, atol=1e-5)


def test_a_place_that_is_no_end_of_a_module_can_be_asked_for(params):
    network = dci_jax.from_jax(normalized, params, (16, 16, 3))
    with pytest.raises(InputError, match="no split point 'nowhere'; choose from") as refused:
        dci_jax.from_jax(normalized, params, (16, 16, 3), splits=("nowhere",))
    others = str(refused.value).partition("from: ")[2].rstrip(".").split(", ")
    (more,) = [name for name in others if name not in split_names(network)][:1]
    assert more in split_names(dci_jax.from_jax(normalized, params, (16, 16, 3), splits=(more,)))


def noisy(params, x):
    return normalized(params, x + np.random.default_rng().normal(size=x.shape).astype(np.float32))


@pytest.mark.parametrize(
    ("function", "shape", "sentence"),
    [
        (lambda p, x: (x.sum(), x.mean((1, 2, 3))), (16, 16, 3), r"returns \[\], \[2\] for 2 images"),
        (lambda p, x: normalized(p, x).sum(), (16, 16, 3), r"returns \[\] for 2 images"),
        (normalized, (16, 16, 4), r"does not take images \[2, 16, 16, 4\]"),
        (normalized, (16, 16), r"has the input shape \(16, 16\)"),
        (lambda p, x: normalized(p, x - x.mean((0, 1, 2))), (16, 16, 3), "by what else is in the batch"),
        (lambda p, x: x.reshape(len(x), -1)[:, :5], (16, 16, 3), "no split point"),
        (noisy, (16, 16, 3), "differ from the function's"),
    ],
)
def test_what_is_no_network_is_one_sentence(function, shape, sentence, params):
    with pytest.raises(InputError, match=sentence):
        dci_jax.from_jax(function, params, shape)


def test_other_arguments_are_checked_and_an_example_will_do_for_a_shape(params):
    assert dci_jax.from_jax(normalized, params, np.zeros((1, 16, 16, 3))).input_shape == (16, 16, 3)
    for more, sentence in (
        ({"mean": (0.5, 0.5)}, "has mean"),
        ({"std": (0.0,)}, "has std"),
        ({"splits": "x"}, "no split point 'x'"),
    ):
        with pytest.raises(InputError, match=sentence):
            dci_jax.from_jax(normalized, params, (16, 16, 3), **more)


def test_weights_that_diverged_are_refused(params):
    broken = {**params, "head": {"w": np.full((8, 5), np.nan, np.float32)}}
    with pytest.raises(InputError, match=r"'head\.w' has numbers that are not finite"):
        dci_jax.from_jax(normalized, broken, (16, 16, 3))


@pytest.mark.slow
def test_a_chain_is_solved_for_it_and_reconstructs(params):
    network = dci_jax.from_jax(normalized, params, (16, 24, 3))
    prior = dci_jax.Prior((), (("pink_noise", 1.0),), network.input_shape)
    few = dict(num_images=32, num_validation=16, batch_size=16, num_corrections=1, kernel_size=3, progress=False)
    chain = dci_jax.solve_chain(network, split_names(network)[0], prior, key=KEY, **few)
    images = prior.sample(jax.random.key(7), 4)
    found = chain(dci_jax.features_at(network, split_names(network)[0], images))
    assert found.shape == (4, 16, 24, 3)
    blank = np.mean(images, (1, 2), keepdims=True) + 0 * images
    assert dci_jax.metrics.psnr(found, images).mean() > dci_jax.metrics.psnr(blank, images).mean() + 2


def test_one_image_costs_what_one_image_costs(params):
    def with_token(params, x):  # what is broadcast over the batch makes another program of one image
        token = jnp.broadcast_to(params["token"], (len(x), 1, 1, 3))
        return normalized(params, x + token)

    whole = 2 * 8 * 8 * 27 * 8  # of the stem's convolution, strided
    for function, more in ((normalized, {}), (with_token, {"token": np.ones(3, np.float32)})):
        network = dci_jax.from_jax(function, params | more, (16, 16, 3))
        stem = dci_jax.split_points(network)[0]
        assert 0.8 * whole < stem["device_flops"] < 1.5 * whole, stem


def test_a_norm_in_front_of_a_block_belongs_to_that_block():
    """Its mean and deviation are computed before its parameters are used, and the block before it ends at the sum."""
    rng, width = np.random.default_rng(0), 8

    def block():
        dense = {"w": rng.normal(size=(width, width)).astype(np.float32) / 3}
        return {"norm": {"scale": np.ones(width, np.float32)}, "fc1": dense, "fc2": {"w": -dense["w"]}}

    params = {
        "embed": {"w": rng.normal(size=(4, 4, 3, width)).astype(np.float32)},
        "blocks": {"0": block(), "1": block()},
        "head": {"w": rng.normal(size=(width, 5)).astype(np.float32)},
    }

    def transformer(params, x):
        x = jax.lax.conv_general_dilated(
            x, params["embed"]["w"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x.reshape(len(x), -1, width)
        for part in params["blocks"].values():
            y = x - x.mean(-1, keepdims=True)
            y = y / jnp.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * part["norm"]["scale"]
            x = x + jax.nn.gelu(y @ part["fc1"]["w"]) @ part["fc2"]["w"]
        return x.mean(1) @ params["head"]["w"]

    network = dci_jax.from_jax(transformer, params, (16, 16, 3))
    assert split_names(network) == ("embed", "blocks.0", "blocks.1")
