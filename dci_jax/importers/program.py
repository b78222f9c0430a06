"""A graph of ATen operators, kept as plain data, run in JAX piece by piece: from one split point to the next.

A node is one operator with its arguments. An argument is a number, a text, a list, or a dict with one entry:
{"value": node}, {"weight": key}, {"batch": k} (k times the batch size), {"dtype": name}, {"number": "inf"}.
Nothing in it can be executed but the operators of `aten.OPERATORS`.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dci_jax.cpu_kernels.moments import moments
from dci_jax.errors import InputError, reason
from dci_jax.importers.aten import OPERATORS
from dci_jax.network import Block, Pytree
from dci_jax.typing import Array

INPUT = "input"  # the value that a graph starts from
BATCH_NORM = "_native_batch_norm_legit_no_training"
MAX_POOL = "max_pool2d_with_indices"
_NEVER_NEGATIVE = ("relu", "sigmoid", "_softmax", "exp", "abs", "sqrt")
_KEEPS_SIGN = (MAX_POOL, "avg_pool2d", "_adaptive_avg_pool2d", "mean", "getitem", "clone", "view")


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
      name: of its value.
      operator: a key of `OPERATORS`, or `BATCH_NORM`.
      arguments, keywords: as ATen's, encoded as above.
    """

    name: str
    operator: str
    arguments: Sequence
    keywords: dict


