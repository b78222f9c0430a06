import dataclasses

import jax
import numpy as np
import pytest

from configs import audit, dcgan_celeba, tiny
from dci_jax import experiment, models
from dci_jax import network as networks
from dci_jax.attacks import registry
from dci_jax.check import BATCHES, check
from dci_jax.data.images import Images, photographs
from dci_jax.errors import InputError
from dci_jax.evaluation import images
from dci_jax.inputs.mixture import Prior
from dci_jax.network import with_side
from dci_jax.pieces import sequential


def test_the_oracle_never_trains_on_an_evaluated_image(tmp_path, monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    path, pixels = (
        tmp_path / "x.npz",
        np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8),
    )
    np.savez(path, images=pixels)
    config = tiny.get_config()
    config.data.images = config.oracle.images = str(path)
    config.data.count = 2
    found = check(config)
    assert len(found.names) == 2
    np.testing.assert_array_equal(found.oracle, pixels[2:])
    assert registry.names(config)[-1] == "oracle"
    config.data.count = 0
    with pytest.raises(InputError, match="also evaluated"):
        check(config)


def test_the_quickstarts_photographs_are_the_default(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    assert check(tiny.get_config()).names == photographs((32, 32, 3)).names


def test_labels_count_for_top1_only_where_their_order_is_the_networks(network):
    given = Images(("a", "b"), np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 9]))
    config = tiny.get_config()
    config.data.images = "photographs/"
    np.testing.assert_array_equal(images.trusted_labels(config, network, given), [0, 9])
    some = dataclasses.replace(given, labels=np.array([0, 1]))  # two folders of ten classes
    assert images.trusted_labels(config, network, some) is None
    config.data.labels = "labels.csv"
    np.testing.assert_array_equal(images.trusted_labels(config, network, some), [0, 1])
    wrong = dataclasses.replace(given, labels=np.array([0, 10]))
    with pytest.raises(InputError, match=r"label 10.*10 classes"):
        images.trusted_labels(config, network, wrong)


def test_a_training_side_that_does_not_fit_the_network_is_refused(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.inputs.side = 64
    with pytest.raises(InputError, match=r"inputs\.side is 64"):
        check(config)
    config.splits, config.dci_trained.batch = (), 10
    config.inputs.side = 30  # 30, 15, 8: the last stage does not halve
    with pytest.raises(InputError, match=r"layer3\.0 makes features"):
        check(config)


def test_a_convolutional_network_takes_images_of_another_side_and_others_say_that_they_do_not(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.target.side, config.inputs.side = 64, 32
    case = check(config)
    assert (case.network.input_shape, case.private.pixels.shape[1:], case.shape) == (
        (64, 64, 3),
        (64, 64, 3),
        (32, 32, 3),
    )
    rigid = sequential(
        "rigid", (8, 8, 3), [("flat", lambda params, x: x.reshape(len(x), 192) @ params, np.ones((192, 4)))]
    )
    with pytest.raises(InputError, match=r"target\.side is 16.*rigid does not take images of 16 pixels"):
        with_side(rigid, 16)


@pytest.mark.slow
def test_the_device_runs_the_deploy_form_where_there_is_one(monkeypatch):
    import jax

    from dci_jax.models import MODELS

    repvgg = MODELS["repvgg_cifar"].build(jax.random.key(0))
    monkeypatch.setattr(models, "load", lambda *_: repvgg)
    config = tiny.get_config()
    config.target.name, config.target.deploy = "repvgg_cifar", True
    config.splits = ("stem",)
    config.dci_trained.conquer = (("stem", 1),)
    found = check(config)
    assert jax.tree.leaves(networks.running_statistics(found.trained))
    assert not jax.tree.leaves(networks.running_statistics(found.network))
    config.target.name = "cifar_resnet20"
    with pytest.raises(InputError, match=r"has no deploy form.*repvgg_a0"):
        check(config)


@pytest.mark.parametrize("name", ["dci_trained", "rmle", "inverse_network@white_noise", "dci_trained@dead_leaves"])
def test_an_attack_may_be_named_with_what_it_learns_from(name):
    assert registry.find(name).learns or name == "rmle"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("magic", "No attack is called 'magic'"),
        ("rmle@white_noise", "No attack is called 'rmle@white_noise'"),
        ("dci_trained@", "cannot learn from ''"),
        ("dci_trained@real", "cannot learn from 'real'; choose from: dead_leaves"),
    ],
)
def test_an_attack_that_does_not_exist_is_told(name, said):
    with pytest.raises(InputError, match=said):
        registry.find(name)


