"""Shuffled, dropped and merged tokens, and an attacker who puts them back."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.dci.chain import load_chain
from dci_jax.dci.solve_chain import dci
from dci_jax.defenses import tokens
from dci_jax.defenses.channel import Channel, learn, send
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior
from dci_jax.metrics import psnr
from dci_jax.network import Block, Network, features_at

PARAMS = {"grid": jnp.float32([1, 1, 1, 0])}  # the last channel holds a token from outside the grid
FEATURES = jax.random.normal(jax.random.key(0), (3, 4, 5, 4))


def rows(features):
    """The grid's tokens of each example, sorted."""
    return np.array([sorted(map(tuple, example)) for example in np.asarray(features)[..., :3].reshape(3, 20, 3)])


def test_shuffled_tokens_are_the_same_tokens_elsewhere():
    sent = tokens.shuffle_tokens(PARAMS, jax.random.key(1), FEATURES, 1.0)
    np.testing.assert_array_equal(rows(sent), rows(FEATURES))
    np.testing.assert_array_equal(sent[..., 3], FEATURES[..., 3])
    moved = np.any(np.asarray(sent != FEATURES), -1).mean((1, 2))
    assert (moved > 0.7).all()
    some = np.any(np.asarray(tokens.shuffle_tokens(PARAMS, jax.random.key(1), FEATURES, 0.3) != FEATURES), -1)
    assert 0 < some.mean() < 0.45


def test_dropped_tokens_are_dropped_whole():
    sent = np.asarray(tokens.drop_tokens(PARAMS, jax.random.key(1), FEATURES, 0.5))
    gone = (sent[..., :3] == 0).all(-1)
    np.testing.assert_array_equal(gone, (sent[..., :3] == 0).any(-1))
    np.testing.assert_array_equal(sent[..., 3], FEATURES[..., 3])
    assert 0.2 < gone.mean() < 0.8


def test_equal_tokens_merge_first_and_means_keep_the_sum_of_pairs():
    features = FEATURES.at[:, 0, 1].set(FEATURES[:, 0, 0].at[..., 3].set(7.0))
    sent = tokens.merge_tokens(PARAMS, None, features, jnp.float32(0.05))
    np.testing.assert_allclose(sent, features, atol=1e-6)  # the only pair that merges is of two equal tokens
    sent = tokens.merge_tokens(PARAMS, None, features, jnp.float32(1.0))
    assert all(len({tuple(t) for t in example.round(5)}) <= 10 for example in rows(sent))
    np.testing.assert_array_equal(sent[..., 3], features[..., 3])


def test_a_guess_is_compared_in_the_order_that_arrived():
    sent = tokens.shuffle_tokens(PARAMS, jax.random.key(1), FEATURES, 1.0)
    near = FEATURES + 0.01
    found = tokens.best_order(PARAMS, near, 1.0, sent, 1)
    np.testing.assert_allclose(found, sent + 0.01, atol=1e-5)
    gradient = jax.grad(lambda f: jnp.sum((tokens.best_order(PARAMS, f, 1.0, sent, 1) - sent) ** 2))(near)
    np.testing.assert_allclose(gradient, np.full_like(near, 0.02), atol=1e-5)


def test_positions_are_told_by_their_means_in_units_of_what_varies():
    varied = jax.random.normal(jax.random.key(2), (200, 4, 5, 4)) * jnp.float32([5.0, 0.3, 0.3, 1.0])
    features = varied + jax.random.normal(jax.random.key(3), (4, 5, 4))
    found = tokens.Positions.fit(PARAMS, [features[:150]])
    sent = tokens.shuffle_tokens(PARAMS, jax.random.key(1), features[150:], 1.0)

    def right(restored):
        return float(jnp.mean(jnp.all(restored == features[150:], -1)))

    assert right(found(sent)) > 0.6 > 0.3 > right(sent)
    plain = found.replace(precision=jnp.diag(PARAMS["grid"]))
    assert right(plain(sent)) < right(found(sent)) - 0.2


@pytest.mark.parametrize("shape", [(64,), (1, 1, 8), (64, 64, 8)])
def test_features_without_tokens_or_with_too_many_are_refused(shape):
    with pytest.raises(InputError, match="choose another split point"):
        tokens.check_grid(shape)


@pytest.mark.slow
def test_who_knows_of_the_shuffling_reads_what_others_cannot(tmp_path):
    def embedded(params, x):
        patches = x.reshape(len(x), 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(x), 4, 4, 48)
        return patches @ params["matrix"] + params["positions"], {}

    params = {
        "matrix": jax.random.normal(jax.random.key(0), (48, 48)) / 48**0.5,
        "positions": 2 * jax.random.normal(jax.random.key(1), (4, 4, 48)),
    }
    network = Network((Block(params, "patches", embedded),), None, "patches", (16, 16, 3))
    prior = Prior((), (("dead_leaves", 1.0),), (16, 16, 3))
    channel = learn(Channel("shuffle_tokens", 1.0), network, 1, prior, jax.random.key(0), Path(), 0)
    settings = dict(
        num_images=64,
        num_validation=16,
        batch=16,
        num_corrections=1,
        kernel_size=1,
        max_unknowns=(1000, 1000),
        samples_per_unknown=1000,
    )
    images = prior.sample(jax.random.key(5), 16)
    sent = send(channel, jax.random.key(6), features_at(network, 1, images))
    read = {
        name: dci(network, prior, ("patches",), jax.random.key(2), None, channel=known, **settings)["patches"]
        for name, known in {"blind": Channel("none", 0.0), "knows": channel}.items()
    }
    scores = {name: float(psnr(chain(sent), images).mean()) for name, chain in read.items()}
    assert scores["knows"] > scores["blind"] + 20
    assert jax.tree.leaves(read["knows"].restore)
    read["knows"].save(tmp_path / "chain.safetensors")
    kept = load_chain(tmp_path / "chain.safetensors", network, channel)
    np.testing.assert_array_equal(kept(sent), read["knows"](sent))
    with pytest.raises(
        InputError, match=r"was adapted to a defense that moves features, but the defense given is none"
    ):
        load_chain(tmp_path / "chain.safetensors", network)
    read["blind"].save(tmp_path / "blind.safetensors")
    with pytest.raises(InputError, match="was not adapted to a defense that moves"):
        load_chain(tmp_path / "blind.safetensors", network, channel)
    with pytest.raises(InputError, match="one size"):
        read["knows"].at_side(32)
