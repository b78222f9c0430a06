"""A graph of ATen operators, kept as plain data, run in JAX piece by piece: from one split point to the next.

A node is one operator with its arguments. An argument is a number, a text, a list, or a dict with one entry:
{"value": node}, {"weight": key}, {"batch": k} (k times the batch size), {"dtype": name}, {"number": "inf"}.
Nothing in it can be executed but the operators of `aten.OPERATORS`.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dci_jax.cpu_kernels.moments import moments
from dci_jax.errors import InputError, reason
from dci_jax.importers.aten import OPERATORS
from dci_jax.importers.place import Place, received, sent
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
        piece = between(nodes, before.values, after.values)
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
            functools.partial(_apply, between(piece, a.values, b.values), a, b)
            for a, b in (itertools.pairwise([before, *cuts, after]) if cuts else ())
        )
        positive = all(_nonnegative(by_name, value) for value in before.values)
        found.append(Block(params, after.name, apply, positive, stages, after.tensors, after.beside))
    return tuple(found)


def _apply(piece: Sequence[Node], before: Place, after: Place, params: Pytree, x: Array) -> tuple[Array, Pytree]:
    """The `apply` of a Block."""
    statistics, at = {}, before.name
    try:
        values = received(before, x)
        for node in piece:
            at = node.operator
            values[node.name] = _run(node, params, values, statistics, len(x))
        return sent(after, values), statistics
    except InputError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{after.name or 'the head'} cannot take features of {list(x.shape[1:])} ({at}: {reason(error)}); the network was "
            "exported for one size of images, which inputs.side=0 keeps."
        ) from error


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


def between(nodes: Sequence[Node], begin: Sequence[str], end: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that the values `end` are made of, down to the values `begin`, in their order."""
    by_name, needed, waiting = {node.name: node for node in nodes}, set(), list(end)
    while waiting:
        name = waiting.pop()
        if name not in begin and name not in needed:
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
