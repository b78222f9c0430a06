"""Any JAX function as a `Network`: split points, their names and BatchNorm layers are found in its jaxpr.

So Flax (Linen and NNX), Equinox, Haiku and Keras on JAX are one door (docs/jax_functions.py). A place is where one value
that depends on the input is alive, or several at a block's end; a module is what parameters share a path.
"""

import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from dci_jax.cpu_kernels.moments import moments
from dci_jax.errors import InputError
from dci_jax.importers.jax_places import (
    between,
    channel_axis,
    find_norms,
    find_places,
    nonnegative,
    pooled,
)
from dci_jax.importers.jax_source import Source, source_of
from dci_jax.importers.jaxpr import INPUT
from dci_jax.importers.place import Place, received, sent
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Block, Network, logits, run
from dci_jax.pieces import check_images
from dci_jax.tensors import OUTPUTS
from dci_jax.typing import Array, Pytree

log = logging.getLogger("dci_jax")

# Relative differences, of 2-norms. Of gradients more: rounding puts a few activations on the other side of a ReLU's kink,
# which in MobileNetV2 at 224 px is a thousandth.
_CLOSE = {"answers": 1e-3, "gradients": 1e-2}
_CLOSE_IN_HALF = 5e-2


def from_jax(
    apply: Callable[[Pytree, Array], Array],
    variables: Pytree,
    input_shape: tuple[int, int, int] | Array,
    *,
    name: str = "",
    splits: tuple[str, ...] = (),
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    crop: float = 1.0,
) -> Network:
    """Make a network out of a JAX function, and check it against the function, forward and gradient.

    Args:
      apply: `(variables, images [B, H, W, C]) -> logits [B, classes]`, or features; pure, in evaluation mode, for any B. Of several
        features [B, h, w, C], in a tuple, list or dict, all are sent at the last split point, "outputs" (`dci_jax.tensors`).
      variables: its parameters and state, any pytree; BatchNorm's running statistics are found by their names (`mean`,
        `running_mean`, `moving_mean` and so on).
      input_shape: (H, W, C) of one image, or an example [B, H, W, C].
      name: for reports; empty: the function's.
      splits: split points asked for by name, beside the ends of modules; any place where one value is alive.
      mean, std: per-channel normalization that images in [0, 1] go through before `apply`.
      crop: the side of the centered square that is cut out of a picture, as a share of its shorter side.

    Raises:
      InputError: the function does not take such images, returns no such array, has no split point, or the network made of it
        differs from it.
    """
    name = name or getattr(apply, "__name__", type(apply).__name__)
    shape = input_shape.shape[1:] if getattr(input_shape, "ndim", 1) == 4 else input_shape
    check_images(name, shape, mean, std, crop)
    source = source_of(apply, variables, tuple(shape), name)
    program = source.program(2, *source.shape[:2])
    places = find_places(program, source.program(3, *source.shape[:2]))
    # Features that the function returns are sent, whatever module they come from.
    places = [
        replace(p, name=OUTPUTS if source.tensors else p.name, default=True) if p.value == program.output else p
        for p in places
    ]
    splits = (splits,) if isinstance(splits, str) else splits
    unknown = [split for split in splits if split not in {place.name for place in places}]
    if unknown:
        known = ", ".join(place.name for place in places)
        raise InputError(f"{name} has no split point {unknown[0]!r}; choose from: {known}.")
    chosen = [place for place in places if place.default or place.name in splits]
    if not chosen:
        raise InputError(
            f"{name} has no place where one image-like value alone is alive, so no split point; give it as a list of pieces to "
            "dci_jax.sequential."
        )
    head = len(program.values[program.output].shape) == 2 and chosen[-1].value != program.output
    ends = [Place("", INPUT, "grid", source.shape[:2]), *chosen]
    ends += [Place("", program.output, "vector")] if head else []
    blocks = tuple(_block(source, program, a, b, places) for a, b in itertools.pairwise(ends))
    if source.tensors:
        blocks = (*blocks[:-1], blocks[-1].replace(tensors=source.tensors))
    network = Network(
        blocks[:-1] if head else blocks, blocks[-1] if head else None, name, source.shape, tuple(mean), tuple(std), crop
    )
    _compare(network, source, program)
    return network


def _block(source, program, begin, end, places):
    """One `Block` from a place to the next."""
    _, used = program.piece(begin.values, end.values)
    arrays = source.arrays | program.constants
    norms = find_norms(program, begin, end, used)
    running = {name: {"mean": arrays[mean], "var": arrays[var]} for name, (mean, var, *_) in norms.items()}
    held = {leaf for mean, var, *_ in norms.values() for leaf in (mean, var)}
    params = {leaf: arrays[leaf] for leaf in used if leaf not in held}
    if running:
        params["batch_stats"] = running
    inner = [place for place in places if place.value in pooled(program, begin, end) and not place.parts]
    cuts = [place for place in inner if nonnegative(program, place.value)]
    stages = tuple(
        functools.partial(_apply, source, norms, a, b)
        for a, b in (itertools.pairwise([begin, *cuts[:1], end]) if cuts else ())
    )
    apply = functools.partial(_apply, source, norms, begin, end)
    positive = all(nonnegative(program, value) for value in begin.values)
    return Block(params, end.name, apply, positive, stages, end.tensors, end.beside)


