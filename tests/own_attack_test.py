import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dci_jax
from dci_jax.attacks import registry
from dci_jax.defenses import registry as defenses
from dci_jax.defenses.channel import Channel
from dci_jax.errors import InputError
from docs import own_attack, own_defense

no_keywords = dataclasses.replace(own_attack.nearest, adapts=True)
narrow = dci_jax.Defense(lambda params, key, f, strength: f[..., :1], own_defense.expected)
broken = dci_jax.Defense(lambda params, key, f, strength: f @ jnp.ones((3, 3)), own_defense.expected)


def test_the_own_attack_of_the_docs_finds_the_image_of_its_prior(network):
    prior = dci_jax.Prior((), (("white_noise", 1.0),), network.input_shape)
    attack = registry.find("docs.own_attack:nearest")
    assert registry.settings({}, attack, ("stem",)) == (("stem",), {})
    reconstruct = attack.fit(network, prior, ("stem",), jax.random.key(0), None)["stem"]
    truth = prior.sample(jax.random.key(0), own_attack.NUM_IMAGES)[3:5]
    np.testing.assert_array_equal(reconstruct(dci_jax.features_at(network, "stem", truth)), truth)


def test_the_own_defense_of_the_docs_is_sent_and_can_be_followed():
    defenses.check_own("docs.own_defense:threshold", 0.5, (4, 4, 2))
    features = jnp.arange(8.0).reshape(1, 2, 2, 2)
    channel = Channel("docs.own_defense:threshold", 0.5)
    np.testing.assert_array_equal(
        dci_jax.defenses.send(channel, jax.random.key(0), features).ravel(), [0, 0, 0, 0, 4, 5, 6, 7]
    )
    slope = jax.grad(lambda f: own_defense.expected({}, f, 0.5, None, 1).sum())(features)
    np.testing.assert_array_equal(slope, np.ones_like(features))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docs.own_attack:absent", "Could not import 'docs.own_attack:absent'"),
        ("docs.own_attack:fit", "is a function; give module.path:object of a dci_jax.Attack"),
        (
            "tests.own_attack_test:no_keywords",
            r"fit\(network, prior, splits, key, folder\) does not take .*, \*, channel\)",
        ),
    ],
)
def test_an_own_attack_that_does_not_fit_is_told_why(name, said):
    with pytest.raises(InputError, match=said):
        registry.find(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docs.own_defense:send", "is a function; give module.path:object of a dci_jax.Defense"),
        (
            "tests.own_attack_test:narrow",
            r"`send` returns .*\(2, 4, 4, 1\).* for features \[2, 4, 4, 2\]; it must keep their shape",
        ),
        ("tests.own_attack_test:broken", r"`send` fails on features \[2, 4, 4, 2\]"),
    ],
)
def test_an_own_defense_that_does_not_fit_is_told_why(name, said):
    with pytest.raises(InputError, match=said):
        defenses.check_own(name, 0.5, (4, 4, 2))


@pytest.mark.parametrize("text", ["import sys; sys.exit()", "x = = 1", "raise KeyError('x')"])
def test_a_module_that_fails_or_exits_when_it_is_imported_is_one_sentence(tmp_path, monkeypatch, text):
    (tmp_path / "odd_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="Could not import 'odd_module:attack'"):
        registry.find("odd_module:attack")
    sys.modules.pop("odd_module", None)
