"""The blocks that a chain undoes: a network's own, a stem's stages apart, and joined where an inverter would be too wide."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence

from dci_jax.dci.grid import scale
from dci_jax.dci.inverter import inverter_spec
from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes

# Regressors of a correction at one pixel, at most: about what a solve takes by default, and what some hundred images determine,
# which have so many pixels each.
_WIDEST, _FOR_EACH_PIXEL = 10_000, 100


def chain_blocks(network: Network, splits: Sequence[str]) -> Network:
    """The network whose blocks a chain to these split points undoes, one inverter each.

    Where several tensors are sent, an inverter estimates all of them on their smallest grid; where that is too many numbers, or
    too few pixels to solve it on, the block before such a place and the one after it are undone as one. Places that are attacked
    stay.
    """
    return joined(split_stages(network), splits, solvable)


def split_stages(network: Network) -> Network:
    """The same network with each block's stages as separate blocks, the last of which keeps the block's name.

    Shallower blocks are easier to invert. The other stages do not end in split points: nothing is sent after them. A block
    stays whole if the sizes of its stages' features do not differ by whole factors.
    """
    for index, block in reversed(list(enumerate(network.blocks))):
        if not block.stages:
            continue
        stages = tuple(
            block.replace(
                name=block.name if number == len(block.stages) else f"{block.name}, stage {number}",
                apply=apply,
                nonnegative=block.nonnegative or number > 1,
                stages=(),
                tensors=block.tensors if number == len(block.stages) else (),
                beside=block.beside if number == len(block.stages) else 0,
            )
            for number, apply in enumerate(block.stages, 1)
        )
        divided = network.replace(blocks=(*network.blocks[:index], *stages, *network.blocks[index + 1 :]))
        with contextlib.suppress(InputError):
            for number in range(index, index + len(stages)):
                scale(divided, number, number + 1)
            network = divided
    return network


def joined(
    network: Network, splits: Sequence[str], stays: Callable[[Network, int], bool] = lambda network, index: False
) -> Network:
    """The network with blocks undone together, where between them more than one tensor is sent.

    Args:
      network: the target.
      splits: places that stay.
      stays: `(network, number of blocks before a place)` -> whether it stays, too; by default none does.
    """
    for index in reversed(range(1, len(network.blocks))):
        before, after = network.blocks[index - 1 : index + 1]
        if before.tensors and before.name not in splits and not stays(network, index):
            both = after.replace(
                params=(before.params, after.params),
                apply=_composed(before.apply, after.apply),
                nonnegative=before.nonnegative,
                stages=(),
            )
            network = network.replace(blocks=(*network.blocks[: index - 1], both, *network.blocks[index + 1 :]))
    return network


def solvable(network: Network, index: int) -> bool:
    """Whether an inverter can be solved for block `index`, whose input are several tensors."""
    with contextlib.suppress(InputError):
        found = inverter_spec(network, index, index + 2, feature_shapes(network))
        return found.channels <= min(_WIDEST, _FOR_EACH_PIXEL * math.prod(found.grid))
    return False


@functools.cache  # one object for each pair, so that what is compiled of it is shared
def _composed(first, second):
    def apply(params, x):
        y, _ = first(params[0], x)
        return second(params[1], y)[0], {}

    return apply
