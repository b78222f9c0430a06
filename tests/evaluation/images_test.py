import csv
import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from configs import default
from dci_jax import network as networks
from dci_jax import results
from dci_jax.data.images import Images
from dci_jax.defenses.channel import NONE, Channel
from dci_jax.evaluation import image_scores, images
from dci_jax.evaluation.kept import costs
from dci_jax.inputs.spectrum import identity
from tests.report.cells import cell

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)


def read(network, tmp_path, reconstruct, split="layer1.0", channel=NONE, labels=None):
    private, key = Images(tuple("abcde"), PIXELS, labels), jax.random.key(0)
    known = {"predicted": functools.partial(image_scores.predictions, network, private, 2)}
    cost = image_scores.measure_sent(network, private, 2, split, channel, key, tmp_path / "s.npz", **known)
    file = tmp_path / "r.npz"
    return cost | image_scores.read(network, private, 2, None, split, channel, reconstruct, key=key, file=file, **known)


def answer(network):
    """Logits of the first image, without the head's bias."""
    features = networks.run(network, PIXELS[:1] / np.float32(255))
    return np.asarray(features.mean((1, 2)) @ network.head.params["params"]["linear"]["kernel"])[0]


def test_the_attack_sees_features_and_never_the_images(network, tmp_path):
    seen = []

    def attack(features):
        seen.append(features.shape)
        return jax.numpy.full((len(features), 32, 32, 3), 0.5)

    result = read(network, tmp_path, attack)
    assert seen == [(2, 32, 32, 16), (2, 32, 32, 16), (1, 32, 32, 16)]
    assert result["psnr"].shape == (5,)
    assert result["reconstruction"].shape == (5, 32, 32, 3)
    assert np.all(result["server_agreement"] == 1)
    expected = ((0.5 - PIXELS / 255.0) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(result["mse"], expected, rtol=1e-3)


def test_what_is_scored_needs_no_predictions_again(network, tmp_path):
    private = Images(tuple("abcde"), PIXELS, None)
    known = functools.partial(image_scores.predictions, network, private, 2)
    first = image_scores.guess(network, private, 2, None, PIXELS, tmp_path / "g.npz", predicted=known)
    again = image_scores.guess(network, private, 2, None, PIXELS, tmp_path / "g.npz", predicted=pytest.fail)
    np.testing.assert_array_equal(first["label_agreement"], again["label_agreement"])
    assert np.all(first["label_agreement"] == 1)


def test_a_defense_changes_what_is_sent_and_can_cost_the_label(network, tmp_path):
    seen = []

    def attack(features):
        seen.append(np.asarray(features))
        return jax.numpy.zeros((len(features), 32, 32, 3))

    # On no features at all, this head answers with the class that was least likely before.
    least = int(answer(network).argmin())
    bias = np.zeros(10, np.float32)
    bias[least] = 1e-3
    variables = network.head.params["params"]
    linear = {"kernel": 100 * variables["linear"]["kernel"], "bias": bias}
    head = network.head.replace(params={"params": {"linear": linear}})
    zeroed = network.replace(head=head)
    kept = []
    for strength in (0.0, 1.0):
        file = tmp_path / str(strength)
        file.mkdir()
        kept.append(read(zeroed, file, attack, "layer3.0", Channel("dropout", strength))["server_agreement"].mean())
    assert all((features == 0).all() for features in seen[3:])
    assert kept[0] == 1
    assert kept[1] < 1


def test_what_is_done_is_not_done_again(network, tmp_path):
    first = read(network, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    again = read(network, tmp_path, lambda f: pytest.fail("was asked again"))
    np.testing.assert_array_equal(first["mse"], again["mse"])


def test_top1_counts_true_labels_and_is_unknown_without_them(network, tmp_path):
    scores = networks.logits(network, networks.run(network, PIXELS / np.float32(255)))
    labels = np.array(scores.argmax(1))
    labels[1:3] += 1
    (tmp_path / "with").mkdir()
    result = read(network, tmp_path / "with", lambda f: jax.numpy.zeros((len(f), 32, 32, 3)), labels=labels)
    np.testing.assert_array_equal(result["top1_original"], [1, 0, 0, 1, 1])
    black = int(networks.logits(network, networks.run(network, np.zeros((1, 32, 32, 3), "f4"))).argmax())
    np.testing.assert_array_equal(result["top1"], labels == black)
    unknown = read(network, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    assert np.isnan(unknown["top1"]).all()


def test_who_is_read_back_is_found_among_the_others(network, tmp_path):
    guesses = iter(np.split(PIXELS[[0, 2, 1, 3, 4]] / np.float32(255), [2, 4]))
    found = read(network, tmp_path, lambda f: jax.numpy.asarray(next(guesses)))
    np.testing.assert_array_equal(found["rank1"], [1, 0, 0, 1, 1])
    np.testing.assert_array_equal(found["rank5"], np.ones(5))


def test_rank_1_is_the_nearest_and_not_the_brightest():
    pixels = np.uint8([[[[20] * 3]], [[[120] * 3]], [[[250] * 3]]])
    found = image_scores.reidentified(pixels, pixels)
    np.testing.assert_array_equal(found["rank1"], [1, 1, 1])


def test_a_message_is_counted_once_for_each_send(network, tmp_path):
    sizes = []
    for sends in (1, 3):
        (tmp_path / str(sends)).mkdir()
        channel = Channel("dropout", 0.9, sends)
        found = read(network, tmp_path / str(sends), lambda f: jax.numpy.zeros((len(f), 32, 32, 3)), channel=channel)
        sizes.append(found["bytes_coded"])
    np.testing.assert_array_equal(*sizes)
    assert 0 < sizes[0].max() < 4 * 32 * 32 * 16 * 0.2


def test_what_is_not_known_is_null_and_empty(network, tmp_path):
    headless = network.replace(head=None)
    result = read(headless, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    rows = results.lines(result, map(str, range(5)), **cell("layer1.0", "dci_trained", "none", target="t", seed=0))
    assert rows[0]["label_agreement"] is None
    assert rows[0]["psnr"] > 0
    results.write(rows, {}, tmp_path)
    (line,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert line["label_agreement"] == line["top1_low"] == ""
    assert "NaN" not in (tmp_path / "results.jsonl").read_text()


def test_costs_count_bytes_and_grow_with_depth(network):
    found = costs(network, ["stem", "layer1.0", "layer3.0"])
    assert found["stem"]["bytes_sent"] == 32 * 32 * 16 * 4
    assert found["layer3.0"]["bytes_sent"] == 8 * 8 * 64 * 4
    assert found["stem"]["device_flops"] > 2 * 32 * 32 * 3 * 9 * 16 * 0.8
    flops = [c["device_flops"] for c in found.values()]
    assert flops == sorted(flops)
    assert [c["depth"] for c in found.values()] == [0.25, 0.5, 1.0]


def test_floors_know_nothing_of_their_image():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 2, 2, 3), np.uint8)
    baselines = images.baselines(pixels, seed=0)
    for i, (mean, other) in enumerate(zip(baselines["mean_image"], baselines["random_image"], strict=True)):
        rest = np.delete(pixels, i, 0)
        np.testing.assert_allclose(mean, rest.mean(0), atol=0.5)
        assert any(np.array_equal(other, image) for image in rest)


def test_a_single_image_is_no_guess_at_itself():
    pixels = np.full((1, 2, 2, 3), 200, np.uint8)
    guesses = images.baselines(pixels, seed=0)
    assert (guesses["mean_image"] == 128).all()
    assert (guesses["random_image"] == 128).all()


@pytest.mark.parametrize(("start", "filtered"), [("dead_leaves", True), ("white_noise", False)])
def test_synthesis_starts_from_images_behind_the_filter_that_was_fitted_to_them(
    network, tmp_path, monkeypatch, start, filtered
):
    fitted, seen = (0 * identity(3), np.zeros(3, np.float32)), {}
    monkeypatch.setattr(images.prior, "fit_filter", lambda n, inputs, *_, **__: replace(inputs, filter=fitted))
    monkeypatch.setattr(images.synthesis, "synthesize", lambda *_, **settings: seen.update(settings) or [np.zeros(0)])
    monkeypatch.setattr(images, "keep", lambda *_: None)
    (tmp_path / "config.json").write_text("{}")
    config = default.get_config()
    config.synthesis.start = start
    weights = (("synthetic", 0.5), ("dead_leaves", 0.5))
    inputs = images._learn(config, network, None, weights, (32, 32, 3), jax.random.key(0), tmp_path)
    assert seen["filter"] is (fitted if filtered else None)
    assert len(inputs.pool) == 1
    assert inputs.filter is fitted
