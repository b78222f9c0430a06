"""`dci+unet` learns what its start leaves out, resumes, and refuses grids that it cannot halve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.attacks import unet
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.network import Block, Network

INPUTS = Prior((), (("dead_leaves", 1.0),), (16, 16, 3))
SETTINGS = dict(width=8, num_images=16, batch=8, learning_rate=5e-3, precision="float32")


def shrunk(factor, side=16):
    """A network of one block, which keeps every `factor`-th pixel."""
    block = Block((), "block", lambda _, x: (x[:, ::factor, ::factor], {}))
    return Network((block,), None, "shrunk", (side, side, 3))


def enlarged(features):
    """Every pixel twice: what a start makes of the features of `shrunk(2)`."""
    return jnp.repeat(jnp.repeat(features, 2, 1), 2, 2)


@pytest.mark.parametrize(("factor", "side"), [(1, 15), (1, 18), (8, 16)])
def test_before_training_it_is_the_start(factor, side):
    module = unet.unet_for(shrunk(factor, side), 1, 8)
    x, f = jnp.full((2, side, side, 3), 0.3), jnp.ones((2, side // factor, side // factor, 3))
    params = module.init(jax.random.key(0), x, f)
    np.testing.assert_array_equal(module.apply(params, x, f), x)
    # The features have a way in, as soon as the last layer has weights.
    params["params"]["last"]["kernel"] += 1
    assert np.abs(module.apply(params, x, f) - module.apply(params, x, 2 * f)).max() > 1e-3


def test_it_learns_what_the_start_leaves_out_and_makes_its_images_once(tmp_path):
    network, calls = shrunk(2), []

    def start(features):
        calls.append(len(features))
        return enlarged(features)

    def fit():
        key = jax.random.key(0)
        return unet.unet(network, INPUTS, ("block",), key, tmp_path, steps=60, start={"block": start}, **SETTINGS)

    read = fit()["block"]
    assert calls == [8, 8, 8]  # those that it judges by, then two batches of eight
    images = batches(INPUTS, jax.random.key(9), 8)(0)
    found = read(images[:, ::2, ::2])
    error, before = (np.mean((x - images) ** 2) for x in (found, enlarged(images[:, ::2, ::2])))
    assert error < 0.9 * before
    calls.clear()
    np.testing.assert_array_equal(fit()["block"](images[:, ::2, ::2]), found)
    assert calls == [8, 8]  # nothing is trained again


def test_it_says_what_it_does_not_take():
    unet.check(shrunk(4), ("block",), (16, 16, 3), num_images=16)
    with pytest.raises(
        InputError, match="block has features 3 times smaller than the image; a U-Net needs a power of two"
    ):
        unet.check(shrunk(3, 18), ("block",), (18, 18, 3), num_images=16)
    with pytest.raises(InputError, match=r"take .* GiB, more than half of this machine's memory; give at most"):
        unet.check(shrunk(4), ("block",), (16, 16, 3), num_images=10**9)
