"""Values that would do nothing, or something else than they say, are refused before any work."""

import os

import numpy as np
import pytest

from configs import default
from dci_jax.check import check
from dci_jax.errors import InputError

SHAPE = (4, 32, 32, 16)
FEATURES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def refused(said, **fields):
    config = default.get_config()
    config.attacks = ("dci",)
    for name, value in fields.items():
        section, _, field = name.rpartition("__")
        with config.ignore_type():
            (config[section] if section else config)[field] = value
    with pytest.raises(InputError, match=said):
        check(config)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("synthesis.betas is .* give 2 numbers", {"synthesis__betas": (0.5, 0.9, 0.1)}),
        ("synthesis.betas is .* give 2 numbers", {"synthesis__betas": (0.5,)}),
        ("nothing would be optimised", {"synthesis__stages": (), "synthesis__batches": 1}),
        ("rmle.prior_weight is 1, but rmle.prior is empty", {"rmle__prior_weight": 1.0}),
        ("verifier.weights is x.pth, but verifier.name is empty", {"verifier__weights": "x.pth"}),
        ("which does not classify cifar_resnet20's images", {"verifier__name": "sngan_narrow"}),
        ("batch is True", {"batch": True}),
        ("seed is False", {"seed": False}),
    ],
)
def test_a_value_is_refused(said, fields):
    refused(said, **fields)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (np.ones(SHAPE, np.float32), "All numbers in .* are 1"),
        (1e30 * FEATURES, "standard deviation of 1e.30"),
        (1e-9 * FEATURES, "standard deviation of 1e-09"),
    ],
)
def test_features_that_are_not_the_networks_are_refused(tmp_path, features, said):
    np.savez(tmp_path / "dump.npz", features=features, split="layer1.2")
    refused(said, features=str(tmp_path / "dump.npz"))


def test_features_of_another_scale_are_warned_of(tmp_path, caplog):
    np.savez(tmp_path / "dump.npz", features=100 * FEATURES, split="layer1.2")
    config = default.get_config()
    config.attacks, config.features = ("dci",), str(tmp_path / "dump.npz")
    check(config)
    assert "the attacks are too weak to judge" in caplog.text


def test_a_pipe_is_no_file_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 32, 32, 3), np.uint8))
    refused("pipe.npz is no file", data__images=str(tmp_path / "pipe.npz"))
    refused("pipe.npz is no file", features=str(tmp_path / "pipe.npz"))
    os.mkfifo(tmp_path / "pipe.zip")
    refused("pipe.zip is no folder", data__images=str(tmp_path / "pipe.zip"))
    refused("which is no file", data__images=str(tmp_path / "images.npz"), data__labels=str(tmp_path / "pipe.npz"))


def test_images_without_a_pixel_are_refused(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 0, 0, 3), np.uint8))
    refused("at least one pixel", data__images=str(tmp_path / "images.npz"))
