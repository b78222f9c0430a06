import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.errors import InputError
from dci_jax.pieces import sequential


def test_running_in_two_pieces_equals_running_in_one(network, images):
    whole = networks.run(network, images)
    for split in range(len(network.blocks) + 1):
        half = networks.run(network, images, 0, split)
        chex.assert_trees_all_close(networks.run(network, half, split), whole, rtol=1e-5, atol=1e-5)


def test_normalisation_is_applied_once_and_only_at_the_input(network, images):
    plain = network.replace(mean=(0.0,), std=(1.0,))
    normalised = (images - np.array(network.mean)) / np.array(network.std)
    expected = networks.run(plain, normalised.astype(np.float32))
    chex.assert_trees_all_close(networks.run(network, images), expected, rtol=1e-4, atol=1e-3)


def test_feature_shapes_are_those_of_the_features(network, images):
    features, _ = networks.trace(network, images)
    assert networks.feature_shapes(network) == tuple(f.shape[1:] for f in features)


def test_statistics_have_the_tree_of_the_running_ones(network, images):
    _, statistics = networks.trace(network, images)
    chex.assert_trees_all_equal_shapes(statistics, networks.running_statistics(network))


def test_split_points_are_named_like_the_modules_and_an_unknown_one_lists_them(network):
    assert networks.split_names(network)[:2] == ("stem", "layer1.0")
    assert networks.split_index(network, "layer3.0") == len(network.blocks)
    with pytest.raises(InputError, match=r"'layer9'.*layer3\.0"):
        networks.split_index(network, "layer9")


def test_a_network_is_a_pytree_of_its_weights(network):
    doubled = jax.tree.map(lambda w: 2 * w, network)
    assert doubled.name == network.name
    kernel = network.blocks[0].params["params"]["conv1"]["kernel"]
    chex.assert_trees_all_equal(doubled.blocks[0].params["params"]["conv1"]["kernel"], 2 * kernel)


def test_a_network_of_plain_functions_runs_and_has_splits():
    pieces = [
        ("double", lambda w, x: w * x, jnp.float32(2.0)),
        ("up", lambda _, x: (x + 1, {}), {}),
    ]
    network = sequential("mine", (4, 4, 3), pieces, mean=(0.5,), std=(0.5,))
    assert networks.split_names(network) == ("double", "up")
    assert networks.classes(network) is None
    x = jnp.full((1, 4, 4, 3), 0.75)
    np.testing.assert_allclose(networks.run(network, x), 2.0)
    with pytest.raises(InputError, match="each once"):
        sequential("mine", (4, 4, 3), [*pieces, pieces[0]])


def test_bfloat16_casts_kernels_and_leaves_batch_norm_alone(network, images):
    half = networks.with_dtype(network, "bfloat16")
    stem = half.blocks[0].params
    assert stem["params"]["conv1"]["kernel"].dtype == jnp.bfloat16
    assert stem["params"]["bn1"]["scale"].dtype == jnp.float32
    features, statistics = networks.trace(half, images)
    assert {f.dtype for f in features[1:]} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(statistics)} == {jnp.dtype(jnp.float32)}
    assert networks.logits(half, features[-1]).dtype == jnp.float32
    close = networks.run(network, images)
    assert np.abs(np.asarray(features[-1], "f4") - close).mean() < 0.05 * np.abs(close).mean()


def test_block_by_block_the_features_are_those_of_the_whole(network, images):
    whole, _ = networks.trace(network, images)
    for index in (0, 1, 4):
        np.testing.assert_allclose(networks.features_at(network, index, images), whole[index], rtol=1e-5, atol=1e-5)
    normalised = network.replace(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))  # in front of the first block alone
    np.testing.assert_allclose(
        networks.features_at(normalised, 3, images), networks.run(normalised, images, 0, 3), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(
        networks.run(networks.single_block(normalised, 2), whole[2]), networks.run(normalised, whole[2], 2, 3)
    )


def test_blocks_that_are_alike_share_their_programs(network20):
    network = network20
    # layer1.0 and layer1.1 keep the shape of what they take; layer2.0 halves it.
    stem, same, again, _, halves = (jax.tree.structure(networks.single_block(network, index)) for index in range(5))
    assert same == again
    assert len({stem, same, halves}) == 3
    images = np.zeros((3, 32, 32, 3), np.float32)
    before = networks._run.jitted._cache_size()
    networks.features_at(network, 4, images)
    assert networks._run.jitted._cache_size() == before + 2


def test_no_input_and_another_size_are_refused(network, images):
    with pytest.raises(InputError, match="no input"):
        networks.features_at(network, "stem", images[:0])
    with pytest.raises(InputError, match="with_side"):
        networks.features_at(network, "stem", images[:, :16, :16])


@pytest.mark.parametrize("units", [{"mean": (123.7, 116.3, 103.5)}, {"std": (58.4, 57.1, 57.4)}])
def test_a_normalization_for_pixels_of_0_to_255_is_refused(units):
    with pytest.raises(InputError, match="divide numbers for 0 to 255 by 255"):
        sequential("mine", (4, 4, 3), [("same", lambda w, x: w * x, jnp.float32(1.0))], **units)
