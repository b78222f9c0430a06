import numpy as np
import pytest

from configs import tiny
from dci_jax.check import check
from dci_jax.errors import InputError
from dci_jax.pieces import sequential


def bad_head(weights):
    return sequential(
        "odd",
        (32, 32, 3),
        [("only", lambda scale, x: scale * x, 2.0)],
        (lambda w, x: x @ w, np.zeros((5, 2))),
    )


def failing(weights):
    return {}["absent"]


def many_channels(weights):
    return sequential("many", (28, 28, 4), [("only", lambda scale, x: scale * x, 2.0)])


def flat(weights):
    return sequential("flat", (32, 32, 3), [("only", lambda scale, x: scale * x, 2.0)], std=(0.0,))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad_head", r"odd: 'head' does not accept features of shape \[1, 32, 32, 3\]"),
        ("failing", r"failing failed in .*own_network_test.py, line \d+ \(KeyError: 'absent'\); correct it"),
        ("many_channels", r"many takes images \[H, W, C\] of \[28, 28, 4\], but pictures have 3 channels, or 1"),
        ("flat", r"flat has std \(0.0,\)"),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_audited_is_told_why(name, said):
    config = tiny.get_config()
    config.target.name, config.splits = f"tests.own_network_test:{name}", ()
    config.attacks = ("dci",)
    config.synthesis.batches, config.inputs.synthetic = 0, 0.0
    with pytest.raises(InputError, match=said):
        check(config)
