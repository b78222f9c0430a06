"""The two losses of DCI (Dong et al., BMVC 2022): every inverter alone, and their chains of every depth.

An inverter `R_i` inverts block `F_i`: features `f_i = F_i(f_{i-1})` -> `f_{i-1}`, and `f_0 = x` is the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.dci.trained.inverter_network import Inverter
from dci_jax.losses import DISTANCES, SCALES
from dci_jax.network import Network, run, trace
from dci_jax.typing import Array, Pytree


@dataclass(frozen=True)
class Objective:
    """The training objective of the inverters.

    Attributes:
      distance: a key of `losses.DISTANCES`, for all three terms.
      layer, image, cycle: weights of the terms.
      remat: recompute the inverters' activations in the backward pass instead of storing them.
    """

    distance: str
    layer: float
    image: float
    cycle: float
    remat: bool = False


def undo(
    module: Inverter, params: Pytree, network: Network, index: int, features: Float[Array, "B ..."]
) -> Float[Array, "B ..."]:
    """`R(f)`: features after block `index` (from 0) -> features before it."""
    return module.apply(params, features, lambda x: run(network, x, index, index + 1))


def _undo(objective: Objective) -> Callable:
    return jax.checkpoint(undo, static_argnums=(0, 3)) if objective.remat else undo


def divide_loss(
    objective: Objective,
    modules: tuple[Inverter, ...],
    params: Pytree,
    network: Network,
    images: Float[Array, "B ..."],
) -> tuple[Array, dict[str, Array]]:
    """Every inverter alone: sum_i |R_i(f_i) - f_{i-1}| + cycle * |F_i(R_i(f_i)) - f_i|.

    Args:
      images: [B, H, W, C] in [0, 1].

    Returns:
      (loss, terms), each term a mean over the inverters.
    """
    features, _ = trace(network, images, 0, len(modules))
    scales = [SCALES[objective.distance](f) for f in features]
    terms = [alone(objective, module, params[i], network, i, features, scales) for i, module in enumerate(modules)]
    layer, cycle = (_mean(term) for term in zip(*terms, strict=True))
    loss = len(modules) * (objective.layer * layer + objective.cycle * cycle)
    return loss, {"layer": layer, "cycle": cycle}


def alone(
    objective: Objective,
    module: Inverter,
    params: Pytree,
    network: Network,
    i: int,
    features: Sequence[Array],
    scales: Sequence[Array],
) -> tuple[Array, Array]:
    """|R_i(f_i) - f_{i-1}| and |F_i(R_i(f_i)) - f_i| of one inverter, i from 0.

    Args:
      features: (f_0, ..., f_N), each [B, ...].
      scales: what each feature's distance is relative to.
    """
    distance, undo = DISTANCES[objective.distance], _undo(objective)
    estimate = undo(module, params, network, i, features[i + 1])
    layer = distance(estimate, features[i], scales[i])
    cycle = distance(run(network, estimate, i, i + 1), features[i + 1], scales[i + 1])
    return layer, cycle


def conquer_loss(
    objective: Objective,
    modules: tuple[Inverter, ...],
    params: Pytree,
    network: Network,
    images: Float[Array, "B ..."],
) -> tuple[Array, dict[str, Array]]:
    """The chains of every depth up to k = len(modules), together.

    The batch is divided into k groups, each reconstructed from its own split. An inverter therefore
    sees true features and the estimates of deeper inverters, and each split has the same weight:

        image |R_1(...R_s(f_s)) - x|  +  cycle mean_{i<=s} |F_i(...F_1(x')) - f_i|  +  layer ...

    The groups are the columns of [B / k, k, ...], so that devices that share the rows do not have to
    communicate.

    Args:
      images: [B, H, W, C] in [0, 1]; at least one for each split.

    Returns:
      (loss, terms).
    """
    distance, undo = DISTANCES[objective.distance], _undo(objective)
    depth = len(modules)
    rows = len(images) // depth
    images = images[: rows * depth]
    features = [_columns(f, depth) for f in trace(network, images, 0, depth)[0]]
    # Column 0 goes deepest: split i + 1 is where the columns up to depth - i are reconstructed from, or through.
    true = [f[:, : depth - max(i - 1, 0)] for i, f in enumerate(features)]
    estimate, layer = true[depth][:, :0], []
    for i in reversed(range(depth)):
        new = true[i + 1][:, estimate.shape[1] :]
        estimate = jnp.concatenate([estimate, new], 1)
        undone = undo(modules[i], params[i], network, i, _flat(estimate))
        estimate = _columns(undone, depth - i)
        layer.append(distance(estimate, features[i][:, : depth - i]))
    image = [distance(estimate[:, s], features[0][:, s]) for s in range(depth)]
    again, cycle = estimate, []
    for i in range(depth):
        count = true[i + 1].shape[1]
        again = _columns(run(network, _flat(again[:, :count]), i, i + 1), count)
        cycle.append(distance(again, true[i + 1]))
    terms = {"layer": _mean(layer), "image": _mean(image), "cycle": _mean(cycle)}
    loss = sum(getattr(objective, name) * term for name, term in terms.items())
    return loss, terms | {"deepest": image[0]}


def deepest_loss(
    objective: Objective,
    modules: tuple[Inverter, ...],
    params: Pytree,
    network: Network,
    images: Float[Array, "B ..."],
) -> tuple[Array, dict[str, Array]]:
    """The terms of `conquer_loss` for the deepest chain alone, which sees one input in k there and all of them here."""
    distance, undo = DISTANCES[objective.distance], _undo(objective)
    features, _ = trace(network, images, 0, len(modules))
    estimate, layer, cycle = features[-1], [], []
    for i in reversed(range(len(modules))):
        estimate = undo(modules[i], params[i], network, i, estimate)
        layer.append(distance(estimate, features[i]))
    again = estimate
    for i in range(len(modules)):
        again = run(network, again, i, i + 1)
        cycle.append(distance(again, features[i + 1]))
    terms = {"layer": _mean(layer), "image": layer[-1], "cycle": _mean(cycle)}
    return sum(getattr(objective, name) * term for name, term in terms.items()), terms


def _columns(x, count):
    return x.reshape(-1, count, *x.shape[1:])


def _flat(x):
    return x.reshape(-1, *x.shape[2:])


def _mean(terms):
    return sum(terms) / len(terms)
