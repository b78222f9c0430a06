import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dci_jax.defenses import compression
from dci_jax.defenses.channel import Channel, learn, message_bytes, send, sent, with_defense, with_observation
from dci_jax.defenses.registry import DEFENSES
from dci_jax.defenses.size import coded_bytes
from dci_jax.inputs.mixture import Prior
from dci_jax.network import features_at, split_index
from dci_jax.settings import ranges
from tests.command_line import ROOT

FEATURES = jnp.array(np.random.default_rng(0).gamma(1.0, 2.0, size=(4, 16, 16, 8)), jnp.float32)
STRENGTHS = {"quantize": 4.0, "jpeg": 50.0, "bottleneck": 4.0, "nopeek": 1.0, "fisher_noise": 30.0}
INPUTS = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))
SPLIT = "layer1.0"


@pytest.mark.parametrize("kind", DEFENSES)
def test_presets_are_allowed_and_stand_in_the_docs(kind):
    presets = DEFENSES[kind].presets
    assert all(strength in ranges.STRENGTHS["defenses", kind] for strength in presets)
    if kind != "none":
        (row,) = (
            line
            for line in (ROOT / "docs" / "audit.md").read_text().splitlines()
            if line[:2] == "| " and f"`{kind}`" in line[:30]
        )
        assert ", ".join(f"{strength:g}" for strength in presets) in row


@pytest.fixture(scope="module")
def channels(network, tmp_path_factory):
    """Every defense, having learned for a moment."""
    index, folder = split_index(network, SPLIT), tmp_path_factory.mktemp("defenses")
    asked = [Channel(kind, STRENGTHS.get(kind, 0.5)) for kind in DEFENSES]
    return {c.kind: learn(c, network, index, INPUTS, jax.random.key(0), folder / c.label, 1) for c in asked}


@pytest.fixture(scope="module")
def features(network):
    images = jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
    return features_at(network, split_index(network, SPLIT), images)


def defend(kind, strength):
    return np.asarray(send(Channel(kind, strength), jax.random.key(0), FEATURES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEFENSES)
def test_shape_is_kept_and_only_random_ones_differ_from_send_to_send(kind, channels, features):
    first, again, other = (send(channels[kind], jax.random.key(seed), features) for seed in (0, 0, 1))
    assert first.shape == features.shape
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) != DEFENSES[kind].random
    assert (kind == "none") == np.array_equal(first, features)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEFENSES)
def test_an_example_does_not_depend_on_the_others(kind, channels, features):
    if DEFENSES[kind].random:
        pytest.skip("its noise does")
    alone = send(channels[kind], jax.random.key(0), features[1:2])
    np.testing.assert_allclose(send(channels[kind], jax.random.key(0), features)[1:2], alone, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEFENSES)
def test_the_attackers_network_gives_what_is_received_on_average(kind, channels, network):
    index, images = split_index(network, SPLIT), jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
    known = features_at(with_defense(network, index, channels[kind]), index, images)
    keys = jax.random.split(jax.random.key(2), 200 if DEFENSES[kind].random else 1)
    received = sum(sent(network, index, channels[kind], key, images) for key in keys) / len(keys)
    error = float(jnp.mean(jnp.abs(known - received)) / jnp.std(received))
    assert error < (0.15 if DEFENSES[kind].random else 1e-4)
    gradient = jax.grad(lambda x: jnp.sum(features_at(with_defense(network, index, channels[kind]), index, x)))(images)
    assert np.isfinite(gradient).all()
    assert float(jnp.abs(gradient).max()) > 0


def test_what_dropout_left_out_is_not_compared(network):
    index, images = split_index(network, SPLIT), jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
    channel = Channel("dropout", 0.5)
    received = sent(network, index, channel, jax.random.key(0), images)
    known = features_at(with_observation(with_defense(network, index, channel), received), index, images)
    np.testing.assert_allclose(known, received, atol=1e-5)


def test_a_known_mask_leaves_true_zeros_to_compare(network):
    index, images = split_index(network, SPLIT), jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
    features, guess = (features_at(network, index, x) for x in (images, images[::-1]))
    differs = {}
    for kind in ("dropout", "dropout_marked"):
        channel = Channel(kind, 0.5)
        received = sent(network, index, channel, jax.random.key(0), images)
        np.testing.assert_array_equal(received[received != 0], features[received != 0])
        known = features_at(with_observation(with_defense(network, index, channel), received), index, images)
        np.testing.assert_allclose(known, received, atol=1e-5)
        wrong = features_at(with_observation(with_defense(network, index, channel), received), index, images[::-1])
        differs[kind] = float(jnp.mean((wrong != received)[(features == 0) & (guess > 0)]))
    assert differs["dropout"] == 0
    assert differs["dropout_marked"] == pytest.approx(0.5, abs=0.05)


