import chex
import jax
import numpy as np
import pytest

from dci_jax import blocks
from dci_jax.errors import InputError


def test_running_in_two_pieces_equals_running_in_one(network, images):
    whole = blocks.run(network, images)
    for split in range(len(network.blocks) + 1):
        half = blocks.run(network, images, 0, split)
        chex.assert_trees_all_close(blocks.run(network, half, split), whole, rtol=1e-5, atol=1e-5)


def test_normalisation_is_applied_once_and_only_at_the_input(network, images):
    plain = network.replace(mean=(0.0,), std=(1.0,))
    normalised = (images - np.array(network.mean)) / np.array(network.std)
    expected = blocks.run(plain, normalised.astype(np.float32))
    chex.assert_trees_all_close(blocks.run(network, images), expected, rtol=1e-4, atol=1e-4)


def test_feature_shapes_are_those_of_the_features(network, images):
    features, _ = blocks.trace(network, images)
    assert blocks.feature_shapes(network) == tuple(f.shape[1:] for f in features)


def test_statistics_have_the_tree_of_the_running_ones(network, images):
    _, statistics = blocks.trace(network, images)
    chex.assert_trees_all_equal_shapes(statistics, blocks.running_statistics(network))


def test_split_points_are_named_like_the_modules_and_an_unknown_one_lists_them(network):
    assert blocks.split_names(network)[:2] == ("stem", "layer1.0")
    assert blocks.split_index(network, "layer3.2") == len(network.blocks)
    with pytest.raises(InputError, match=r"'layer9'.*layer3\.2"):
        blocks.split_index(network, "layer9")


def test_a_network_is_a_pytree_of_its_weights(network):
    doubled = jax.tree.map(lambda w: 2 * w, network)
    assert doubled.name == network.name
    kernel = network.blocks[0].params["params"]["conv1"]["kernel"]
    chex.assert_trees_all_equal(doubled.blocks[0].params["params"]["conv1"]["kernel"], 2 * kernel)
