"""Attackers who know the defense read no less than those who do not."""

import jax
import pytest

from dci_jax.attacks import dci, gauss_newton, inverse_network, rmle
from dci_jax.blocks import split_index
from dci_jax.defenses.channel import Channel, sent
from dci_jax.inputs.mixture import Inputs, batches
from dci_jax.metrics import psnr

SETTINGS = dict(images=48, held_out=16, batch=16, rounds=2, size=3, unknowns=(10000, 10000), equations=10000)
INPUTS = Inputs((), (("dead_leaves", 1.0),), (32, 32, 3))
KEY, SPLIT = jax.random.key(0), "layer1.0"
CHANNELS = [Channel("gaussian", 1.0), Channel("dropout", 0.5), Channel("quantize", 2.0), Channel("topk", 0.1)]


@pytest.fixture(scope="module")
def images():
    return batches(INPUTS, jax.random.key(9), 8)(0)


@pytest.fixture(scope="module")
def blind(network, tmp_path_factory):
    return dci.dci(network, INPUTS, (SPLIT,), KEY, tmp_path_factory.mktemp("blind"), **SETTINGS)[SPLIT]


def received(network, channel, images):
    return sent(network, split_index(network, SPLIT), channel, jax.random.key(5), images)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.label)
def test_dci_solved_on_defended_features_reads_more(channel, network, images, blind, tmp_path):
    knows = dci.dci(network, INPUTS, (SPLIT,), KEY, tmp_path, channel=channel, **SETTINGS)[SPLIT]
    features = received(network, channel, images)
    before, after = (float(psnr(reader(features), images).mean()) for reader in (blind, knows))
    assert after > before + 2


@pytest.mark.parametrize(
    ("attack", "settings"),
    [
        (rmle.rmle, dict(steps=30, learning_rate=0.02, total_variation=0.0)),
        (
            gauss_newton.gauss_newton,
            dict(steps=3, inner=8, damping=1e-2, total_variation=(0.0,), held_out=2),
        ),
    ],
)
def test_refinement_does_not_compare_what_dropout_left_out(attack, settings, network, images, tmp_path):
    channel = Channel("dropout", 0.5)
    features, start = received(network, channel, images), {SPLIT: lambda f: images[: len(f)] + 0.05}
    found = []
    for number, more in enumerate(({}, {"channel": channel})):
        reader = attack(network, INPUTS, (SPLIT,), KEY, tmp_path / str(number), start=start, **settings, **more)[SPLIT]
        found.append(float(psnr(reader(features), images).mean()))
    assert found[1] > found[0] + 3


def test_an_inverse_network_learns_from_defended_features(network, images, tmp_path):
    channel = Channel("gaussian", 3.0)
    settings = dict(width=8, batch=16, learning_rate=1e-2, steps=40, precision="float32")
    features = received(network, channel, images)
    before, after = (
        float(
            psnr(
                inverse_network.inverse_network(network, INPUTS, (SPLIT,), KEY, tmp_path / str(i), **settings, **more)[
                    SPLIT
                ](features),
                images,
            ).mean()
        )
        for i, more in enumerate(({}, {"channel": channel}))
    )
    assert after > before + 0.5
