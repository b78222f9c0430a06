"""Damped Gauss-Newton (Levenberg, 1944; Marquardt, 1963) on an input, until its features match.

    min_x  |F(x) - f|^2 / |f - mean f|^2  +  tv TV(x)

    (2 J'J / |f - mean f|^2  +  tv D' diag(1 / |D x|) D  +  damping s I)  d  =  -gradient
    x <- clip(x + d)

s is the mean square of J's columns. The damping falls while steps succeed and rises when one fails: what the
features do not determine stays as in the start. TV enters by lagged diffusivity (Vogel & Oman, 1996), which
keeps every step a linear system. A latent has a hundred entries, so its J is computed in full and the system is factorised
(`attacks.factorised`); an image's is solved by conjugate gradients, with one product with J and one with J' each.
"""

import functools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.attacks import factorised, feature_matching
from dci_jax.attacks.feature_matching import blank, relative_distance, spread
from dci_jax.attacks.selection import choose
from dci_jax.defenses.channel import NONE, Channel, sent
from dci_jax.errors import InputError
from dci_jax.inputs.latents import latent_prior
from dci_jax.inputs.mixture import Prior
from dci_jax.losses import total_variation as tv
from dci_jax.network import Network, run, split_index
from dci_jax.runtime import distributed, sharding
from dci_jax.typing import Array, Reconstruct

_FALL, _RISE = 0.2, 5.0
_EDGE = 1e-2  # in pixel units: differences below it count as smooth


