"""Attackers who know the defense read no less than those who do not, behind each of them."""

import jax
import pytest

from dci_jax.attacks import gauss_newton, inverse_network, refine
from dci_jax.dci import solve_chain
from dci_jax.defenses.channel import Channel, learn, sent
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr
from dci_jax.network import Block, Network

# Eight images at a time everywhere, so that every program is compiled once.
SETTINGS = dict(
    num_images=32,
    num_validation=16,
    batch=8,
    num_corrections=1,
    kernel_size=3,
    max_unknowns=(10000, 10000),
    samples_per_unknown=10000,
)
REFINE = dict(steps=20, learning_rate=0.01, total_variation=(0.0,), num_validation=8)
GAUSS_NEWTON = dict(steps=2, inner=5, damping=1e-2, total_variation=(0.0,), num_validation=8)
SHAPE, SPLIT, KEY = (16, 16, 3), "layer", jax.random.key(0)
INPUTS = Prior((), (("dead_leaves", 1.0),), SHAPE)
# (strength, dB that knowing the defense is worth at the least); tokens_test.py and codec_test.py have the rest
WORTH = {
    "gaussian": (1.0, 2.0),
    "laplace": (0.5, 2.0),
    "dropout": (0.5, 2.0),
    "dropout_marked": (0.5, 2.0),
    "quantize": (2.0, 0.5),
    "topk": (0.1, 2.0),
    "topk_channels": (0.25, 2.0),
    "jpeg": (10.0, 0.1),
    "prune_channels": (0.75, 2.0),
    "bottleneck": (8.0, 1.0),
    "nopeek": (1.0, 2.0),
    "learned_noise": (1.0, 2.0),
    "codec": (4.0, 0.05),
    "drop_tokens": (0.5, 2.0),
}


def convolution(weights, x):
    return jax.nn.relu(jax.lax.conv_general_dilated(x - 0.5, weights, (1, 1), "SAME", dimension_numbers=ORDER)), {}


ORDER = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(scope="module")
def network():
    """One convolution of 16 channels and its ReLU."""
    weights = jax.random.normal(jax.random.key(3), (3, 3, 3, 16)) / 27**0.5
    return Network((Block(weights, SPLIT, convolution),), None, "small", SHAPE)


@pytest.fixture(scope="module")
def images():
    return batches(INPUTS, jax.random.key(9), 8)(0)


@pytest.fixture(scope="module")
def blind(network, tmp_path_factory):
    return solve_chain.dci(network, INPUTS, (SPLIT,), KEY, tmp_path_factory.mktemp("blind"), **SETTINGS)[SPLIT]


@pytest.fixture(scope="module", params=WORTH)
def defended(request, network, images, tmp_path_factory):
    """(channel, which has learned for a moment, what arrives of the images, adapted DCI's reader)."""
    folder = tmp_path_factory.mktemp(request.param)
    channel = Channel(request.param, WORTH[request.param][0])
    channel = learn(channel, network, 1, INPUTS, KEY, folder / channel.label, 10)
    reader = solve_chain.dci(network, INPUTS, (SPLIT,), KEY, folder, channel=channel, **SETTINGS)
    return channel, received(network, channel, images), reader


def received(network, channel, images):
    return sent(network, 1, channel, jax.random.key(5), images)


def quality(reader, features, images):
    return float(psnr(reader(features), images).mean())


@pytest.mark.slow
def test_dci_solved_on_defended_features_reads_more(defended, images, blind):
    channel, features, knows = defended
    gained = quality(knows[SPLIT], features, images) - quality(blind, features, images)
    assert gained > WORTH[channel.kind][1]


@pytest.mark.slow
@pytest.mark.parametrize("defended", ["gaussian", "dropout_marked", "quantize", "jpeg", "bottleneck"], indirect=True)
@pytest.mark.parametrize(("attack", "settings"), [(refine.refine, REFINE), (gauss_newton.gauss_newton, GAUSS_NEWTON)])
def test_what_starts_from_it_does_not_fall_below_it(attack, settings, defended, network, images, tmp_path):
    channel, features, start = defended
    reader = attack(network, INPUTS, (SPLIT,), jax.random.key(1), tmp_path, start=start, channel=channel, **settings)
    before, after = (quality(r[SPLIT], features, images) for r in (start, reader))
    assert after > before - 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "settings"), [(refine.refine, REFINE), (gauss_newton.gauss_newton, GAUSS_NEWTON)])
def test_refinement_does_not_compare_what_dropout_left_out(attack, settings, network, images, tmp_path):
    channel = Channel("dropout", 0.5)
    features, start = received(network, channel, images), {SPLIT: lambda f: images[: len(f)] + 0.05}
    found = []
    for number, more in enumerate(({}, {"channel": channel})):
        reader = attack(network, INPUTS, (SPLIT,), KEY, tmp_path / str(number), start=start, **settings, **more)[SPLIT]
        found.append(quality(reader, features, images))
    assert found[1] > found[0] + 3


@pytest.mark.slow
def test_an_inverse_network_learns_from_defended_features(network, images, tmp_path):
    settings = dict(width=8, batch=8, learning_rate=1e-2, steps=40, precision="float32")
    channel, found = Channel("gaussian", 3.0), []
    features = received(network, channel, images)
    for number, more in enumerate(({}, {"channel": channel})):
        attack = inverse_network.inverse_network
        reader = attack(network, INPUTS, (SPLIT,), KEY, tmp_path / str(number), **settings, **more)[SPLIT]
        found.append(quality(reader, features, images))
    assert found[1] > found[0] + 0.5