def _apply(source: Source, norms: dict, begin: Place, end: Place, params: Pytree, x: Array) -> tuple[Array, Pytree]:
    """The `apply` of a Block: the function traced for images of the size that gives such features, from place to place."""
    if len(x) == 1 and not source.alike(*_size(source, begin, x)):
        y, statistics = _apply(source, norms, begin, end, params, jnp.concatenate([x, x]))
        return y[:1], statistics
    program = source.program(len(x), *_size(source, begin, x))
    inside = between(program, begin, end)
    tapped = {name: (mean, value) for name, (mean, _, value, by) in norms.items() if by in inside}
    given = received(begin, x)
    if any(program.var(name).aval.shape != array.shape for name, array in given.items()):
        raise InputError(
            f"{source.name} does not give features [{len(x)}, {', '.join(map(str, x.shape[1:]))}] at {begin.name or 'its input'} for "
            "any size of images."
        )
    closed, used = program.piece(begin.values, [*end.values, *(value for _, value in tapped.values())])
    held = {
        leaf: params["batch_stats"][n][kind]
        for n, p in norms.items()
        for leaf, kind in zip(p, ("mean", "var"), strict=False)
    }
    arrays = [held[leaf] if leaf in held else params[leaf] for leaf in used]
    arrays = [a.astype(v.aval.dtype) for a, v in zip((*given.values(), *arrays), closed.jaxpr.invars, strict=True)]
    found = core.jaxpr_as_fun(closed)(*arrays)
    y, seen, statistics = sent(end, dict(zip(end.values, found, strict=False))), found[len(end.values) :], {}
    for (name, (mean, _)), value in zip(tapped.items(), seen, strict=True):
        axis = channel_axis(value.shape, program.leaves[mean].aval.size)
        found = moments(jnp.moveaxis(value, axis, -1).astype(jnp.float32))
        statistics[name] = dict(zip(("mean", "var"), found, strict=True))
    return y, statistics


def _size(source, place, x):
    """(height, width) of the images that give features x at a place."""
    if place.value == INPUT:
        return x.shape[1:3]
    return tuple(
        round(side * new / old) for side, new, old in zip(source.shape, x.shape[1:3], place.grid, strict=False)
    )


def _compare(network, source, program):
    """Raise InputError where the network differs from the function, forward or in its gradient."""
    images = np.asarray(dead_leaves(jax.random.key(0), 2, source.shape))
    normalized = (images - np.float32(network.mean)) / np.float32(network.std)
    arrays = list(source.arrays.values())

    def theirs(x):
        return source.function(arrays, x)

    def ours(x):
        features = run(network, x)
        return logits(network, features) if network.head else features

    with jax.default_matmul_precision("highest"):
        one, another = (jax.jit(theirs)(x)[:1] for x in (normalized, np.stack([normalized[0], -normalized[1]])))
        if not np.allclose(one, another, rtol=1e-3, atol=1e-4):
            raise InputError(
                f"{source.name} answers for an image by what else is in the batch; give it in evaluation mode, where BatchNorm "
                "normalizes by its running statistics."
            )
        (a, back), (b, ours_back) = (
            jax.jit(
                lambda x, f=f: (
                    f(x),
                    jax.grad(lambda x: jnp.sum(jnp.sin(jnp.arange(1.0, f(x).size + 1)) * f(x).ravel()))(x),
                )
            )(at)
            for f, at in ((theirs, normalized), (ours, images))
        )
    if b.ndim == 4 and a.shape != b.shape:
        a = jnp.moveaxis(a, 1, -1)
        back, ours_back = 0 * back, 0 * ours_back  # numbers in another order
    back = back / np.float32(network.std)
    half = any(array.dtype.itemsize < 4 for array in arrays if jnp.issubdtype(array.dtype, jnp.floating))
    for what, x, y in (("answers", a, b), ("gradients", back, ours_back)):
        error = float(jnp.linalg.norm((x - y).ravel()) / jnp.maximum(jnp.linalg.norm(x.ravel()), 1e-30))
        if not error < (_CLOSE_IN_HALF if half else _CLOSE[what]):
            raise InputError(
                f"{source.name} was cut at its split points, but the {what} of the pieces differ from the function's by {error:.1g}; let "
                "it be pure and in evaluation mode (no dropout, no random numbers)."
            )
