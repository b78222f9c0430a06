"""Compiled programs are kept until there are many."""

import jax
import jax.numpy as jnp

from dci_jax.runtime import program_cache


def test_programs_are_dropped_once_there_are_many(monkeypatch):
    traced = []

    @jax.jit
    def double(x):
        traced.append(x)
        return 2 * x

    monkeypatch.setattr(program_cache, "_count", 0)
    for most, times in ((500, 1), (0, 2)):
        monkeypatch.setattr(program_cache, "_MOST", most)
        double(jnp.ones(3))
        program_cache.bound()
        double(jnp.ones(3))
        assert len(traced) == times
