"""Divide-and-Conquer Inversion (Dong et al., BMVC 2022): one inverter per block, then the chain as a whole.

*Divide*: each inverter learns alone, from the block's own pairs. *Conquer*: chains of growing depth
learn together that their image is right and that the network, given that image, answers with the
same features (cycle consistency). The inverters compose, so one training serves every split.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax.attacks import spread
from dci_jax.blocks import (
    Network,
    feature_shapes,
    run,
    split_index,
    split_names,
    trace,
    with_dtype,
)
from dci_jax.inputs import Inputs, batches
from dci_jax.losses import DISTANCES, SCALES
from dci_jax.models.inverter import Inverter, inverters
from dci_jax.optimize import minimize

Array = jax.Array
Pytree = Any
Reconstruct = Callable[[Array], Array]


@dataclass(frozen=True)
class Objective:
    """What the inverters are trained for.

    Attributes:
      distance: a key of `losses.DISTANCES`, for all three terms.
      layer, image, cycle: weights of the terms.
      remat: compute the inverters' activations again for their gradient instead of keeping them.
    """

    distance: str
    layer: float
    image: float
    cycle: float
    remat: bool = False


@dataclass(frozen=True)
class Phase:
    """One stage of the training: what `minimize` is called with. Made by `phases`.

    `rows_loss` is the same loss where the inverters learn apart: it takes a `spread.Packing` first,
    and the rows for the variables.
    """

    label: str
    loss: Callable
    steps: int
    learning_rate: float
    warmup: int = 0
    rows_loss: Callable | None = None


def dci(
    network: Network,
    inputs: Inputs,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    batch: int,
    groups: int,
    precision: str,
    **settings: Any,
) -> dict[str, Reconstruct]:
    """Train the inverters up to the deepest split.

    Args:
      network: the target, known to the attacker.
      inputs: what the attacker trains on.
      splits: split points to be read back.
      key: PRNG key.
      folder: keeps checkpoints; a killed run goes on from the last.
      batch: images per step.
      groups: in the divide phase the inverters are trained in so many groups, on devices of their own
        where there are several (`attacks.spread`); 1: every device trains all of them.
      precision: "float32", or "bfloat16" for the convolutions in training; estimates, losses and
        parameters are float32 in any case.
      **settings: of `phases`.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    key_params, key_inputs = jax.random.split(key)
    modules, stages = phases(with_dtype(network, precision), splits, **settings)
    params = initialize(modules, network, key_params)
    for number, phase in enumerate(stages):
        loss, layout = phase.loss, None
        if phase.rows_loss and groups > 1:
            how = spread.packing(params, min(groups, len(modules)))
            loss, layout = functools.partial(phase.rows_loss, how), spread.layout(len(how.groups))
            params = spread.pack(how, params)
        params, _ = minimize(
            loss,
            params,
            with_dtype(network, precision),
            batches(inputs, jax.random.fold_in(key_inputs, number), batch),
            steps=phase.steps,
            optimizer=adam(phase),
            layout=layout,
            label=f"dci: {phase.label}",
            folder=folder / f"{number}_{phase.label.replace(' ', '_')}",
        )
        params = spread.unpack(how, params) if layout else params
    modules, _ = phases(network, splits, **settings)  # reads back in float32
    return {
        name: functools.partial(invert, modules[: split_index(network, name)], params, network)
        for name in splits
    }


def phases(
    network: Network,
    splits: tuple[str, ...],
    *,
    width: float,
    cap: int,
    rounds: int,
    depth: int,
    distance: str,
    layer: float,
    image: float,
    cycle: float,
    remat: bool,
    learning_rate: float,
    divide_steps: int,
    conquer_learning_rate: float,
    conquer_warmup: int,
    conquer: tuple[tuple[str, int], ...],
) -> tuple[tuple[Inverter, ...], tuple[Phase, ...]]:
    """The inverters up to the deepest split, and the stages of their training.

    Args:
      network: the target.
      splits: split points to be read back.
      width, cap, rounds, depth: of the inverters, see `models.inverter`.
      distance, layer, image, cycle, remat: see `Objective`. The divide phase has no image term.
      learning_rate: Adam's in the divide phase, at its start; it falls to zero along a cosine.
      divide_steps: steps in which every inverter learns alone.
      conquer_learning_rate: the same for each stage of the conquer phase.
      conquer_warmup: steps over which that rate first rises from zero. The gradient of a chain is far
        larger than that of one inverter, and Adam's first steps are as long whatever the gradient:
        without a rise they throw away what the divide phase had learned.
      conquer: ((split point, steps), ...): the stages, deeper by deeper.
    """
    deepest = max(split_index(network, name) for name in splits)
    modules = inverters(network, deepest, width, cap, rounds, depth)
    objective = Objective(distance, layer, image, cycle, remat)
    loss = functools.partial(divide_loss, objective, modules)
    rows_loss = functools.partial(spread_loss, objective, modules)
    stages = [Phase("divide", loss, divide_steps, learning_rate, rows_loss=rows_loss)]
    for name, steps in conquer:
        stop = min(split_index(network, name), deepest)
        loss = functools.partial(conquer_loss, objective, modules[:stop])
        label = f"conquer to {split_names(network)[stop - 1]}"
        stages.append(Phase(label, loss, steps, conquer_learning_rate, conquer_warmup))
    return modules, tuple(stages)


