import dataclasses

import jax
import numpy as np
import pytest

from configs import tiny
from dci_jax import fingerprint
from dci_jax.evaluation import images


@pytest.fixture
def case(network):
    config = tiny.get_config()
    return config, images.load(config, network, ("stem",))


def test_one_changed_weight_or_label_changes_its_digest_and_no_other(case):
    config, case = case
    before = fingerprint.fingerprint(config, case)
    assert before == fingerprint.fingerprint(config, case)
    leaves, tree = jax.tree.flatten(case.network)
    leaves[0] = np.nextafter(np.asarray(leaves[0]), np.float32(np.inf))
    for field, arrays in (
        ("target.weights", jax.tree.unflatten(tree, leaves)),
        ("data.labels", np.array([4])),
    ):
        changed = dataclasses.replace(case, depends=case.depends | {field: arrays})
        after = fingerprint.fingerprint(config, changed)
        assert [name for name in before if before[name] != after[name]] == [field]


def test_the_source_of_ones_own_network_counts(case):
    config, case = case
    config.target.name = "docs.own_network:small_vgg"
    assert len(fingerprint.fingerprint(config, case)["target.name"]) == 64
