import jax.numpy as jnp
import numpy as np

from dci_jax import network as networks
from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.dci.blocks import split_stages
from dci_jax.pieces import sequential


def test_a_block_with_parts_is_several_blocks_with_the_same_answer_and_its_name_last():
    stages = (lambda w, x: (w * x, {}), lambda w, x: (x + w, {}), lambda w, x: (x - 1, {}))
    network = sequential("mine", (4, 4, 3), [("all", lambda w, x: w * x + w - 1, jnp.float32(2.0))])
    network = network.replace(blocks=(network.blocks[0].replace(stages=stages),))
    found = split_stages(network)
    assert networks.split_names(found) == ("all, stage 1", "all, stage 2", "all")
    assert [block.nonnegative for block in found.blocks] == [False, True, True]
    x = jnp.full((1, 4, 4, 3), 0.75)
    np.testing.assert_array_equal(networks.run(found, x), networks.run(network, x))
    assert split_stages(found) == found  # no stages are left


def test_a_block_stays_whole_where_a_part_changes_the_size_by_no_whole_factor():
    def pieces(border):  # 16 x 16, 15 or 16 x 15 or 16, 8 x 8
        def convolved(w, x):
            return jnp.pad(w * x, ((0, 0), (0, border), (0, border), (0, 0)))[:, 1:, 1:], {}

        def pooled(_, x):
            return max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))), {}

        def both(w, x):
            return pooled(w, convolved(w, x)[0])

        network = sequential("mine", (16, 16, 3), [("a", both, jnp.ones(3)), ("b", both, jnp.ones(3))])
        first, second = network.blocks
        return split_stages(network.replace(blocks=(first.replace(stages=(convolved, pooled)), second)))

    assert networks.split_names(pieces(1)) == ("a, stage 1", "a", "b")
    assert networks.split_names(pieces(0)) == ("a", "b")
    assert networks.feature_shapes(pieces(0))[1:] == ((8, 8, 3), (4, 4, 3))
