"""Divide-and-Conquer Inversion (Dong et al., BMVC 2022): one inverter per block, then the chain as a whole.

*Divide*: each inverter learns alone, from the block's own pairs. *Conquer*: chains of growing depth
are trained jointly so that their image is right and the network maps that image to the
same features (cycle consistency). The inverters compose, so one training serves every split.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax.dci.blocks import joined
from dci_jax.dci.chain import Chain
from dci_jax.dci.trained.inverter_network import Inverter, inverters
from dci_jax.dci.trained.objective import Objective, conquer_loss, deepest_loss, divide_loss
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.network import Network, feature_shapes, split_index, split_names, with_dtype
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array, Pytree


@dataclass(frozen=True)
class Phase:
    """One stage of the training: the arguments of `minimize`. Made by `phases`.

    `deepest`: whether it trains the deepest split alone, in a copy of the chain.
    """

    label: str
    loss: Callable
    steps: int
    learning_rate: float
    warmup: int = 0
    clip: float = math.inf
    deepest: bool = False


def dci_trained(
    network: Network,
    inputs: Prior,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    batch: int,
    precision: str,
    **settings: Any,
) -> dict[str, Chain]:
    """Train the inverters up to the deepest split.

    Args:
      network: the target, known to the attacker.
      inputs: what the attacker trains on.
      splits: split points to reconstruct from.
      key: PRNG key.
      folder: stores checkpoints; a killed run resumes from the last. Created if missing, but not its parents.
      batch: images per step.
      precision: "float32", or "bfloat16" for the convolutions in training; estimates, losses and
        parameters are always float32.
      **settings: see `phases`.

    Returns:
      split point -> its chain.
    """
    if folder:
        folder.mkdir(exist_ok=True)
    key_params, key_inputs = jax.random.split(key)
    network = joined(network, splits)
    modules, stages = phases(with_dtype(network, precision), splits, **settings)
    params = initialize(modules, network, key_params)
    for number, phase in enumerate(stages):
        before = params
        params, _ = minimize(
            phase.loss,
            params,
            with_dtype(network, precision),
            batches(inputs, jax.random.fold_in(key_inputs, number), batch),
            steps=phase.steps,
            optimizer=adam(phase),
            label=f"dci_trained: {phase.label}",
            folder=folder and folder / f"{number}_{phase.label.replace(' ', '_')}",
        )
    modules, _ = phases(network, splits, **settings)  # reconstructs in float32
    shared = before if stages[-1].deepest else params
    depths = {name: split_index(network, name) for name in splits}
    chains = {}
    for name, depth in depths.items():
        trained = params if depth == len(modules) else shared
        found = [TrainedInverter(trained[i], modules[i], i) for i in reversed(range(depth))]
        chains[name] = Chain.of(found, network, name)
    return chains


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    batch: int,
    precision: str,
    **settings: Any,
) -> None:
    """Raise InputError if the training could not work on inputs of this shape.

    Args:
      network: the target.
      splits: split points to reconstruct from.
      shape: shape of the training inputs.
      batch, precision: see `dci_trained`.
      **settings: see `phases`.
    """
    network = joined(network, splits)
    deepest = max(split_index(network, name) for name in splits)
    if batch < deepest:
        raise InputError(
            f"dci_trained.batch is {batch}, but each of the {deepest} split points down to "
            f"{split_names(network)[deepest - 1]} needs an input of its own in every step; give at least that many."
        )
    sharding.warn_if_uneven("dci_trained.batch", batch, deepest)
    for size in (network.input_shape, shape):
        phases(network.replace(input_shape=size), splits, **settings)


def of_phases(settings: Any) -> dict[str, Any]:
    """The settings of the section "dci_trained" that its phases depend on."""
    return {k: v for k, v in settings.items() if k not in ("batch", "precision")}


def phases(
    network: Network,
    splits: tuple[str, ...],
    *,
    width: float,
    cap: int,
    num_corrections: int,
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
    conquer_clip: float,
    conquer: tuple[tuple[str, int], ...],
    deepest_steps: int,
) -> tuple[tuple[Inverter, ...], tuple[Phase, ...]]:
    """The inverters up to the deepest split, and the stages of their training.

    Args:
      network: the target.
      splits: split points to reconstruct from.
      width, cap, num_corrections, depth: of the inverters, see `dci.trained.inverter_network`.
      distance, layer, image, cycle, remat: see `Objective`. The divide phase has no image term.
      learning_rate: initial learning rate of Adam in the divide phase; decays to zero on a cosine schedule.
      divide_steps: steps in which every inverter learns alone.
      conquer_learning_rate: the same for each stage of the conquer phase.
      conquer_warmup: warmup steps of that rate from zero. The gradient of a chain is far
        larger than that of one inverter, and Adam's first steps are as long whatever the gradient:
        without warmup they undo what the divide phase has learned.
      conquer_clip: global norm to which the gradient is clipped in conquer; infinite: no clipping. If a latent is
        unbounded, a single batch can otherwise make a chain diverge.
      conquer: ((split point, steps), ...): the stages, in order of depth.
      deepest_steps: final steps on the deepest split alone, with conquer's rate, in a copy of the chain that the other
        splits do not use, because they would lose more than it gains; 0: none.
    """
    deepest = max(split_index(network, name) for name in splits)
    modules = inverters(network, deepest, width, cap, num_corrections, depth)
    objective = Objective(distance, layer, image, cycle, remat)
    loss = functools.partial(divide_loss, objective, modules)
    stages = [Phase("divide", loss, divide_steps, learning_rate)]
    for name, steps in conquer:
        stop = min(split_index(network, name), deepest)
        loss = functools.partial(conquer_loss, objective, modules[:stop])
        label = f"conquer to {split_names(network)[stop - 1]}"
        stages.append(Phase(label, loss, steps, conquer_learning_rate, conquer_warmup, conquer_clip))
    if deepest_steps:
        loss = functools.partial(deepest_loss, objective, modules)
        rate, warmup, clip = conquer_learning_rate, conquer_warmup, conquer_clip
        stages.append(Phase("deepest alone", loss, deepest_steps, rate, warmup, clip, deepest=True))
    return modules, tuple(stages)


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
    """Adam with the phase's warmup, then cosine decay to zero."""
    if not phase.warmup:
        return optax.adam(optax.cosine_decay_schedule(phase.learning_rate, max(phase.steps, 1)))
    warmup = min(phase.warmup, phase.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, phase.learning_rate, warmup, phase.steps)
    if phase.clip == math.inf:
        return optax.adam(rate)
    return optax.chain(optax.clip_by_global_norm(phase.clip), optax.adam(rate))
