import dataclasses

import numpy as np
import pytest

from configs import tiny
from dci_jax import blocks, data, setting
from dci_jax.errors import InputError


def test_the_oracle_never_trains_on_an_evaluated_image(tmp_path, monkeypatch, network):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    path = tmp_path / "x.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8))
    config = tiny.get_config()
    config.data.images = config.oracle.images = str(path)
    config.data.count = 2
    found = setting.check(config)
    assert len(found.private) == 2
    assert len(found.oracle) == 4
    assert not {p.tobytes() for p in found.private.pixels} & {
        p.tobytes() for p in found.oracle.pixels
    }
    assert setting.attack_names(config)[-1] == "oracle"
    config.data.count = 0
    with pytest.raises(InputError, match="also evaluated"):
        setting.check(config)


def test_the_quickstarts_photographs_are_the_default(monkeypatch, network):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    assert setting.check(tiny.get_config()).private.names == data.photographs(32).names


def test_labels_count_for_top1_only_where_their_order_is_the_networks(network):
    images = data.Images(("a", "b"), np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 9]))
    config = tiny.get_config()
    config.data.images = "photographs/"
    np.testing.assert_array_equal(setting.trusted_labels(config, network, images), [0, 9])
    some = dataclasses.replace(images, labels=np.array([0, 1]))  # two folders of ten classes
    assert setting.trusted_labels(config, network, some) is None
    config.data.labels = "labels.csv"
    np.testing.assert_array_equal(setting.trusted_labels(config, network, some), [0, 1])
    wrong = dataclasses.replace(images, labels=np.array([0, 10]))
    with pytest.raises(InputError, match=r"label 10.*10 classes"):
        setting.trusted_labels(config, network, wrong)


def test_a_training_side_that_does_not_fit_the_network_is_refused(monkeypatch, network):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    config = tiny.get_config()
    config.inputs.side = 64
    with pytest.raises(InputError, match=r"inputs\.side is 64"):
        setting.check(config)
    config.splits, config.dci.batch = (), 10
    config.inputs.side = 30  # 30, 15, 8: the last stage does not halve
    with pytest.raises(InputError, match=r"layer3\.0 makes features"):
        setting.check(config)


def test_the_device_runs_the_deploy_form_where_there_is_one(monkeypatch):
    import jax

    from dci_jax.models import MODELS

    repvgg = MODELS["repvgg_cifar"].build(jax.random.key(0))
    monkeypatch.setattr(setting.models, "load", lambda *_: repvgg)
    config = tiny.get_config()
    config.target.name, config.target.deploy = "repvgg_cifar", True
    config.splits = ("stem",)
    config.dci.conquer = (("stem", 1),)
    found = setting.check(config)
    assert jax.tree.leaves(blocks.running_statistics(found.network))
    assert not jax.tree.leaves(blocks.running_statistics(found.device))
    config.target.name = "cifar_resnet20"
    with pytest.raises(InputError, match=r"has no deploy form.*repvgg_a0"):
        setting.check(config)