def gauss_newton(
    network: Network,
    inputs: Prior | None,
    splits: tuple[str, ...],
    key: Array | None,
    folder: Path | None,
    *,
    steps: int,
    inner: int,
    damping: float,
    total_variation: tuple[float, ...],
    num_validation: int,
    start: dict[str, Reconstruct] | None = None,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Optimise images or latents for their features. Nothing is trained; the weight of TV is chosen for each split.

    Args:
      network: the target, known to the attacker.
      inputs: its procedural images select among `total_variation`; unused for latents.
      splits: split points to reconstruct from.
      key: PRNG key; unused for latents.
      folder: stores the selection at each split; unused for latents.
      steps: number of steps; each costs `inner` + 1 forward and backward passes, for a latent as many as it has entries.
      inner: conjugate gradient iterations per step.
      damping: initial damping, relative to the mean square of J's columns.
      total_variation: candidate weights of TV; the one with the best PSNR on procedural images is used.
      num_validation: number of those procedural images.
      start: split point -> another attack's inputs to start from; None starts from a blank image, or the prior's
        mean.
      channel: the defense that this attacker knows, simulated as in `rmle`; with one, the share of the way from
        the start is chosen with the weight of TV.

    Returns:
      split point -> function from its features [B, ...] to inputs [B, ...].
    """
    first = start or {name: functools.partial(_blank, network) for name in splits}

    def reconstruct(name, weight, part, features):
        split, x = split_index(network, name), first[name](features)
        if latent_prior(network):
            return factorised.solve(network, split, features, x, steps, damping)
        found = solve(network, split, channel, features, x, weight, steps=steps, inner=inner, damping=damping)
        return x + part * (found - x) if part < 1 else found

    chosen = dict.fromkeys(splits, (0.0, 1.0))
    if not latent_prior(network):
        truth = feature_matching.held_out(network, inputs, key, num_validation)
        for name in splits:
            received = sent(network, split_index(network, name), channel, key, truth)
            before = first[name](received) if channel.kind != "none" else None
            read = functools.partial(reconstruct, name, part=1.0, features=received)
            label = f"gauss_newton after {name}"
            chosen[name] = choose(folder / f"{name}.json", label, truth, before, total_variation, read)
    return {name: functools.partial(reconstruct, name, *chosen[name]) for name in splits}


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    steps: int,
    inner: int,
    damping: float,
    total_variation: tuple[float, ...],
    num_validation: int,
) -> None:
    """Raise InputError for settings with which `gauss_newton` could not work."""
    del network, splits, shape
    for field, value in (("steps", steps), ("inner", inner), ("num_validation", num_validation)):
        if value < 1:
            raise InputError(f"gauss_newton.{field} is {value}; give at least 1.")
    if not damping > 0:
        raise InputError(f"gauss_newton.damping is {damping}; give more than 0, such as 0.01.")
    if not total_variation or not all(0 <= w < np.inf for w in total_variation):
        raise InputError(f"gauss_newton.total_variation is {total_variation}; give one or more weights of 0 or more.")


def solve(
    network: Network,
    split: int,
    channel: Channel,
    features: Float[Array, "B *f"],
    x: Float[Array, "B *x"],
    weight: float,
    *,
    steps: int,
    inner: int,
    damping: float,
) -> Float[Array, "B *x"]:
    """Images [B, H, W, C] in [0, 1] after `steps` steps from `x`, for features [B, ...] at `split`; each independently.

    F is the network, followed by the expected effect of `channel` on its features. Both are compiled separately, so that
    the network's programs, which take long to compile, serve all defenses.
    """
    smooth = sharding.put(np.float32(weight), sharding.replicated())
    dampings, channel = jnp.full(len(x), damping, jnp.float32), replace(channel, received=features)
    for _ in range(steps):
        # No loop inside `jit`: XLA:CPU runs convolutions in loops many times slower.
        distributed.stop_if_asked()
        before, push, pull = linearized(network, split, x)
        error, through, back = compared(channel, before)
        moved = _applied(push, _signs(x))
        slope = _slope(pull, error, smooth, x)
        damped = dampings * _scale(moved, curved(through, back, features, moved), x)
        state = jnp.zeros_like(x), -slope, -slope
        for _ in range(inner):
            change = curved(through, back, features, _applied(push, state[2]))
            state = conjugate(pull, change, smooth, x, damped, state)
        new = jnp.clip(x + state[0], 0, 1)
        old_loss, new_loss = (
            losses(channel, smooth, y, images) for y, images in ((before, x), (_found(network, split, new), new))
        )
        x, dampings = taken(x, new, old_loss, new_loss, dampings)
    return x


@functools.partial(jax.jit, static_argnums=1)
def linearized(network, split, x):
    """(features [B, ...] of images x, the network's J and J' there as functions), fixed while a step is solved for."""
    found, push = jax.linearize(lambda x: run(network, x, 0, split), x)
    _, pull = jax.vjp(lambda x: run(network, x, 0, split), x)
    return found, push, pull


@jax.jit
def compared(channel, y):
    """(gradient of the distance of features, the channel's J and J' as functions), at the features `y` of a guess."""
    found, through = jax.linearize(channel, y)
    _, back = jax.vjp(channel, y)
    (error,) = back(2 * (found - channel.received) / _each(_spread(channel.received), found))
    return error, through, back


@jax.jit
def curved(through, back, features, moved):
    """Change of the distance's gradient when the features [B, ...] change by `moved`."""
    return back(2 * through(moved) / _each(_spread(features), features))[0]


@jax.jit
def losses(channel: Channel, smooth: Array, y: Float[Array, "B *f"], x: Float[Array, "B *x"]) -> Float[Array, "B"]:
    """The objective of each image x with the features y: [B]."""
    match = relative_distance(channel(y), channel.received)
    return match + smooth * jax.vmap(lambda image: tv(image[None]))(x)


@jax.jit
def conjugate(pull, change, smooth, x, damped, state):
    """One step of conjugate gradients (Hestenes & Stiefel, 1952), each image independently: (d, residual, direction)."""
    d, residual, direction = state
    (bent,) = pull(change)
    bent += smooth * _diffused(x, direction) + _each(damped, x) * direction
    before = _dot(residual, residual)
    length = before / jnp.maximum(_dot(direction, bent), 1e-30)
    d, residual = d + _each(length, x) * direction, residual - _each(length, x) * bent
    more = _dot(residual, residual) / jnp.maximum(before, 1e-30)
    return d, residual, residual + _each(more, x) * direction


@jax.jit
def taken(x, new, old_loss, new_loss, dampings):
    """(images, dampings) after a step to `new`, which is rejected where it increases the loss."""
    better = new_loss < old_loss
    return jnp.where(_each(better, x), new, x), dampings * jnp.where(better, _FALL, _RISE)


@jax.jit
def _slope(pull, error, smooth, x):
    """Gradient of `losses`, [B, H, W, C]."""
    return pull(error)[0] + smooth * jax.grad(lambda x: jnp.sum(jax.vmap(lambda image: tv(image[None]))(x)))(x)


@jax.jit
def _scale(moved, change, x):
    """Mean square of J's columns, [B], estimated with random signs (Hutchinson, 1990)."""
    return _dot(moved, change) / x[0].size


def _signs(x):
    return jnp.broadcast_to(jax.random.rademacher(jax.random.key(0), x.shape[1:], jnp.float32), x.shape)


@jax.jit
def _applied(push, direction):
    return push(direction)


@functools.partial(jax.jit, static_argnums=1)
def _found(network, split, x):
    return run(network, x, 0, split)


def _diffused(x, direction):
    """D' diag(1 / |D x|) D of a direction, for each image's own mean over pixels."""
    down, right = (x[:, 1:, :-1] - x[:, :-1, :-1]), (x[:, :-1, 1:] - x[:, :-1, :-1])
    lengths = jnp.sqrt(down**2 + right**2 + _EDGE**2)

    def energy(v):
        down, right = (v[:, 1:, :-1] - v[:, :-1, :-1]), (v[:, :-1, 1:] - v[:, :-1, :-1])
        return jnp.sum(jnp.mean((down**2 + right**2) / (2 * lengths), (1, 2, 3)))

    return jax.grad(energy)(direction)


def _blank(network, features):
    return blank(network, len(features))


def _spread(features):
    return spread(features) + 1e-6


def _dot(a, b):
    return jnp.sum(a * b, tuple(range(1, a.ndim)))


def _each(values, like):
    return values.reshape(-1, *(1,) * (like.ndim - 1))
