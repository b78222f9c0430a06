"""Inverters in the rows of a matrix learn exactly as they do together."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.attacks import dci_trained, spread


def trees():
    rng = np.random.default_rng(0)
    return tuple(
        {"a": rng.normal(size=(n, 2)).astype(np.float32), "b": rng.normal(size=n).astype(np.float32)}
        for n in (5, 1, 3, 2)
    )


def test_packing_balances_the_groups_and_unpacking_gives_the_trees_back():
    how = spread.packing(trees(), 2)
    assert how.groups == ((0, 1), (2, 3))  # 15 + 3 numbers against 9 + 6
    matrix = spread.pack(how, trees())
    assert matrix.shape == (2, 18)
    chex.assert_trees_all_equal(spread.unpack(how, matrix), trees())


@pytest.mark.parametrize("distance", ["l1", "cosine"])
def test_the_gradient_in_rows_is_that_of_all_inverters_together(network, images, distance):
    modules, stages = dci_trained.phases(
        network,
        ("layer1.1",),
        width=1.0,
        cap=16,
        rounds=1,
        depth=1,
        distance=distance,
        layer=1.0,
        image=1.0,
        cycle=0.5,
        remat=False,
        learning_rate=1e-3,
        divide_steps=2,
        conquer_learning_rate=1e-3,
        conquer_warmup=0,
        conquer_clip=float("inf"),
        conquer=(),
        deepest_steps=0,
    )
    params = dci_trained.initialize(modules, network, jax.random.key(1))
    together = jax.value_and_grad(stages[0].loss, has_aux=True)
    (loss, terms), gradient = jax.jit(together)(params, network, jnp.asarray(images))
    how = spread.packing(params, 2)
    apart = jax.value_and_grad(functools.partial(stages[0].rows_loss, how), has_aux=True)
    matrix = spread.pack(how, params)
    (rows_loss, rows_terms), rows = jax.jit(apart)(matrix, network, jnp.asarray(images))
    assert float(rows_loss) == pytest.approx(float(loss), rel=1e-5)
    chex.assert_trees_all_close(rows_terms, terms, rtol=1e-5)
    chex.assert_trees_all_close(spread.unpack(how, rows), gradient, rtol=1e-3, atol=1e-6)
