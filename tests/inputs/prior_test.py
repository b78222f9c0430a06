import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import models
from dci_jax import network as networks
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.inputs.prior import check, fit_filter, mismatch, told_by
from dci_jax.inputs.spectrum import filtered, identity
from dci_jax.models.cifar_resnet import cifar_resnet
from dci_jax.models.he_cnn import he_cnn
from dci_jax.network import Network

INPUTS = Prior((), (("dead_leaves", 0.8), ("pink_noise", 0.2)), (32, 32, 3))
SETTINGS = dict(steps=60, batch=64, learning_rate=0.05, padding=(0, 4))
KEY = jax.random.key(0)


def remembering(network: Network, images, border: int) -> Network:
    """The network whose BatchNorm layers remember these images, cropped out of a black border of so many pixels."""
    places = jax.random.randint(jax.random.key(7), (len(images), 2), 0, 2 * border + 1)
    seen = jnp.stack(
        [
            jnp.pad(image, ((border, border), (border, border), (0, 0)))[y : y + 32, x : x + 32]
            for image, (y, x) in zip(images, np.asarray(places), strict=True)
        ]
    )
    for index in (0, 1, 1, 2, 2):  # deeper layers see what corrected shallow ones make; a block has two
        statistics = networks.trace(network, seen, 0, 3)[1][index]
        block = network.blocks[index]
        changed = block.replace(params={**block.params, "batch_stats": statistics})
        network = network.replace(blocks=(*network.blocks[:index], changed, *network.blocks[index + 1 :]))
    return network


@pytest.fixture(scope="module")
def colored():
    """(network, matrices, shift): it has seen warm, blurred procedural images with borders of 4 pixels."""
    bands = identity(3)
    bands[-2:] *= 0.4
    bands[0] = 0.8 * bands[0] + 0.05
    shift = np.float32([0.08, 0.0, -0.08])
    images = batches(INPUTS, jax.random.key(3), 256)(0)
    return remembering(cifar_resnet(KEY, depth=14), filtered(images, bands, shift), 4), bands, shift


@pytest.mark.slow
def test_colours_sharpness_and_borders_are_found(colored, tmp_path, caplog):
    network, bands, shift = colored
    with caplog.at_level(logging.INFO, "dci_jax"):
        found = fit_filter(network, INPUTS, KEY, tmp_path / "filter.npz", **SETTINGS)
    assert "with borders of 4 pixels" in caplog.text
    assert "borders of 0 pixels are unlikely" in caplog.text  # and are not fitted
    assert "prior fitting, borders of 0" not in caplog.text
    kept = np.load(tmp_path / "filter.npz")
    assert kept["border"] == 4
    assert kept["after"] < 0.1 * kept["before"]
    truth = np.asarray(filtered(batches(INPUTS, jax.random.key(5), 64)(0), bands, shift))
    new = np.asarray(filtered(batches(INPUTS, jax.random.key(5), 64)(0), *found.filter))
    old = np.asarray(batches(INPUTS, jax.random.key(5), 64)(0))
    assert abs(old.mean((0, 1, 2)) - truth.mean((0, 1, 2))).max() > 0.06
    np.testing.assert_allclose(new.mean((0, 1, 2)), truth.mean((0, 1, 2)), atol=0.04)
    assert np.mean((new - truth) ** 2) < 0.7 * np.mean((old - truth) ** 2)


@pytest.mark.slow
def test_what_was_fitted_is_kept_and_images_go_through_it(colored, tmp_path):
    network, file = colored[0], tmp_path / "filter.npz"
    settings = {**SETTINGS, "steps": 10, "batch": 16, "padding": (4,)}
    found = fit_filter(network, INPUTS, KEY, file, **settings)
    stamp = file.stat().st_mtime_ns
    again = fit_filter(network, INPUTS, jax.random.key(9), file, **{**settings, "steps": 50})
    assert file.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(again.filter[0], found.filter[0])
    plain, through = batches(INPUTS, KEY, 8)(0), batches(found, KEY, 8)(0)
    np.testing.assert_allclose(through, filtered(plain, *found.filter), atol=0.51 / 255)
    np.testing.assert_allclose(255 * through, np.round(255 * through), atol=1e-4)  # in 8 bits


