"""Any JAX function as a `Network`: split points, their names and BatchNorm layers are found in its jaxpr.

So Flax (Linen and NNX), Equinox, Haiku and Keras on JAX are one door (docs/jax_functions.py). A place is where one value
that depends on the input is alive; a module is what parameters share a path.
"""

import functools
import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from dci_jax.cpu_kernels.moments import moments
from dci_jax.errors import InputError, reason
from dci_jax.importers import jaxpr
from dci_jax.importers.jax_places import between, channel_axis, find_norms, find_places, nonnegative, pooled
from dci_jax.importers.jaxpr import INPUT, Program
from dci_jax.importers.program import Place, from_grid, to_grid
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Block, Network, logits, run
from dci_jax.typing import Array, Pytree

log = logging.getLogger("dci_jax")

_COLLECTIONS = ("params", "batch_stats", "state", "non_trainable", "trainable")
_CLOSE, _CLOSE_IN_HALF = 1e-3, 5e-2  # relative differences, of 2-norms


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
      apply: `(variables, images [B, H, W, C]) -> logits [B, classes]`, or features; pure, in evaluation mode, for any B.
      variables: its parameters and state, any pytree; BatchNorm's running statistics are found by their names (`mean`,
        `running_mean`, `moving_mean` and so on).
      input_shape: (H, W, C) of one image, or an example [B, H, W, C].
      name: for reports; empty: the function's.
      splits: split points asked for by name, beside the ends of modules; any place where one value is alive.
      mean, std: per-channel normalization that images in [0, 1] go through before `apply`.
      crop: the side of the centered square that is cut out of a picture, as a share of its shorter side.

    Raises:
      InputError: the function does not take such images, does not return one array, has no split point, or the network made of
        it differs from it.
    """
    name = name or getattr(apply, "__name__", type(apply).__name__)
    shape = tuple(getattr(input_shape, "shape", (0, *input_shape))[1:])
    _check(shape, mean, std, crop, splits)
    source = _source(apply, variables, shape, name)
    program = source.program(2, *source.shape[:2])
    places = find_places(program, source.program(3, *source.shape[:2]))
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
    network = Network(
        blocks[:-1] if head else blocks, blocks[-1] if head else None, name, source.shape, tuple(mean), tuple(std), crop
    )
    _compare(network, source, program)
    return network


def _check(shape, mean, std, crop, splits):
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise InputError(f"input_shape is {shape}; give (height, width, channels) of one image.")
    for what, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, shape[2]) or not np.isfinite(values).all() or (what == "std" and min(values) <= 0):
            raise InputError(
                f"{what} is {values}; give one finite number, or {shape[2]}{' above 0' * (what == 'std')}."
            )
    if not 0 < crop <= 1:
        raise InputError(f"crop is {crop}; give a share of the image's side, above 0 and at most 1.")
    if isinstance(splits, str):
        raise InputError(f"splits is {splits!r}; give a tuple of names, such as ({splits!r},).")


@dataclass(frozen=True, eq=False)
class _Source:
    """The function with its parameters by name; equal to itself alone, as its programs are."""

    function: Callable
    arrays: dict[str, Array]
    shape: tuple[int, int, int]
    name: str

    @functools.cache  # noqa: B019  # programs live as long as the network
    def program(self, batch: int, height: int, width: int) -> Program:
        """The function traced for a batch of images of that size, by the same equations for every batch and size."""
        x = jax.ShapeDtypeStruct((batch, height, width, self.shape[2]), jnp.float32)
        shapes = [jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in self.arrays.values()]
        with jax.default_matmul_precision("highest"):
            found = jaxpr.traced(self.function, list(self.arrays), shapes, x)
        if (batch, height, width) != (2, *self.shape[:2]):
            known = self.program(2, *self.shape[:2])
            if [e.primitive for e in found.equations] != [e.primitive for e in known.equations]:
                raise InputError(
                    f"{self.name} does another computation for {batch} images of {height} x {width} than for 2 of "
                    f"{self.shape[0]} x {self.shape[1]}; let it treat every image alike."
                )
        return found

    @functools.cache  # noqa: B019
    def alike(self, height: int, width: int) -> bool:
        """Whether one image alone has the same equations: not where something is broadcast over the batch."""
        try:
            self.program(1, height, width)
        except InputError:
            return False
        return True


def _source(apply, variables, shape, name):
    found, tree = jax.tree_util.tree_flatten_with_path(variables)
    kept = [i for i, (_, leaf) in enumerate(found) if isinstance(leaf, jax.Array | np.ndarray | np.generic)]
    names, arrays = _names([found[i][0] for i in kept]), [found[i][1] for i in kept]
    leaves = [leaf for _, leaf in found]

    def function(arrays, x):
        given = list(leaves)
        for i, array in zip(kept, arrays, strict=True):
            given[i] = array
        return apply(jax.tree.unflatten(tree, given), x)

    if not kept:
        log.warning("%s: there is no array in the variables, so its weights are constants without names", name)
    source = _Source(function, {n: jnp.asarray(a) for n, a in zip(names, arrays, strict=True)}, shape, name)
    try:
        y = jax.eval_shape(function, arrays, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    except Exception as error:  # of every kind: it is the user's function
        raise InputError(f"{name} does not take images [2, {', '.join(map(str, shape))}] ({reason(error)}).") from error
    if not hasattr(y, "shape") or y.ndim not in (2, 4) or y.shape[0] != 2:
        what = f"{list(y.shape)}" if hasattr(y, "shape") else f"a {type(y).__name__}"
        raise InputError(f"{name} returns {what} for 2 images; let it return one array, [B, classes] or [B, h, w, C].")
    bad = [n for n, a in source.arrays.items() if jnp.issubdtype(a.dtype, jnp.floating) and not jnp.isfinite(a).all()]
    if bad:
        raise InputError(
            f"{name}: {bad[0]!r} has numbers that are not finite; give a network whose training did not diverge."
        )
    return source


def _names(paths):
    """The names of parameters, "block1.conv.kernel", from their paths in a pytree; collections and positions in a tuple go."""
    found, roots = [], set()
    for path in paths:
        if len(path) > 1 and isinstance(path[0], jax.tree_util.SequenceKey):
            path = path[1:]
        parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
        parts = [piece for part in parts for piece in re.split(r"[/.~]+", part) if piece]
        if parts and parts[-1] in ("value", "raw_value"):
            parts.pop()
        if len(parts) > 1 and parts[0] in _COLLECTIONS:
            parts = parts[1:]
        name = ".".join(parts) or "parameter"
        while name in found:
            name += "_"
        found.append(name)
        roots.add(parts[0] if len(parts) > 2 else None)
    if len(roots) == 1 and None not in roots:  # one module around all, such as Haiku's
        found = [name.partition(".")[2] for name in found]
    return found


def _block(source, program, begin, end, places):
    """One `Block` from a place to the next."""
    _, used = program.piece(begin.value, [end.value])
    arrays = source.arrays | program.constants
    norms = find_norms(program, begin, end, used)
    running = {name: {"mean": arrays[mean], "var": arrays[var]} for name, (mean, var, *_) in norms.items()}
    held = {leaf for mean, var, *_ in norms.values() for leaf in (mean, var)}
    params = {leaf: arrays[leaf] for leaf in used if leaf not in held}
    if running:
        params["batch_stats"] = running
    cuts = [
        place for place in places if place.value in pooled(program, begin, end) and nonnegative(program, place.value)
    ]
    stages = tuple(
        functools.partial(_apply, source, norms, a, b)
        for a, b in (itertools.pairwise([begin, *cuts[:1], end]) if cuts else ())
    )
    apply = functools.partial(_apply, source, norms, begin, end)
    return Block(params, end.name, apply, nonnegative(program, begin.value), stages)


def _apply(source: _Source, norms: dict, begin: Place, end: Place, params: Pytree, x: Array) -> tuple[Array, Pytree]:
    """The `apply` of a Block: the function traced for images of the size that gives such features, from place to place."""
    if len(x) == 1 and not source.alike(*_size(source, begin, x)):
        y, statistics = _apply(source, norms, begin, end, params, jnp.concatenate([x, x]))
        return y[:1], statistics
    program = source.program(len(x), *_size(source, begin, x))
    inside = between(program, begin.value, end.value)
    tapped = {name: (mean, value) for name, (mean, _, value, by) in norms.items() if by in inside}
    given = from_grid(begin, x)
    if program.var(begin.value).aval.shape != given.shape:
        raise InputError(
            f"{source.name} does not give features [{len(x)}, {', '.join(map(str, x.shape[1:]))}] at {begin.name or 'its input'} for "
            "any size of images."
        )
    closed, used = program.piece(begin.value, [end.value, *(value for _, value in tapped.values())])
    held = {
        leaf: params["batch_stats"][n][kind]
        for n, p in norms.items()
        for leaf, kind in zip(p, ("mean", "var"), strict=False)
    }
    arrays = [held[leaf] if leaf in held else params[leaf] for leaf in used]
    arrays = [a.astype(v.aval.dtype) for a, v in zip((given, *arrays), closed.jaxpr.invars, strict=True)]
    y, *seen = core.jaxpr_as_fun(closed)(*arrays)
    statistics = {}
    for (name, (mean, _)), value in zip(tapped.items(), seen, strict=True):
        axis = channel_axis(value.shape, program.leaves[mean].aval.size)
        found = moments(jnp.moveaxis(value, axis, -1).astype(jnp.float32))
        statistics[name] = dict(zip(("mean", "var"), found, strict=True))
    return to_grid(end, y), statistics


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
        if not error < (_CLOSE_IN_HALF if half else _CLOSE):
            raise InputError(
                f"{source.name} was cut at its split points, but the {what} of the pieces differ from the function's by {error:.1g}; let "
                "it be pure and in evaluation mode (no dropout, no random numbers)."
            )
