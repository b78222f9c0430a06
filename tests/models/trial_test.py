"""A network of one's own that would make every attack weak is refused before any work, in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import models
from dci_jax.errors import InputError
from dci_jax.models import trial
from dci_jax.pieces import sequential

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)


def conv(kernel, x):
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def network(block=conv, head=None, **more):
    return sequential("odd", (32, 32, 3), [("a", block, KERNEL)], head and (head, {}), **more)


def exits(source):
    raise SystemExit(0)


def broken(source):
    return network(lambda p, x: jnp.round(conv(p, x)))


def test_a_sound_network_passes():
    trial.check(network())
    trial.check(network(head=lambda p, x: x.mean((1, 2))))
    trial.check(network(lambda p, x: x + jax.lax.stop_gradient(jnp.round(x) - x) + 0 * p.sum()))


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda p, x: jnp.round(10 * conv(p, x)).astype(jnp.int8), "returns int8"),
        (lambda p, x: conv(p, x) > 0, "returns bool"),
        (lambda p, x: conv(p, x).astype(jnp.complex64), "returns complex64"),
        (lambda p, x: jnp.round(10 * conv(p, x)), "a gradient of 0 everywhere"),
        (lambda p, x: jnp.nan * conv(p, x), "are not finite"),
        (lambda p, x: jnp.inf * conv(p, x), "are not finite"),
        (lambda p, x: 0 * conv(p, x) + 1, "the same for every input"),
        (lambda p, x: conv(p, x) - conv(p, x).mean(0), "alone than beside a second one"),
        (lambda p, x: conv(p, x)[:1], "a row for each input"),
        (lambda p, x: (x, 3), "let it return one array"),
    ],
)
def test_a_block_that_breaks_its_promises_is_named(block, said):
    with pytest.raises(InputError, match=said) as found:
        trial.check(network(block))
    assert "'a'" in str(found.value)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda p, x: x, "the head makes .* let it return logits"),
        (lambda p, x: x.mean(), "the head makes"),
        (lambda p, x: jnp.nan * x.mean((1, 2)), "the logits are not finite"),
    ],
)
def test_a_head_that_is_none_is_told(head, said):
    with pytest.raises(InputError, match=said):
        trial.check(network(head=head))


@pytest.mark.parametrize(
    ("more", "said"), [({"mean": 0.5}, "give a tuple"), ({"std": (0.0,)}, "above 0"), ({"mean": (np.nan,)}, "finite")]
)
def test_a_normalization_that_is_none_is_told(more, said):
    with pytest.raises(InputError, match=said):
        trial.check(network(**more))


def test_a_network_by_name_is_tried_and_one_that_exits_is_an_error():
    with pytest.raises(InputError, match="a gradient of 0 everywhere"):
        models.load("tests.models.trial_test:broken")
    with pytest.raises(InputError, match=r"exits failed in .*SystemExit"):
        models.load("tests.models.trial_test:exits")
