"""minimize(loss, variables, frozen, batches): the only training loop.

Images and network weights are both pytrees, so synthesis, rMLE, DCI and the inverse network differ
only in their loss.
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax import progress
from dci_jax.checkpoint import Checkpointer

Array = jax.Array
Pytree = Any


@functools.partial(
    jax.jit,
    static_argnames=("loss", "optimizer", "project"),
    donate_argnames=("variables", "state"),
)
def step(loss, optimizer, project, variables, state, frozen, batch):
    """One update; weights, features and batches are arguments, so that nothing is baked in."""
    (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(variables, frozen, batch)
    updates, state = optimizer.update(gradient, state, variables)
    return project(optax.apply_updates(variables, updates)), state, terms


def minimize(
    loss: Callable[[Pytree, Pytree, Pytree], tuple[Array, dict[str, Array]]],
    variables: Pytree,
    frozen: Pytree,
    batches: Callable[[int], Pytree],
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    project: Callable[[Pytree], Pytree] = lambda variables: variables,
    label: str = "",
    folder: str | Path | None = None,
    save_every: int = 200,
) -> tuple[Pytree, dict[str, Array]]:
    """The variables after `steps` updates that lower `loss(variables, frozen, batch)`.

    Args:
      loss: `(variables, frozen, batch) -> (loss, terms)`, pure, with a lasting identity: it is a
        static argument of the jitted step, as are `optimizer` and `project`.
      variables: what is learned, any pytree of float arrays.
      frozen: what the loss needs and does not change, any pytree.
      batches: step number -> what the loss takes third; the same for the same number, so that a
        resumed run repeats the uninterrupted one.
      steps: how many updates.
      optimizer: from optax.
      project: applied to the variables after each update (such as clipping to valid pixels).
      label: shown with the progress; empty shows none.
      folder: where to keep checkpoints. A run that was killed goes on from the last one.
      save_every: steps between checkpoints.

    Returns:
      (variables, terms): the terms of the last step that this call made, {} if it made none.
    """
    variables = jax.tree.map(jnp.array, variables)  # a copy: the step donates its arguments
    state, terms, done = optimizer.init(variables), {}, 0
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpointer(folder)) if folder else None
        restored = checkpoints and checkpoints.restore((variables, state))
        if restored:
            done, (variables, state) = restored
        update = stack.enter_context(progress.bar(label, steps)) if label else None
        for number in range(done, steps):
            variables, state, terms = step(
                loss, optimizer, project, variables, state, frozen, batches(number)
            )
            if update:
                update(number + 1, terms)
            if checkpoints and ((number + 1) % save_every == 0 or number + 1 == steps):
                checkpoints.save(number + 1, (variables, state))
    return variables, terms