@pytest.mark.slow
def test_images_of_the_bank_are_left_as_they_are(colored, tmp_path):
    pool = np.full((4, 32, 32, 3), 51, np.uint8)
    inputs = Prior(pool, (("synthetic", 1.0),), (32, 32, 3))
    file = tmp_path / "filter.npz"
    assert fit_filter(colored[0], inputs, KEY, file, **SETTINGS) is inputs  # nothing procedural
    mixed = Prior(pool, (("synthetic", 0.5), ("dead_leaves", 0.5)), (32, 32, 3))
    found = fit_filter(colored[0], mixed, KEY, file, **{**SETTINGS, "steps": 10, "batch": 16, "padding": (4,)})
    images = np.asarray(batches(found, KEY, 8)(0))
    assert np.isclose(images, 0.2).all((1, 2, 3)).sum() == 4


def test_without_batch_norm_or_steps_nothing_is_changed(network, tmp_path, caplog):
    file = tmp_path / "filter.npz"
    with caplog.at_level(logging.INFO, "dci_jax"):
        assert fit_filter(he_cnn(KEY), INPUTS, KEY, file, **SETTINGS) is INPUTS
    assert "no BatchNorm layer of he_cnn" in caplog.text
    assert fit_filter(network, INPUTS, KEY, file, **{**SETTINGS, "steps": 0}) is INPUTS
    assert not file.exists()


@pytest.mark.slow
def test_statistics_that_no_images_have_are_not_followed(tmp_path, caplog):
    """Means of 0 and variances of 1, as in a network whose BatchNorm layers were never told."""
    settings = {**SETTINGS, "steps": 20, "batch": 16, "padding": (0,)}
    assert fit_filter(cifar_resnet(KEY, depth=8), INPUTS, KEY, tmp_path / "filter.npz", **settings) is INPUTS
    assert "are left unchanged" in caplog.text


@pytest.mark.slow
def test_the_mismatch_is_zero_on_what_is_remembered(colored):
    network, depth = colored[0], 3
    images = batches(INPUTS, jax.random.key(3), 256)(0)
    places = np.zeros((256, 2), np.int32)
    same = remembering(network, images, 0)
    measure = jax.jit(functools.partial(mismatch, 0, depth))
    zero = np.zeros(3, np.float32)
    assert measure((identity(3), zero), same, (images, places))[1]["mismatch"] < 1e-8
    # Of the first layer, variances that are twice as large as the remembered ones: log(2)^2.
    halved = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (leaf + 1e-5) / 2 - 1e-5 if path[-1].key == "var" else leaf, same
    )
    off = float(
        jax.jit(functools.partial(mismatch, 0, 1))((identity(3), zero), halved, (images, places))[1]["mismatch"]
    )
    assert off == pytest.approx(np.log(2) ** 2, rel=1e-3)


def test_which_blocks_tell():
    def shapes(build):
        return jax.eval_shape(build, KEY)

    assert told_by(shapes(functools.partial(cifar_resnet, depth=20))) == 4  # stem and the first stage
    assert told_by(shapes(he_cnn)) == 0
    assert told_by(shapes(models.MODELS["resnet18_cifar"].build)) == 3


@pytest.mark.parametrize(
    ("steps", "padding", "said"),
    [(60, (), r"padding is \(\).*such as \(0,\)"), (60, (0, 17), "has 17.*32 pixels; give half")],
)
def test_what_cannot_work_is_refused(steps, padding, said):
    with pytest.raises(InputError, match=said):
        check(steps, padding, 32)
    check(0, (), 32)
    check(60, (0, 16), 32)


def test_a_damaged_file_is_told(network, tmp_path):
    file = tmp_path / "filter.npz"
    np.savez(file, bands=np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match=r"filter.npz"):
        fit_filter(network, INPUTS, KEY, file, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3])
def test_each_layer_is_compared_with_its_own_memory(colored, depth):
    """On other images than those that are remembered, so that no two layers differ alike."""
    network, images = colored[0], batches(INPUTS, jax.random.key(8), 32)(0)
    found, terms = networks.trace(network, images, 0, depth)[1], []
    for block, statistics in zip(network.blocks[:depth], found, strict=True):
        remembered = block.params["batch_stats"]
        for name, layer in remembered.items():
            mean, var, new = layer["mean"], layer["var"] + 1e-5, statistics[name]
            terms.append(np.mean((new["mean"] - mean) ** 2 / var) + np.mean(np.log((new["var"] + 1e-5) / var) ** 2))
    assert len(terms) == 2 * depth - 1
    batch = images, np.zeros((32, 2), np.int32)
    measured = mismatch(0, depth, (identity(3), np.zeros(3, np.float32)), network, batch)[1]["mismatch"]
    assert float(measured) == pytest.approx(np.mean(terms), rel=1e-3)
