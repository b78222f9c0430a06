"""Compiles the programs of a computation in threads before it runs: a rehearsal on shapes computes nothing and finds them all.

XLA compiles a program on one core, mostly, and the chain of a deep network has hundreds of programs. A jitted function and its
`lower` share what they compile, so that the run that follows finds every program ready.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

from dci_jax.runtime.sharding import mesh, replicated
from dci_jax.typing import Pytree

_now: ContextVar["Rehearsal | None"] = ContextVar("rehearsal", default=None)


def program(function: Callable | None = None, **options: Any) -> Callable:
    """`jax.jit`, whose calls within `rehearsal` are compiled and not run; a decorator, with the same options.

    Its attribute `jitted` is what `jax.jit` returns.
    """
    if function is None:
        return functools.partial(program, **options)
    compiled = jax.jit(function, **options)

    @functools.wraps(function)
    def call(*arguments):
        found = _now.get()
        return found.add(compiled, arguments) if found else compiled(*arguments)

    call.jitted = compiled
    return call


class Rehearsal:
    """Programs that are being compiled, in the order in which they are needed.

    Attributes:
      pending: those that nobody has waited for.
    """

    def __init__(self, pool: ThreadPoolExecutor):
        self.pending: list[Future] = []
        self._pool, self._known = pool, {}

    def add(self, compiled: Callable, arguments: tuple) -> Pytree:
        """Start to compile the program that these arguments call for, once; returns the shapes of its results."""
        arguments = jax.tree.map(_shape, arguments)
        leaves, structure = jax.tree.flatten(arguments)
        key = compiled, structure, tuple(leaves)
        if key not in self._known:
            outside = _now.set(None)  # a program within this one is part of it
            try:
                self._known[key] = jax.tree.map(_placed, compiled.eval_shape(*arguments))
                # Lowered here: the settings of precision are this thread's.
                self.pending.append(self._pool.submit(compiled.lower(*arguments).compile))
            finally:
                _now.reset(outside)
        return self._known[key]

    def taken(self) -> list[Future]:
        """What has become pending since this was last called."""
        found, self.pending = self.pending, []
        return found


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """One thread for each core; what has not begun when the run stops is dropped."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def rehearsal(pool: ThreadPoolExecutor) -> Iterator[Rehearsal]:
    """Within it, a `program` takes arrays or shapes (`jax.ShapeDtypeStruct`), and returns shapes."""
    found = Rehearsal(pool)
    outside = _now.set(found)
    try:
        yield found
    finally:
        _now.reset(outside)


def possible() -> bool:
    """Whether the run will find what a rehearsal compiles: on several devices only the run knows how its arrays are split."""
    return mesh().size == 1


def _shape(leaf):
    if isinstance(leaf, np.ndarray):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    if not isinstance(leaf, jax.Array):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding, weak_type=leaf.weak_type)


def _placed(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(), weak_type=leaf.weak_type)