def undo(module: Inverter, params: Pytree, network: Network, index: int, features: Array) -> Array:
    """`R(f)`: features behind block `index` (from 0) -> features before it."""
    return module.apply(params, features, lambda x: run(network, x, index, index + 1))


def _undo(objective: Objective) -> Callable:
    return jax.checkpoint(undo, static_argnums=(0, 3)) if objective.remat else undo


@functools.partial(jax.jit, static_argnums=0)
def invert(
    modules: tuple[Inverter, ...], params: Pytree, network: Network, features: Array
) -> Array:
    """`R_1(...R_k(f_k))` with k = len(modules): images [B, H, W, C] in [0, 1]."""
    for index in reversed(range(len(modules))):
        features = undo(modules[index], params[index], network, index, features)
    return jnp.clip(features, 0, 1)


def divide_loss(
    objective: Objective,
    modules: tuple[Inverter, ...],
    params: Pytree,
    network: Network,
    images: Array,
) -> tuple[Array, dict[str, Array]]:
    """Every inverter alone: sum_i |R_i(f_i) - f_{i-1}| + cycle * |F_i(R_i(f_i)) - f_i|.

    Args:
      images: [B, H, W, C] in [0, 1].

    Returns:
      (loss, terms), each term a mean over the inverters.
    """
    features, _ = trace(network, images, 0, len(modules))
    scales = [SCALES[objective.distance](f) for f in features]
    terms = [
        alone(objective, module, params[i], network, i, features, scales)
        for i, module in enumerate(modules)
    ]
    layer, cycle = (_mean(term) for term in zip(*terms, strict=True))
    loss = len(modules) * (objective.layer * layer + objective.cycle * cycle)
    return loss, {"layer": layer, "cycle": cycle}


def spread_loss(
    objective: Objective,
    modules: tuple[Inverter, ...],
    how: spread.Packing,
    matrix: Array,
    network: Network,
    images: Array,
) -> tuple[Array, dict[str, Array]]:
    """`divide_loss` with the parameters in the rows of a matrix, see `attacks.spread`."""
    features, _ = trace(network, images, 0, len(modules))
    scales = [SCALES[objective.distance](f) for f in features]

    def term(i, params, shared, features):
        network, scales = shared
        return alone(objective, modules[i], params, network, i, features, scales)

    layer, cycle = spread.spread_sum(how, term, matrix, (network, scales), features)
    loss = objective.layer * layer + objective.cycle * cycle
    return loss, {"layer": layer / len(modules), "cycle": cycle / len(modules)}


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
      scales: what each feature's distance is a share of.
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
    images: Array,
) -> tuple[Array, dict[str, Array]]:
    """The chains of every depth up to k = len(modules), together.

    The batch is cut into k groups; each is read back from a split of its own. An inverter therefore
    sees true features and those that deeper inverters made, and each split counts the same:

        image |R_1(...R_s(f_s)) - x|  +  cycle mean_{i<=s} |F_i(...F_1(x')) - f_i|  +  layer ...

    The groups are the columns of [B / k, k, ...], so that devices which share the rows need nothing
    from one another.

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
    # Column 0 goes deepest: split i + 1 is where the columns up to depth - i are read back from, or through.
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


def _columns(x, count):
    return x.reshape(-1, count, *x.shape[1:])


def _flat(x):
    return x.reshape(-1, *x.shape[2:])


def initialize(modules: tuple[Inverter, ...], network: Network, key: Array) -> tuple[Pytree, ...]:
    """Random parameters, one tree for each inverter."""
    shapes = feature_shapes(network)
    keys = jax.random.split(key, len(modules))
    return tuple(
        jax.jit(module.init, static_argnums=2)(
            keys[i], jnp.zeros((1, *shapes[i + 1])), functools.partial(_zero, shapes[i + 1])
        )
        for i, module in enumerate(modules)
    )


def _zero(shape, x):
    return jnp.zeros((len(x), *shape))


def adam(phase: Phase) -> optax.GradientTransformation:
    """Adam whose rate rises over the phase's warm-up and then falls to zero along a cosine."""
    if not phase.warmup:
        return optax.adam(optax.cosine_decay_schedule(phase.learning_rate, max(phase.steps, 1)))
    warmup = min(phase.warmup, phase.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, phase.learning_rate, warmup, phase.steps)
    return optax.adam(rate)


def _mean(terms):
    return sum(terms) / len(terms)