def test_a_known_mask_is_paid_for_in_the_message():
    sparse = jnp.maximum(FEATURES - 2, 0)
    sizes = []
    for kind in ("dropout", "dropout_marked"):
        channel = Channel(kind, 0.5)
        sizes.append(message_bytes(channel, sparse, send(channel, jax.random.key(0), sparse)))
    zeros = np.mean(send(Channel("dropout", 0.5), jax.random.key(0), sparse) == 0)
    assert (sizes[1] > sizes[0] + 0.5 * zeros * sparse[0].size / 8).all()


def test_several_marked_sends_keep_every_value_that_one_of_them_kept():
    received = np.asarray(send(Channel("dropout_marked", 0.5, 3), jax.random.key(0), jnp.maximum(FEATURES - 2, 0)))
    missing = (received == 0) & np.signbit(received)
    assert missing.mean() == pytest.approx(0.125, abs=0.01)
    np.testing.assert_array_equal(received[~missing], np.maximum(FEATURES - 2, 0)[~missing])


@pytest.mark.parametrize(("kind", "expected"), [("gaussian", 0.5), ("laplace", 0.5 * np.sqrt(2))])
def test_noise_is_measured_in_the_features_deviation(kind, expected):
    noise = defend(kind, 0.5) - FEATURES
    assert noise.std() / FEATURES.std() == pytest.approx(expected, rel=0.05)


def test_ten_sends_have_a_tenth_of_the_noises_variance():
    noise = np.asarray(send(Channel("gaussian", 0.5, 10), jax.random.key(0), FEATURES)) - FEATURES
    assert noise.std() / FEATURES.std() == pytest.approx(0.5 / np.sqrt(10), rel=0.05)


@pytest.mark.parametrize(("kind", "strength"), [("dropout", 0.9), ("dropout_marked", 0.9), ("topk", 0.1)])
def test_the_share_that_becomes_zero(kind, strength):
    assert np.mean(defend(kind, strength) == 0) == pytest.approx(0.9, abs=0.01)


def test_topk_keeps_the_largest():
    kept = defend("topk", 0.25)
    assert np.abs(kept)[kept != 0].min() >= np.quantile(np.abs(FEATURES[0]), 0.7)


@pytest.mark.parametrize("kind", ["topk_channels", "prune_channels"])
def test_whole_channels_are_left_out(kind, channels, features):
    received = np.asarray(send(channels[kind], jax.random.key(0), features))
    dead = (received == 0).all((1, 2))
    assert dead.sum(1).min() >= features.shape[-1] // 2
    np.testing.assert_array_equal(received[:, :, :, ~dead.any(0)], np.asarray(features)[:, :, :, ~dead.any(0)])


def test_quantisation_to_b_bits_leaves_that_many_levels():
    assert len(np.unique(defend("quantize", 2.0)[0])) == 4
    assert np.abs(defend("quantize", 8.0) - FEATURES).max() < np.ptp(FEATURES) / 255


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("shape", [(2, 16, 16, 8), (2, 7, 7, 5)])
def test_jpeg_is_what_pillow_makes_of_the_picture(quality, shape):
    features = jnp.array(np.random.default_rng(0).gamma(1.0, 2.0, size=shape), jnp.float32)
    received = np.asarray(send(Channel("jpeg", float(quality)), jax.random.key(0), features))
    low, span = (
        np.asarray(f(features, axis=tuple(range(1, features.ndim)), keepdims=True)) for f in (jnp.min, jnp.ptp)
    )
    expected = []
    for picture in np.asarray(compression.jpeg_picture({}, features, float(quality))):
        stream = io.BytesIO()
        Image.fromarray(np.uint8(picture)).save(stream, "JPEG", quality=quality)
        expected.append(np.asarray(Image.open(stream), np.float32) / 255)
    expected = np.asarray(compression._maps(np.stack(expected), shape)) * span + low
    error = np.abs(received - expected) / span * 255
    assert np.quantile(error, 0.9) < 3.5  # levels of 255; where a coefficient lies between two it may go either way
    assert error.mean() < 1


def test_more_quality_is_nearer_and_larger():
    errors, sizes = [], []
    for quality in (10.0, 90.0):
        received = defend("jpeg", quality)
        errors.append(np.abs(received - FEATURES).mean())
        sizes.append(message_bytes(Channel("jpeg", quality), FEATURES, received).mean())
    assert errors[0] > 1.5 * errors[1]
    assert sizes[0] < sizes[1] < coded_bytes(FEATURES[0])


def test_messages_are_as_short_as_what_they_say():
    noise = np.random.default_rng(0)
    uniform = noise.integers(0, 4, 8000).astype(np.float32)
    assert 2000 <= coded_bytes(uniform) < 2100  # two bits a value
    skewed = (noise.random(8000) < 0.01).astype(np.float32)
    assert coded_bytes(skewed) < 200  # .08 bits a value are 80 bytes
    sparse = noise.standard_normal(8000).astype(np.float32) * (noise.random(8000) < 0.1)
    assert 3000 < coded_bytes(sparse) < 800 * 4 + 700  # their values, and where they are


