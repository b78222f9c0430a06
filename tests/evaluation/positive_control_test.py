"""The positive control: what is wrong with features is said, and an attack that reconstructs nothing is seen to."""

import jax
import jax.numpy as jnp
import pytest

from dci_jax.evaluation import positive_control
from dci_jax.pieces import sequential
from dci_jax.report.leaks import Policy

POLICY = Policy(ssim=0.5, psnr=20.0, structure=0.7, leaking=0.0, server_agreement=0.95)
FAULTS = {
    "not finite": lambda _, x: x * jnp.nan,
    "the same for every image": lambda _, x: jnp.zeros_like(x) + 3.0,
    "no gradient": lambda _, x: jnp.round(8 * x),
}


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (16, 32, 32, 3))


def network(function):
    return sequential("made", (32, 32, 3), [("only", function, 1.0)])


@pytest.mark.parametrize("said", FAULTS)
def test_features_that_say_nothing_are_named(said, images):
    (sentence,) = positive_control.faults(network(FAULTS[said]), "only", images)
    assert said in sentence


def test_features_that_say_something_have_no_fault(images):
    assert positive_control.faults(network(lambda _, x: 2 * x), "only", images) == []


@pytest.mark.parametrize(
    ("reconstruct", "share"),
    [(lambda f: f / 2, 1.0), (lambda f: 1 - f / 2, 1.0), (jnp.zeros_like, 0.0), (lambda f: jnp.flip(f, 0) / 2, 0.0)],
    ids=["exact", "negative", "black", "another image"],
)
def test_an_attack_passes_where_it_reconstructs_procedural_images(reconstruct, share, images):
    assert positive_control.share(network(lambda _, x: 2 * x), "only", images, reconstruct, POLICY) == share
