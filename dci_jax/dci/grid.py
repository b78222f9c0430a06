"""How the features on both sides of a block lie on one grid: whole factors, and pixel shuffle between them."""

import dm_pix
from jaxtyping import Float

from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes, split_names
from dci_jax.tensors import grid_shape
from dci_jax.typing import Array

Shapes = tuple[tuple[int, ...], ...]  # of the features of one example, as `feature_shapes` returns them


def scale(network: Network, start: int, stop: int, shapes: Shapes | None = None) -> tuple[int, int]:
    """How much smaller, and how much larger, the features at split `stop` are than those at `start`.

    The same in height and width; at least one of the two factors is 1. A latent counts as an image of one pixel; several tensors
    at `start` are one array on their smallest grid (`tensors.join`), those at `stop` lie on one grid as `common_factor` says.

    Args:
      network: the target.
      start, stop: splits.
      shapes: `feature_shapes(network)`, if already computed.

    Raises:
      InputError: they are not images [H, W, C], or their sizes do not differ by one whole factor.
    """
    shapes = shapes or feature_shapes(network)
    factor = common_factor(network, start, stop, shapes)
    before, after = shapes[start], grid_shape(shapes[stop], network.blocks[stop - 1].tensors, factor)
    whole = len(after) == 3 and (len(before) == 3 or start == 0)
    old, new = ((1, 1, *shape)[-3:-1] for shape in (before, after))
    for large, small, enlarged in ((old, new, False), (new, old, True)):
        ratios = {a // b if a % b == 0 else 0 for a, b in zip(large, small, strict=True)}
        if whole and len(ratios) == 1 and 0 not in ratios:
            return (1, ratios.pop()) if enlarged else (ratios.pop(), 1)
    raise InputError(
        f"{network.name}: {split_names(network)[stop - 1]} makes features {after} from {before}, "
        "but an inverter needs [H, W, C] on both sides, smaller or larger by one whole factor; choose splits "
        "before it, or an input size (or inputs.side) that divides evenly."
    )


def common_factor(network: Network, start: int, stop: int, shapes: Shapes) -> int:
    """How much larger than their smallest the grid is, on which an inverter to split `start` looks at the tensors at `stop`.

    That of the largest; between two splits of several tensors the largest that is not larger than the grid at `start`.
    """
    lay = network.blocks[stop - 1].tensors
    factors = sorted({factor for _, factor in lay} or {1})
    if start and network.blocks[start - 1].tensors:
        return max(f for f in factors if f == 1 or f * shapes[stop][0] <= shapes[start][0])
    return factors[-1]


def shuffle(x: Float[Array, "B h w c"], factor: int) -> Float[Array, "B H W C"]:
    """[B, h, w, C r^2] -> [B, h r, w r, C]: pixel shuffle (Shi et al., CVPR 2016)."""
    return x if factor == 1 else dm_pix.depth_to_space(x, factor)


def unshuffle(x: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w c"]:
    """[B, H, W, C] -> [B, H / r, W / r, C r^2]: the inverse of `shuffle`."""
    return x if factor == 1 else dm_pix.space_to_depth(x, factor)