def test_a_bottleneck_sends_its_narrow_side(channels, features):
    received = send(channels["bottleneck"], jax.random.key(0), features)
    narrow = message_bytes(channels["bottleneck"], features, received)
    assert narrow.max() < features[0].size / 4 + 1100
    assert narrow.max() < message_bytes(channels["none"], features, features).min() / 4


@pytest.mark.slow
def test_learning_costs_the_server_less_and_hides_more(network, tmp_path):
    index = split_index(network, SPLIT)
    found = {
        strength: learn(
            Channel("learned_noise", strength), network, index, INPUTS, jax.random.key(0), tmp_path / f"{strength}", 20
        ).params["scale"]
        for strength in (0.01, 3.0)
    }
    assert float(found[3.0].mean()) > float(found[0.01].mean()) + 0.03


def test_levels_that_differ_by_rounding_are_one():
    """As those of a bottleneck, whose steps are added to the features and taken away again."""
    noise = np.random.default_rng(0)
    step = np.float32(3.7 / 255)
    plain = noise.integers(0, 256, (8, 8, 16)).astype(np.float32) * step - np.float32(1.3)
    up = noise.random(plain.shape) < 0.1
    rounded = np.where(up, np.nextafter(plain, np.float32(9)), plain)
    assert len(np.unique(rounded)) > 1.2 * len(np.unique(plain))
    assert coded_bytes(rounded) == coded_bytes(plain)
    few = plain[..., :1].round()  # a few levels, one of them twice
    assert coded_bytes(np.where(up[..., :1], np.nextafter(few, np.float32(9)), few)) == coded_bytes(few)


def test_levels_close_together_are_not_merged_in_a_chain():
    values = np.linspace(0, 1, 2_000_000, dtype=np.float32)  # neighbours differ by less than is merged
    assert coded_bytes(values) > 100_000


DETERMINISTIC = (
    *("quantize", "topk", "topk_channels", "jpeg", "bottleneck", "prune_channels", "nopeek"),
    *("codec", "merge_tokens"),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_the_truth_agrees_with_what_arrived_and_another_guess_is_pulled(kind, channels, features):
    channel = channels[kind]
    received = send(channel, jax.random.key(0), features)

    def residual(guess):
        known = DEFENSES[kind].expected(channel.params, guess, jnp.float32(channel.strength), received, jnp.float32(1))
        return known - received

    size = float(jnp.std(received))
    assert float(jnp.abs(residual(features)).max()) < 1e-4 * size
    other = features[::-1]
    pull = jax.grad(lambda guess: jnp.sum(residual(guess) ** 2))(other)
    assert np.isfinite(pull).all()
    assert float(jnp.mean(residual(other) ** 2)) > 1e-3 * size**2
    assert float(jnp.sum(pull * (other - features))) > 0  # downhill is towards the truth
    assert (
        float(jnp.mean(jnp.abs(residual(3 * features)))) > 0.1 * size
    )  # the range that arrived counts, not the guess's


def test_what_topk_left_out_is_at_most_as_large_as_the_smallest_that_arrived():
    received = jnp.float32([[5.0, -3.0, 0.0, 0.0]])
    guess = jnp.float32([[4.0, -3.5, -2.9, 4.0]])
    found = DEFENSES["topk"].expected({}, guess, 0.5, received, 1.0)
    np.testing.assert_allclose(found - received, [[-1.0, -0.5, 0.0, 1.0]])
    # Where fewer arrive than are kept, the others are zero.
    found = DEFENSES["topk"].expected({}, guess, 0.9, received, 1.0)
    np.testing.assert_allclose(found - received, [[-1.0, -0.5, -2.9, 4.0]])


def test_a_channel_that_was_left_out_has_at_most_the_energy_of_the_weakest_that_arrived():
    received = jnp.zeros((1, 2, 2, 4)).at[..., 0].set(2.0).at[..., 1].set(3.0)
    guess = jnp.ones((1, 2, 2, 4)).at[..., 3].set(6.0)
    found = DEFENSES["topk_channels"].expected({}, guess, 0.5, received, 1.0) - received
    np.testing.assert_allclose(found[0, 0, 0], [-1.0, -2.0, 0.0, 4.0], rtol=1e-5)


def test_learned_noise_is_weighed_by_its_scale(features):
    scale = jnp.log(jnp.linspace(0.1, 2.0, features[0].size)).reshape(features.shape[1:])
    found = DEFENSES["learned_noise"].expected({"scale": scale}, features + 1, 1.0, features, 1.0) - features
    np.testing.assert_allclose(found * jnp.exp(scale), (found * jnp.exp(scale))[0, 0, 0, 0], rtol=1e-3)
    assert float(jnp.mean(found[0] ** 2)) == pytest.approx(1, rel=1e-3)