def test_an_attack_named_with_its_source_learns_from_that_alone(monkeypatch, network, tmp_path):
    monkeypatch.setattr(models, "load", lambda *_: network)
    seen = []

    def attack(network, inputs, splits, key, folder, **settings):
        seen.append((inputs.weights, splits, settings.keys()))
        return dict.fromkeys(splits)

    row = dataclasses.replace(registry.ATTACKS["inverse_network"], fit=attack)
    monkeypatch.setitem(registry.ATTACKS, "inverse_network", row)
    (tmp_path / "config.json").touch()
    config, weights = tiny.get_config(), (("synthetic", 0.5), ("pink_noise", 0.5))
    inputs = Prior((), weights, (32, 32, 3))
    for name in ("inverse_network", "inverse_network@white_noise"):
        case = check(config)
        experiment.fit(config, name, case, inputs, case.channels, {}, key=None, workdir=tmp_path)
    assert [found for found, *_ in seen] == [weights, (("white_noise", 1.0),)]
    assert all(splits == ("stem", "layer1.0") and "splits" not in more for _, splits, more in seen)


def test_an_adapted_attack_is_fitted_for_each_split_and_defense(monkeypatch, network, tmp_path):
    monkeypatch.setattr(models, "load", lambda *_: network)
    seen = []

    def attack(network, inputs, splits, key, folder, channel=None, start=None, **settings):
        seen.append((splits, channel and channel.label, start and set(start)))
        return dict.fromkeys(splits)

    for name in ("dci", "dci+refine"):
        monkeypatch.setitem(registry.ATTACKS, name, dataclasses.replace(registry.ATTACKS[name], fit=attack))
    (tmp_path / "config.json").touch()
    config = tiny.get_config()
    config.attacks, config.num_queries = ("dci", "adapted_dci", "adapted_dci+refine"), (1, 10)
    config.defenses = (("none", 0.0), ("gaussian", 1.0), ("quantize", 2.0))
    case, readers, dropped = check(config), {}, []
    monkeypatch.setattr(experiment.program_cache, "bound", lambda: dropped.append(len(seen)))
    for name in config.attacks:
        readers[name] = experiment.fit(config, name, case, None, case.channels, readers, key=None, workdir=tmp_path)
    defended = [("gaussian 1"), ("gaussian 1 x10"), ("quantize 2")]
    assert seen[0] == (("stem", "layer1.0"), None, None)
    assert seen[1:7] == [((split,), label, None) for split in ("stem", "layer1.0") for label in defended]
    assert seen[7:] == [((split,), label, {split}) for split in ("stem", "layer1.0") for label in defended]
    assert dropped == [4, 10]  # behind all cells of a split, so that a long audit does not hold all programs
    assert set(readers["dci"]) == {(s, d) for s in ("stem", "layer1.0") for d in ("none", *defended)}


def test_an_adapted_attack_named_with_its_source_knows_the_defense_and_learns_from_that_alone(
    monkeypatch, network, tmp_path
):
    monkeypatch.setattr(models, "load", lambda *_: network)
    seen = []

    def attack(network, inputs, splits, key, folder, channel=None, **settings):
        seen.append((inputs.weights, channel.label))
        return dict.fromkeys(splits)

    monkeypatch.setitem(registry.ATTACKS, "dci", dataclasses.replace(registry.ATTACKS["dci"], fit=attack))
    (tmp_path / "config.json").touch()
    config = tiny.get_config()
    config.attacks, config.defenses = ("adapted_dci@dead_leaves",), (("quantize", 2.0),)
    case, inputs = check(config), Prior((), (("synthetic", 0.5), ("pink_noise", 0.5)), (32, 32, 3))
    experiment.fit(config, "adapted_dci@dead_leaves", case, inputs, case.channels, {}, key=None, workdir=tmp_path)
    assert seen == [((("dead_leaves", 1.0),), "quantize 2")] * 2  # at each of two splits


