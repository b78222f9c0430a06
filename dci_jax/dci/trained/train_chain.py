"""Divide-and-Conquer Inversion (Dong et al., BMVC 2022): one inverter per block, then the chain as a whole.

*Divide*: each inverter learns alone, from the block's own pairs. *Conquer*: chains of growing depth
learn together that their image is right and that the network, given that image, answers with the
same features (cycle consistency). The inverters compose, so one training serves every split.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax.dci.chain import Chain
from dci_jax.dci.trained.inverter_network import Inverter, inverters
from dci_jax.dci.trained.objective import Objective, conquer_loss, deepest_loss, divide_loss
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.losses import DISTANCES
from dci_jax.network import Network, feature_shapes, split_index, split_names, with_dtype
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array, Pytree


@dataclass(frozen=True)
class Phase:
    """One stage of the training: what `minimize` is called with. Made by `phases`.

    `deepest`: it trains the deepest split alone, in a copy of the chain.
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
      folder: keeps checkpoints; a killed run goes on from the last. Made if need be, but not what it is in.
      batch: images per step.
      precision: "float32", or "bfloat16" for the convolutions in training; estimates, losses and
        parameters are float32 in any case.
      **settings: of `phases`.

    Returns:
      split point -> its chain.
    """
    if folder:
        folder.mkdir(exist_ok=True)
    key_params, key_inputs = jax.random.split(key)
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
    """Raise InputError where the training could not work on inputs of this shape.

    Args:
      network: the target.
      splits: split points to reconstruct from.
      shape: of the inputs that it is trained on.
      batch, precision: see `dci_trained`.
      **settings: of `phases`.
    """
    if settings["distance"] not in DISTANCES:
        raise InputError(f"dci_trained.distance is {settings['distance']!r}; choose from: {', '.join(DISTANCES)}.")
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"dci_trained.precision is {precision!r}; give float32 or bfloat16.")
    deepest = max(split_index(network, name) for name in splits)
    if batch < deepest:
        raise InputError(
            f"dci_trained.batch is {batch}, but each of the {deepest} split points down to "
            f"{split_names(network)[deepest - 1]} needs an input of its own in every step; give at least that many."
        )
    sharding.warn_if_uneven("dci_trained.batch", batch, deepest)
    for size in (network.input_shape, shape):
        phases(network.replace(input_shape=size), splits, **settings)


def of_phases(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of the section "dci_trained" its phases depend on."""
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
      learning_rate: Adam's in the divide phase, at its start; it falls to zero along a cosine.
      divide_steps: steps in which every inverter learns alone.
      conquer_learning_rate: the same for each stage of the conquer phase.
      conquer_warmup: steps over which that rate first rises from zero. The gradient of a chain is far
        larger than that of one inverter, and Adam's first steps are as long whatever the gradient:
        without a rise they throw away what the divide phase had learned.
      conquer_clip: global norm that the gradient is cut to in conquer; infinite: never. Where a latent has no
        bounds a single batch can otherwise throw a chain out.
      conquer: ((split point, steps), ...): the stages, deeper by deeper.
      deepest_steps: last steps on the deepest split alone, with conquer's rate, in a copy of the chain that the other
        splits do not use: it would cost them more than it gives; 0: none.
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
    """Adam whose rate rises over the phase's warm-up and then falls to zero along a cosine."""
    if not phase.warmup:
        return optax.adam(optax.cosine_decay_schedule(phase.learning_rate, max(phase.steps, 1)))
    warmup = min(phase.warmup, phase.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, phase.learning_rate, warmup, phase.steps)
    if phase.clip == math.inf:
        return optax.adam(rate)
    return optax.chain(optax.clip_by_global_norm(phase.clip), optax.adam(rate))
