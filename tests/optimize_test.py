import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dci_jax.checkpoint import Checkpointer
from dci_jax.optimize import minimize

ADAM = optax.adam(0.1)


def loss(x, target, noise):
    value = jnp.sum((x["a"] - target + 0.01 * noise) ** 2)
    return value, {"loss": value}


def batches(step):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (3,))


def start():
    return {"a": jnp.zeros(3)}


def test_it_finds_the_minimum_and_leaves_its_arguments_alone():
    x, target = start(), jnp.array([1.0, -2.0, 3.0])
    found, terms = minimize(loss, x, target, batches, steps=400, optimizer=ADAM)
    np.testing.assert_allclose(found["a"], target, atol=0.05)
    assert terms["loss"] < 0.01
    np.testing.assert_array_equal(x["a"], np.zeros(3))  # not donated


def test_project_is_applied_after_every_step():
    found, _ = minimize(
        loss, start(), jnp.full(3, 5.0), batches, steps=50, optimizer=optax.adam(0.5),
        project=lambda x: jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1), x),
    )  # fmt: skip
    np.testing.assert_array_equal(found["a"], np.ones(3))


def test_a_killed_run_goes_on_and_gives_the_same_numbers(tmp_path):
    target = jnp.arange(3.0)
    whole, _ = minimize(loss, start(), target, batches, steps=20, optimizer=ADAM)
    seen = []

    def dying(step):
        seen.append(step)
        if step == 13:
            raise KeyboardInterrupt
        return batches(step)

    settings = {"steps": 20, "optimizer": ADAM, "folder": tmp_path, "save_every": 5}
    with pytest.raises(KeyboardInterrupt):
        minimize(loss, start(), target, dying, **settings)
    resumed, _ = minimize(loss, start(), target, lambda s: seen.append(s) or batches(s), **settings)
    chex.assert_trees_all_equal(resumed, whole)
    assert seen == [*range(14), *range(10, 20)]
    again, terms = minimize(loss, start(), target, dying, **settings)
    chex.assert_trees_all_equal(again, whole)
    assert terms == {}  # nothing left to do


def test_only_the_latest_two_checkpoints_are_kept(tmp_path):
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.restore(start()) is None
        for step in (1, 2, 3):
            checkpoints.save(step, {"a": jnp.full(3, float(step))})
    assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 3]
    with Checkpointer(tmp_path) as checkpoints:
        step, tree = checkpoints.restore(start())
    assert step == 3
    np.testing.assert_array_equal(tree["a"], np.full(3, 3.0))