@dataclass(frozen=True)
class Place:
    """Where one tensor alone is alive, so that the network can be cut.

    Attributes:
      name: by PyTorch's module path, such as "layer1.0"; "" of the input and of the output.
      value: the tensor.
      layout: how it lies in PyTorch: "image" [B, C, H, W], "grid" [B, H, W, C], "tokens" [B, N, C], or "vector".
      grid: (height, width) of the tokens' grid.
      before: tokens before those of the grid, such as the class token.
      channels: of a token.
      default: a split point where none is asked for by name.
    """

    name: str
    value: str
    layout: str
    grid: tuple[int, int] = (0, 0)
    before: int = 0
    channels: int = 0
    default: bool = True

    @property
    def beside(self) -> int:
        """Channels behind those of the grid that hold the tokens before it (`to_grid`)."""
        return -(-self.before * self.channels // math.prod(self.grid)) if self.before else 0


def blocks(
    nodes: Sequence[Node], places: Sequence[Place], weights: dict[str, Array], inner: Sequence[Place] = ()
) -> tuple[Block, ...]:
    """One `Block` between each place and the next; the first place is the input's.

    Features are [B, H, W, C]: images are turned, tokens are laid on their grid (`to_grid`). Where an `inner` place, of a
    ReLU, lies in front of a max pooling whose windows overlap, the block has stages.
    """
    by_name = {node.name: node for node in nodes}
    found = []
    for before, after in itertools.pairwise(places):
        piece = between(nodes, before.value, after.value)
        params, running = {}, {}
        for node in piece:
            statistics = _statistics(node)
            for key in weights_of(node):
                if key not in statistics:
                    params[key] = weights[key]
            if statistics:
                running[statistics[0]] = {
                    leaf: weights[key] for leaf, key in zip(("mean", "var"), statistics, strict=True)
                }
        if running:
            params["batch_stats"] = running
        apply = functools.partial(_apply, piece, before, after)
        pooled = {name for node in piece if _overlaps(node) for name in _inside(node, "value")}
        cuts = [p for p in inner if p.value in pooled & {n.name for n in piece} and _nonnegative(by_name, p.value)]
        stages = tuple(
            functools.partial(_apply, between(piece, a.value, b.value), a, b)
            for a, b in (itertools.pairwise([before, *cuts, after]) if cuts else ())
        )
        found.append(Block(params, after.name, apply, _nonnegative(by_name, before.value), stages, beside=after.beside))
    return tuple(found)


def _apply(piece: Sequence[Node], before: Place, after: Place, params: Pytree, x: Array) -> tuple[Array, Pytree]:
    """The `apply` of a Block."""
    values, statistics = {before.value: from_grid(before, x)}, {}
    for node in piece:
        try:
            values[node.name] = _run(node, params, values, statistics, len(x))
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{after.name or 'the head'} cannot take features of {list(x.shape[1:])} ({node.operator}: "
                f"{reason(error)}); the network was exported for one size of images, which inputs.side=0 keeps."
            ) from error
    return to_grid(after, values[after.value]), statistics


def _run(node, params, values, statistics, batch):
    def given(argument):
        if isinstance(argument, list | tuple):
            return [given(a) for a in argument]
        if not isinstance(argument, dict):
            return argument
        ((kind, what),) = argument.items()
        return {
            "value": lambda: values[what],
            "weight": lambda: params[what],
            "batch": lambda: what * batch,
            "dtype": lambda: jnp.dtype(what),
            "number": lambda: float(what),
        }[kind]()

    if node.operator != BATCH_NORM:
        keywords = {name: given(argument) for name, argument in node.keywords.items()}
        return OPERATORS[node.operator](*(given(argument) for argument in node.arguments), **keywords)
    x, scale, bias = (given(argument) for argument in node.arguments[:3])
    (key, _), epsilon = _statistics(node), node.arguments[6]
    running = params["batch_stats"][key]
    mean, var = moments(jnp.moveaxis(x, 1, -1).astype(jnp.float32))
    statistics[key] = {"mean": mean, "var": var}
    factor = jax.lax.rsqrt(running["var"] + epsilon)
    factor = factor if scale is None else scale * factor
    shift = (0 if bias is None else bias) - running["mean"] * factor
    place = (-1, *(1,) * (x.ndim - 2))
    return ((x * factor.reshape(place) + shift.reshape(place)).astype(x.dtype),)


def to_grid(place: Place, x: Array) -> Array:
    """PyTorch's tensor as features: [B, C, H, W], [B, H, W, C] or [B, N, C] -> [B, H, W, C].

    Tokens before the grid's, p of them, are laid beside it: their p C numbers fill the channels behind the C of
    the grid, position by position, and zeros what is left of the last. Nothing is lost, and nothing counted twice.
    """
    if place.layout == "image":
        return jnp.moveaxis(x, 1, -1)
    if place.layout != "tokens":
        return x
    (h, w), before, channels = place.grid, place.before, place.channels
    grid = x[:, before:].reshape(-1, h, w, channels)
    if not before:
        return grid
    beside = jnp.pad(x[:, :before].reshape(len(x), -1), ((0, 0), (0, place.beside * h * w - before * channels)))
    return jnp.concatenate([grid, jnp.moveaxis(beside.reshape(-1, place.beside, h, w), 1, -1)], -1)


def from_grid(place: Place, x: Array) -> Array:
    """The inverse of `to_grid`."""
    if place.layout == "image":
        return jnp.moveaxis(x, -1, 1)
    if place.layout != "tokens":
        return x
    (h, w), before, channels = place.grid, place.before, place.channels
    if not before:
        return x.reshape(-1, h * w, channels)
    beside = jnp.moveaxis(x[..., channels:], -1, 1).reshape(len(x), -1)[:, : before * channels]
    return jnp.concatenate([beside.reshape(-1, before, channels), x[..., :channels].reshape(-1, h * w, channels)], 1)


def between(nodes: Sequence[Node], begin: str, end: str) -> tuple[Node, ...]:
    """The nodes that the value `end` is made of, down to the value `begin`, in their order."""
    by_name, needed, waiting = {node.name: node for node in nodes}, set(), [end]
    while waiting:
        name = waiting.pop()
        if name != begin and name not in needed:
            needed.add(name)
            waiting += _inside(by_name[name], "value")
    return tuple(node for node in nodes if node.name in needed)


def _inside(node, kind):
    def search(argument):
        if isinstance(argument, dict):
            yield from (what for found, what in argument.items() if found == kind)
        elif isinstance(argument, list | tuple):
            for a in argument:
                yield from search(a)

    return list(search([*node.arguments, *node.keywords.values()]))


def values_of(node: Node) -> list[str]:
    """The names of the values that a node takes."""
    return _inside(node, "value")


def weights_of(node: Node) -> list[str]:
    """The keys of a node's weights."""
    return _inside(node, "weight")


def _overlaps(node):
    """Whether it is a max pooling whose windows overlap, ATen's (input, kernel_size, stride=kernel_size, ...)."""
    if node.operator != MAX_POOL or len(node.arguments) < 3:
        return False
    return any(size > step > 0 for size, step in zip(*node.arguments[1:3], strict=False))


def _statistics(node):
    """The keys of a BatchNorm node's running mean and variance; () of others."""
    return tuple(a["weight"] for a in node.arguments[3:5]) if node.operator == BATCH_NORM else ()


def _nonnegative(by_name, value):
    """Whether a value is never negative, as far as its last operators tell."""
    if value not in by_name:
        return False
    node = by_name[value]
    if node.operator in ("hardtanh", "clamp", "clamp_min"):
        below = node.arguments[1] if len(node.arguments) > 1 else node.keywords.get("min")
        return isinstance(below, int | float) and below >= 0
    if node.operator in _NEVER_NEGATIVE:
        return True
    return node.operator in _KEEPS_SIGN and all(_nonnegative(by_name, name) for name in _inside(node, "value"))
