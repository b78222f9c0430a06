import dataclasses

import jax
import numpy as np
import pytest

from configs import dcgan_celeba, tiny
from dci_jax import arm, blocks, data, models, setting
from dci_jax.errors import InputError
from dci_jax.inputs import Inputs


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
    config.splits, config.dci_trained.batch = (), 10
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
    config.dci_trained.conquer = (("stem", 1),)
    found = setting.check(config)
    assert jax.tree.leaves(blocks.running_statistics(found.network))
    assert not jax.tree.leaves(blocks.running_statistics(found.device))
    config.target.name = "cifar_resnet20"
    with pytest.raises(InputError, match=r"has no deploy form.*repvgg_a0"):
        setting.check(config)


@pytest.mark.parametrize(
    "name", ["dci_trained", "rmle", "inverse_network@white_noise", "dci_trained@dead_leaves"]
)
def test_an_attack_may_be_named_with_what_it_learns_from(name):
    setting.check_attack(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("magic", "No attack is called 'magic'"),
        ("oracle", "No attack is called 'oracle'"),
        ("rmle@white_noise", "No attack is called 'rmle@white_noise'"),
        ("dci_trained@", "cannot learn from ''"),
        ("dci_trained@real", "cannot learn from 'real'; choose from: dead_leaves"),
    ],
)
def test_an_attack_that_does_not_exist_is_told(name, said):
    with pytest.raises(InputError, match=said):
        setting.check_attack(name)


def test_an_attack_named_with_its_source_learns_from_that_alone(monkeypatch, network, tmp_path):
    seen = {}

    def attack(network, inputs, splits, key, folder, **settings):
        seen[inputs.shares] = True
        return {}

    monkeypatch.setitem(arm.ATTACKS, "inverse_network", attack)
    config, shares = tiny.get_config(), (("bank", 0.5), ("pink_noise", 0.5))
    given = setting.Setting(network, network, None, None, None, ("stem",))
    inputs = Inputs((), shares, (32, 32, 3))
    for name in ("inverse_network", "inverse_network@white_noise"):
        arm.arm(config, name, given, inputs, {}, None, tmp_path)
    assert list(seen) == [shares, (("white_noise", 1.0),)]


def without_batch_norm(weights):
    del weights
    return blocks.sequential("plain", (32, 32, 3), [("only", lambda scale, x: scale * x, 2.0)])


def test_deepinversion_needs_batch_norm():
    config = tiny.get_config()
    config.target.name = f"{__name__}:without_batch_norm"
    config.attacks = ("deepinversion",)
    with pytest.raises(InputError, match="'deepinversion' matches BatchNorm statistics"):
        setting.check(config)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data.count": 0}, "data.count is 0; give how many codes"),
        ({"attacks": ("deepinversion",)}, "The attack 'deepinversion' cannot read back codes of dcgan_32"),
        ({"oracle.images": "photos"}, "whose true prior every attack has; leave it empty"),
        ({"defenses": (("quantize", 2.0),)}, "name what happens to them in damages"),
        ({"damages": (("rust", 1.0),)}, "No damage is called 'rust'; choose from"),
        ({"dci_trained.batch": 4}, "each of the 5 split points down to image needs an input of its own"),
        ({"splits": ("layer1.0",)}, "layer1.0"),
        ({"target.deploy": True}, "target.deploy is True, but dcgan_32 is a generator"),
        ({"verifier.name": "resnet18"}, "verifier.name is 'resnet18', but dcgan_32 is a generator"),
        ({"refine.prior": "docs.own_prior:smooth"}, "refine.prior is 'docs.own_prior:smooth', but dcgan_32"),
        ({"attacks": ("dci",), "splits": ("generator_deconv.0",)}, "No attack reads back 'image'"),
    ],
)  # fmt: skip
def test_a_generator_has_mistakes_of_its_own(monkeypatch, change, complaint):
    generator = models.MODELS["dcgan_32"].build(jax.random.key(0))
    monkeypatch.setattr(setting.models, "load", lambda *_: generator)
    config = dcgan_celeba.get_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=complaint):
        setting.check(config)


@pytest.mark.parametrize(
    "names",
    [
        ("dci_trained", "dci_trained"),
        ("rmle", "dci_trained+refine"),
        ("dci_trained+refine", "dci_trained"),
    ],
)
def test_attacks_are_named_once_and_dci_before_what_starts_from_it(monkeypatch, network, names):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    config = tiny.get_config()
    config.attacks = names
    with pytest.raises(InputError, match=r"twice; name it once|name 'dci_trained' before it"):
        setting.check(config)


def test_a_prior_that_is_not_there_is_told_before_any_work(monkeypatch, network):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    config = tiny.get_config()
    config.rmle.prior = "docs.own_prior:magic"
    with pytest.raises(InputError, match="has no attribute 'magic'"):
        setting.check(config)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"splits": ("stem",), "refine.splits": ("layer1.0",)}, r"refine\.splits names layer1\.0.*--config\.refine\.splits"),
        ({"splits": ("stem",), "inverse_network.splits": ("layer1.0",)}, r"inverse_network\.splits names layer1\.0"),
        ({"splits": ("stem", "stem")}, "splits names 'stem' twice"),
        ({"oracle.attack": "rmle"}, "oracle.attack is 'rmle', which is none that learns"),
        ({"data.labels": "labels.csv"}, "data.labels is labels.csv, but no images"),
        ({"dci_trained.learning_rate": -1.0}, "dci_trained.learning_rate is -1.0"),
    ],
)  # fmt: skip
def test_what_would_fail_or_be_ignored_only_after_the_work_is_refused_before(
    monkeypatch, network, change, named
):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    config = tiny.get_config()
    config.attacks = ("dci_trained", "dci_trained+refine", "inverse_network")
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=named):
        setting.check(config)


def test_the_count_holds_for_the_photographs_of_the_package_too(monkeypatch, network):
    monkeypatch.setattr(setting.models, "load", lambda *_: network)
    config = tiny.get_config()
    config.data.count = 3
    assert len(setting.check(config).private) == 3
