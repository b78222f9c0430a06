"""A JAX function with its parameters by name, one array for an answer, and the programs that it is traced to."""

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError, reason
from dci_jax.importers import jaxpr
from dci_jax.importers.jax_places import channels_come_first
from dci_jax.importers.jaxpr import Program
from dci_jax.tensors import Layout, join, layout
from dci_jax.typing import Array, Pytree

log = logging.getLogger("dci_jax")

_COLLECTIONS = ("params", "batch_stats", "state", "non_trainable", "trainable")


@dataclass(frozen=True, eq=False)
class Source:
    """The function with its parameters by name; equal to itself alone, as its programs are."""

    function: Callable
    arrays: dict[str, Array]
    shape: tuple[int, int, int]
    name: str
    tensors: Layout = ()

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


def source_of(apply: Callable, variables: Pytree, shape: tuple[int, int, int], name: str) -> Source:
    """The function `apply(variables, images)` of images of that shape.

    Raises:
      InputError: see `from_jax`.
    """
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
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    try:
        y = jax.eval_shape(function, arrays, x)
    except Exception as error:  # of every kind: it is the user's function
        raise InputError(f"{name} does not take images [2, {', '.join(map(str, shape))}] ({reason(error)}).") from error
    function, tensors = _one_answer(function, names, arrays, x, y, name)
    source = Source(function, {n: jnp.asarray(a) for n, a in zip(names, arrays, strict=True)}, shape, name, tensors)
    bad = [n for n, a in source.arrays.items() if jnp.issubdtype(a.dtype, jnp.floating) and not jnp.isfinite(a).all()]
    if bad:
        raise InputError(
            f"{name}: {bad[0]!r} has numbers that are not finite; give a network whose training did not diverge."
        )
    return source


def _one_answer(function, names, arrays, x, y, name):
    """(the function with one array for an answer, how several features lie in it): logits come first, else all features count."""
    found = [leaf if hasattr(leaf, "shape") else np.zeros(()) for leaf in jax.tree.leaves(y)]
    if found and found[0].ndim == 2 and found[0].shape[0] == 2:
        chosen = [0]
    else:
        chosen = [i for i, leaf in enumerate(found) if leaf.ndim == 4 and leaf.shape[0] == 2]
    if not chosen:
        what = ", ".join(str(list(leaf.shape)) for leaf in found) or f"a {type(y).__name__}"
        raise InputError(f"{name} returns {what} for 2 images; let it return [B, classes] or [B, h, w, C].")
    if len(found) > len(chosen):
        log.warning("%s returns %d arrays, of which %d count: logits, or else features", name, len(found), len(chosen))
    if len(chosen) == 1:
        return (function if y is found[0] else lambda a, x: jax.tree.leaves(function(a, x))[chosen[0]]), ()
    first = jaxpr.traced(lambda a, x: jax.tree.leaves(function(a, x))[chosen[0]], names, arrays, x)
    channels_first = channels_come_first(first)

    def joined(arrays, x):
        leaves = jax.tree.leaves(function(arrays, x))
        answers = [leaves[i] for i in chosen]
        if not channels_first:
            return join(answers)
        return jnp.moveaxis(join([jnp.moveaxis(a, 1, -1) for a in answers]), -1, 1)

    shapes = [found[i].shape[1:] for i in chosen]
    return joined, layout([(*s[1:], s[0]) for s in shapes] if channels_first else shapes)


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
