"""Refinement takes its start, and chooses on procedural images how smooth the images are to be."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.feature_matching import spread
from dci_jax.attacks.refine import check, refine
from dci_jax.attacks.selection import choose
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior

SETTINGS = dict(steps=5, learning_rate=0.02, total_variation=(0.0,), num_validation=4)


def attack(network, features, start, folder=None, **more):
    inputs = Prior((), (("dead_leaves", 1.0),), network.input_shape)
    read = refine(network, inputs, ("stem",), jax.random.key(0), folder, start={"stem": start}, **SETTINGS | more)
    return np.asarray(read["stem"](features))


def test_a_start_is_taken_and_not_lost(network, images):
    features = networks.run(network, images, 0, 1)
    found = attack(network, features, lambda _: jax.numpy.asarray(images), learning_rate=1e-3)
    assert np.mean((found - images) ** 2) < 1e-4


def test_the_weight_is_chosen_on_procedural_images_once(network, images, tmp_path):
    features = networks.run(network, images, 0, 1)

    def start(f):
        return jax.numpy.full((len(f), *network.input_shape), 0.5)

    found = attack(network, features, start, tmp_path, total_variation=(1e3, 0.0))
    kept = json.loads((tmp_path / "stem.json").read_text())
    assert kept["total_variation"] == 0.0
    assert kept["share"] > 0.5
    (tmp_path / "stem.json").write_text(json.dumps(kept | {"total_variation": 1e3}))
    smooth = attack(network, features, start, tmp_path, total_variation=(1e3, 0.0))
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.5 * np.abs(np.diff(found, axis=1)).mean()


def test_where_every_weight_harms_the_start_is_kept(network, images, tmp_path):
    """The start knows more than the features do: those of a network that sends next to nothing."""
    blind = network.replace(blocks=(replace(network.blocks[0], apply=_nothing), *network.blocks[1:]))
    truth = []

    def start(f):
        if len(f) == len(images):
            return jax.numpy.asarray(images)
        truth.append(len(f))
        from dci_jax.attacks.feature_matching import held_out

        inputs = Prior((), (("dead_leaves", 1.0),), network.input_shape)
        return held_out(network, inputs, jax.random.key(0), len(f))

    features = networks.run(blind, images, 0, 1)
    found = attack(blind, features, start, tmp_path, total_variation=(1.0, 100.0))
    assert truth
    np.testing.assert_allclose(found, images, atol=1e-6)


def _nothing(params, x):
    del params
    return jax.numpy.mean(x, (1, 2, 3), keepdims=True) * jax.numpy.ones((1, 8, 8, 4)), {}


def test_a_weight_that_diverges_is_left_out(images, tmp_path):
    def read(weight):
        return images * (jax.numpy.nan if weight else 1.0)

    assert choose(tmp_path / "a.json", "refine", images, 0.9 * images, (1.0, 0.0), read)[0] == 0.0
    with pytest.raises(InputError, match="refine: every weight of total variation diverges"):
        choose(tmp_path / "b.json", "refine", images, 0.9 * images, (1.0, 2.0), read)


def test_features_of_one_pixel_have_a_spread():
    """Else nothing but their distance counts, whatever the weight of total variation."""
    features = jax.numpy.asarray([[[[1.0, 3.0]]], [[[2.0, 2.0]]]])
    np.testing.assert_allclose(spread(features), [2.0, 0.0])
    np.testing.assert_allclose(spread(features.reshape(2, 2, 1, 1)), [2.0, 0.0])


def test_no_weight_at_all_is_refused(network):
    with pytest.raises(InputError, match=r"refine.total_variation is \(\); give one or more"):
        check(network, ("stem",), network.input_shape, total_variation=(), steps=5, learning_rate=0.1)
