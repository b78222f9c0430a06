"""Some split points out of all: evenly spaced by what the device computes."""

import pytest

from dci_jax.evaluation.kept import costs, evenly_spaced
from dci_jax.network import split_names


@pytest.mark.parametrize("count", [2, 3])
def test_the_first_and_the_last_are_among_them_and_the_others_near_equal_steps(network, count):
    names = split_names(network)
    found = evenly_spaced(network, count)
    assert len(found) == count
    assert (found[0], found[-1]) == (names[0], names[-1])
    assert list(found) == sorted(found, key=names.index)
    flops = {name: cost["device_flops"] for name, cost in costs(network, names).items()}
    if count == 3:
        half = (flops[names[0]] + flops[names[-1]]) / 2
        assert abs(flops[found[1]] - half) == min(abs(flops[name] - half) for name in names[1:-1])


def test_zero_or_more_than_there_are_is_all(network):
    assert evenly_spaced(network, 0) == evenly_spaced(network, 99) == split_names(network)


def test_one_is_in_the_middle(network):
    (found,) = evenly_spaced(network, 1)
    assert found not in (split_names(network)[0], split_names(network)[-1])
