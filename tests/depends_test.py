import dataclasses

import jax
import numpy as np

from configs import tiny
from dci_jax import data, depends, setting


def test_one_changed_weight_or_label_changes_its_digest_and_no_other(network):
    config = tiny.get_config()
    images = data.Images(("a",), np.zeros((1, 32, 32, 3), np.uint8), np.array([3]))
    given = setting.Setting(network, network, None, images, None, ("stem",))
    before = depends.digests(config, given)
    assert before == depends.digests(config, given)

    leaves, tree = jax.tree.flatten(network)
    leaves[0] = np.nextafter(np.asarray(leaves[0]), np.float32(np.inf))
    other = dataclasses.replace(given, network=jax.tree.unflatten(tree, leaves))
    relabelled = dataclasses.replace(
        given, private=dataclasses.replace(images, labels=np.array([4]))
    )
    for changed, field in ((other, "target.weights"), (relabelled, "data.labels")):
        after = depends.digests(config, changed)
        assert [name for name in before if before[name] != after[name]] == [field]


def test_the_source_of_ones_own_network_counts(network):
    config = tiny.get_config()
    config.target.name = "docs.own_network:small_vgg"
    images = data.Images(("a",), np.zeros((1, 32, 32, 3), np.uint8))
    given = setting.Setting(network, network, None, images, None, ("stem",))
    assert len(depends.digests(config, given)["target.name"]) == 64
