"""minimize(loss, variables, frozen, batches): the training loop of every attack and of synthesis.

Images and network weights are both pytrees, so synthesis, rMLE, DCI and the inverse network differ
only in their loss.
"""

import contextlib
import functools
import logging
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from dci_jax.cpu_kernels.onednn import HalfPrecision, fenced, options
from dci_jax.errors import InputError
from dci_jax.runtime import distributed, progress, sharding
from dci_jax.runtime.checkpoint import Checkpointer
from dci_jax.typing import Array, Pytree

log = logging.getLogger("dci_jax")

# Updates per dispatch on GPUs and TPUs. A CPU takes one: it has no dispatch to hide, and XLA:CPU can run a
# convolution's gradient inside a loop several times slower (github.com/jax-ml/jax/issues/12868).
_PER_DISPATCH = 10
_FEW = 30  # updates for which a program that no other process can read from the cache does not pay
_AHEAD = 4  # dispatches in flight: enough to hide Python, few enough to bound the batches in memory


def update(loss, optimizer, project, layout, variables, state, frozen, batches, half=False):
    """One update for each of `batches`; weights, features and batches are arguments, none is baked in.

    `half`: the loss computes in bfloat16, and the program is not for oneDNN.
    """
    gradient_of = jax.value_and_grad(loss, has_aux=True)
    gradient_of = gradient_of if half else fenced(gradient_of)

    def one(carry, batch):
        variables, state = carry
        seen = sharding.constrain(variables, layout)
        batch = sharding.constrain(batch, sharding.batch_sharded())
        (_, terms), gradient = gradient_of(seen, frozen, batch)
        updates, state = optimizer.update(gradient, state, variables)
        return (project(optax.apply_updates(variables, updates)), state), terms

    if len(batches) == 1:
        carry, terms = one((variables, state), batches[0])
    else:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        carry, terms = jax.lax.scan(one, (variables, state), stacked, length=len(batches))
        terms = jax.tree.map(lambda term: term[-1], terms)
    return *_laid(carry, layout), terms


def jitted(compiler_options: dict[str, bool] | None) -> Callable:
    """`update`, compiled."""
    static, donated = ("loss", "optimizer", "project", "layout", "half"), ("variables", "state")
    return jax.jit(update, static_argnames=static, donate_argnames=donated, compiler_options=compiler_options)


_half = set()  # losses that compute in bfloat16


def take_step(loss: Callable, *rest: Any, few: bool = False) -> tuple[Pytree, Pytree, dict[str, Array]]:
    """`step()`, or the same without oneDNN where the loss computes in bfloat16, or a `few` updates are made."""
    if loss not in _half and not few:
        try:
            return step()(loss, *rest)
        except HalfPrecision:
            _half.add(loss)
    return _plain_step()(loss, *rest, half=True)


@functools.cache
def _plain_step():
    return jitted(None)


@functools.cache
def step() -> Callable:
    """`update`, compiled as it is fastest here."""
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry for 'jit_update': MemoryError")
    return jitted(options())


def minimize(
    loss: Callable[[Pytree, Pytree, Pytree], tuple[Array, dict[str, Array]]],
    variables: Pytree,
    frozen: Pytree,
    batches: Callable[[int], Pytree],
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    project: Callable[[Pytree], Pytree] = lambda variables: variables,
    layout: NamedSharding | None = None,
    label: str = "",
    folder: str | Path | None = None,
    save_every: int = 200,
    per_dispatch: int | None = None,
) -> tuple[Pytree, dict[str, Array]]:
    """The variables after `steps` updates that lower `loss(variables, frozen, batch)`.

    Args:
      loss: `(variables, frozen, batch) -> (loss, terms)`, pure, with a lasting identity: it is a
        static argument of the jitted step, as are `optimizer` and `project`.
      variables: what is learned, any pytree of float arrays.
      frozen: what the loss needs and does not change, any pytree, on the mesh.
      batches: step number -> what the loss takes third; the same for the same number, so that a
        resumed run repeats the uninterrupted one. Its arrays are split along their first axis.
      steps: how many updates.
      optimizer: from optax.
      project: applied to the variables after each update (such as clipping to valid pixels).
      layout: how the variables lie on the devices; default: copies, for weights.
      label: shown with the progress; empty shows none.
      folder: where to keep checkpoints. A run that was killed goes on from the last one, on as many
        devices as there are then.
      save_every: steps between checkpoints.
      per_dispatch: updates per dispatch, at most; default: what suits the devices.

    Returns:
      (variables, terms): the terms of the last step that this call made, {} if it made none.

    Raises:
      Preempted: the run was asked to stop; a checkpoint has been written if there is a folder.
      InputError: the loss or the variables are not finite; nothing is saved then.
    """
    layout = layout or sharding.replicated()
    # A copy, because the step donates its arguments.
    variables = jax.tree.map(jnp.copy, sharding.put(variables, layout))
    state, terms, done = _begin(optimizer, layout, variables), {}, 0
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpointer(folder)) if folder else None
        restored = checkpoints and checkpoints.restore((variables, state))
        if restored:
            done, (variables, state) = restored
            if label and done < steps:
                log.info("%s: goes on from step %d of %d", label, done, steps)
        update = stack.enter_context(progress.bar(label, steps)) if label else None
        size, flying = _chunk(steps - done, per_dispatch), deque()
        while done < steps:
            if distributed.preempted():
                if checkpoints:
                    checkpoints.save(done, (variables, state))
                raise distributed.Preempted
            some = tuple(batches(number) for number in range(done, done + size))
            variables, state, terms = take_step(
                loss, optimizer, project, layout, variables, state, frozen, some, few=steps < _FEW
            )
            done += size
            flying.append(terms)
            if len(flying) > _AHEAD:
                jax.block_until_ready(flying.popleft())
            if update:
                update(done, terms)
            if done % save_every < size or done == steps:
                if not _finite((variables, terms)):
                    raise InputError(
                        f"{label or 'The optimisation'}: after {done} of {steps} steps the loss is no longer finite; "
                        "lower the learning rate of that section, or look at the checkpoint and at the inputs."
                    )
                if checkpoints:
                    checkpoints.save(done, (variables, state))
    return variables, terms


@jax.jit
def _finite(tree):
    """Whether every number of a pytree is finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(optimizer, layout, variables):
    return _laid(optimizer.init(variables), layout)


def _laid(tree, layout):
    def lay(leaf):
        return jax.lax.with_sharding_constraint(leaf, sharding.fitting(leaf, layout))

    return jax.tree.map(lay, tree)


def _chunk(steps, most):
    """The largest number of updates per dispatch that divides the steps left: one program, no remainder."""
    most = most or (1 if jax.default_backend() == "cpu" else _PER_DISPATCH)
    return next(size for size in range(min(most, max(steps, 1)), 0, -1) if steps % size == 0)