@pytest.mark.parametrize(
    ("attacks", "defenses", "said"),
    [
        (("adapted_dci",), (("none", 0.0),), "adapts to defenses, but defenses is"),
        (
            ("adapted_gauss_newton",),
            (("gaussian", 1.0),),
            r"cannot adapt to a defense; choose from: adapted_dci, adapted_dci\+refine, adapted_dci\+unet",
        ),
        (
            ("adapted_oracle",),
            (("gaussian", 1.0),),
            "'adapted_oracle' cannot adapt to a defense; choose from: adapted_dci",
        ),
        (
            ("adapted_adapted_dci",),
            (("gaussian", 1.0),),
            "'adapted_adapted_dci' cannot adapt to a defense; choose from",
        ),
        (("adapted_dci@nowhere",), (("gaussian", 1.0),), "cannot learn from 'nowhere'; choose from: dead_leaves"),
        (("dci", "adapted_dci+refine"), (("gaussian", 1.0),), "name 'adapted_dci' before it"),
        (("adapted_dci@white_noise",), (("gaussian", 1.0),), ""),
    ],
)
def test_an_attack_that_cannot_adapt_is_refused(attacks, defenses, said, monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.attacks, config.defenses = attacks, defenses
    if not said:
        assert check(config).channels["stem"][0].label == "gaussian 1"
        return
    with pytest.raises(InputError, match=said):
        check(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_queries": ()}, "give one or more distinct numbers"),
        ({"num_queries": (10, 10)}, "give one or more distinct numbers"),
        ({"num_queries": (0,)}, "num_queries is"),
        ({"defense.images": "photos.zip"}, "none that learns from images; add one of"),
        ({"defenses": (("prune", 0.5),)}, "No defense is called 'prune'; choose from"),
        ({"defenses": (("jpeg", 120.0),)}, "gives 'jpeg' the strength 120.0"),
        ({"lpips.backbone": "alexnet.pth"}, "LPIPS needs both"),
        ({"audit.structure": 1.5}, "audit.structure is 1.5"),
        ({"audit.leaking": -0.1}, "audit.leaking is -0.1"),
        ({"refine.num_splits": -1}, "refine.num_splits is -1"),
    ],
)
def test_a_field_of_the_audit_that_is_wrong_is_refused(changes, said, monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=said):
        check(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar_resnet20", "he_cnn", "repvgg_cifar"])
def test_the_audit_takes_any_network_and_costly_attacks_the_middle_one_of_its_splits(name):
    config = audit.get_config()
    config.target.name = name
    case = check(config, planned=True)
    for attack in ("dci", "adapted_dci+gauss_newton", "adapted_dci+refine", "inverse_network"):
        splits, settings = registry.settings(config, registry.find(attack), case.splits)
        assert splits == (case.splits if attack == "dci" else (case.splits[len(case.splits) // 2],))
        assert "num_splits" not in settings
    config.gauss_newton.num_splits = 3
    splits, _ = registry.settings(config, registry.find("dci+gauss_newton"), tuple("abcdefghi"))
    assert splits == ("b", "e", "h")
    config.gauss_newton.splits = case.splits[:1]
    with pytest.raises(InputError, match=r"gauss_newton\.num_splits 3; give one of them"):
        check(config, planned=True)


@pytest.mark.parametrize("field", BATCHES)
def test_inputs_that_no_machine_holds_are_refused_by_arithmetic(field, monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.update_from_flattened_dict({field: 10**9})
    with pytest.raises(
        InputError, match=rf"{field} is 1000000000: that many inputs .* GiB, but only \d+ are available; give fewer"
    ):
        check(config)
    check(config, planned=True)  # for another machine


def without_batch_norm(weights):
    del weights
    return sequential("plain", (32, 32, 3), [("only", lambda scale, x: scale * x, 2.0)])


def test_deepinversion_needs_batch_norm():
    config = tiny.get_config()
    config.target.name = "tests.check_test:without_batch_norm"
    config.attacks, config.splits = ("deepinversion",), ()
    config.synthesis.batches, config.inputs.synthetic = 0, 0.0
    with pytest.raises(InputError, match="'deepinversion' matches BatchNorm statistics"):
        check(config)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data.count": 0}, "data.count is 0; give the number of latents"),
        ({"attacks": ("deepinversion",)}, "The attack 'deepinversion' cannot reconstruct latents of dcgan_32"),
        ({"oracle.images": "photos"}, "whose true prior every attack has; leave it empty"),
        ({"defenses": (("quantize", 2.0),)}, "name corruptions of them in corruptions"),
        ({"corruptions": (("rust", 1.0),)}, "No corruption is called 'rust'; choose from"),
        ({"dci_trained.batch": 4}, "each of the 5 split points down to image needs an input of its own"),
        ({"splits": ("layer1.0",)}, "layer1.0"),
        ({"target.deploy": True}, "target.deploy is True, but dcgan_32 is a generator"),
        ({"verifier.name": "resnet18"}, "verifier.name is 'resnet18', but dcgan_32 is a generator"),
        ({"refine.prior": "docs.own_prior:smooth"}, "refine.prior is 'docs.own_prior:smooth', but dcgan_32"),
        ({"attacks": ("dci",), "splits": ("generator_deconv.0",)}, "No attack reconstructs from 'image'"),
    ],
)
def test_a_generator_has_mistakes_of_its_own(monkeypatch, change, complaint):
    generator = models.MODELS["dcgan_32"].build(jax.random.key(0))
    monkeypatch.setattr(models, "load", lambda *_: generator)
    config = dcgan_celeba.get_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=complaint):
        check(config)


@pytest.mark.parametrize(
    "names",
    [
        ("dci_trained", "dci_trained"),
        ("rmle", "dci_trained+refine"),
        ("dci_trained+refine", "dci_trained"),
    ],
)
def test_attacks_are_named_once_and_dci_before_what_starts_from_it(monkeypatch, network, names):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.attacks = names
    with pytest.raises(InputError, match=r"twice; name it once|name 'dci_trained' before it"):
        check(config)


def test_a_prior_that_is_not_there_is_told_before_any_work(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.rmle.prior = "docs.own_prior:magic"
    with pytest.raises(InputError, match="has no attribute 'magic'"):
        check(config)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"splits": ("stem",), "refine.splits": ("layer1.0",)},
            r"refine\.splits names layer1\.0.*refine\.splits=",
        ),
        ({"splits": ("stem",), "inverse_network.splits": ("layer1.0",)}, r"inverse_network\.splits names layer1\.0"),
        ({"splits": ("stem", "stem")}, "splits names 'stem' twice"),
        ({"oracle.attack": "rmle"}, "oracle.attack is 'rmle'; give dci, dci_shared"),
        ({"attacks": ()}, r"attacks is \(\), so nothing would be reconstructed"),
        ({"defenses": ()}, r"defenses is \(\), so nothing would be sent"),
        ({"attacks": ("oracle",)}, "'oracle' cannot be named in attacks; give oracle.images"),
        ({"data.labels": "labels.csv"}, "data.labels is labels.csv, but data.images is empty"),
        ({"dci_trained.learning_rate": -1.0}, "dci_trained.learning_rate is -1.0"),
    ],
)
def test_what_would_fail_or_be_ignored_only_after_the_work_is_refused_before(monkeypatch, network, change, named):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.attacks = ("dci_trained", "dci_trained+refine", "inverse_network")
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=named):
        check(config)


def test_the_count_holds_for_the_photographs_of_the_package_too(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    config = tiny.get_config()
    config.data.count = 3
    assert len(check(config).names) == 3


def test_what_is_sent_undamaged_counts_once(monkeypatch):
    generator = models.MODELS["dcgan_32"].build(jax.random.key(0))
    monkeypatch.setattr(models, "load", lambda *_: generator)
    config = dcgan_celeba.get_config()
    config.corruptions = (("none", 0.0), ("blur", 1.0))
    found = check(config).channels
    assert [channel.label for channel in found["image"]] == ["none", "blur 1"]
    assert [channel.label for channel in found["generator_deconv.1"]] == ["none"]
