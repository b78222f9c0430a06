import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dci_jax.cpu_kernels.convolution import convolve
from dci_jax.errors import InputError
from dci_jax.runtime import distributed, progress, sharding
from dci_jax.runtime.checkpoint import Checkpointer
from dci_jax.runtime.training_loop import jitted, minimize

ADAM = optax.adam(0.1)
NUMBERS = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))


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
        loss,
        start(),
        jnp.full(3, 5.0),
        batches,
        steps=50,
        optimizer=optax.adam(0.5),
        project=lambda x: jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1), x),
    )
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


@pytest.mark.parametrize(("steps", "most", "dispatches"), [(20, 5, 4), (21, 5, 7), (23, 5, 23)])
def test_several_updates_in_one_dispatch_are_the_same_updates(tmp_path, monkeypatch, steps, most, dispatches):
    target = jnp.arange(3.0)
    one, terms = minimize(loss, start(), target, batches, steps=steps, optimizer=ADAM)
    polled = []
    monkeypatch.setattr(distributed, "preempted", lambda: bool(polled.append(1)))  # once per dispatch
    several, last = minimize(
        loss,
        start(),
        target,
        batches,
        steps=steps,
        optimizer=ADAM,
        per_dispatch=most,
        folder=tmp_path,
        save_every=6,
    )
    assert len(polled) == dispatches
    chex.assert_trees_all_close(several, one, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(last, terms, rtol=1e-5)


def test_a_run_that_is_asked_to_stop_saves_where_it_is(tmp_path, monkeypatch):
    target, asked = jnp.arange(3.0), []
    monkeypatch.setattr(distributed, "preempted", lambda: asked.append(1) or len(asked) == 8)
    settings = {"steps": 20, "optimizer": ADAM, "folder": tmp_path}
    with pytest.raises(distributed.Preempted):
        minimize(loss, start(), target, batches, **settings)
    assert [int(path.name) for path in tmp_path.iterdir()] == [7]
    resumed, _ = minimize(loss, start(), target, batches, **settings)
    whole, _ = minimize(loss, start(), target, batches, steps=20, optimizer=ADAM)
    chex.assert_trees_all_equal(resumed, whole)


def test_a_folder_that_vanishes_is_an_error_and_is_not_made_again(tmp_path):
    folder = tmp_path / "run" / "phase"
    folder.parent.mkdir()
    with Checkpointer(folder) as checkpoints:
        checkpoints.save(1, start())
    shutil.rmtree(folder.parent)
    with pytest.raises(FileNotFoundError):
        Checkpointer(folder)
    assert not folder.parent.exists()


def test_a_trace_of_ten_dispatches_is_written_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(progress._trace, "folder", None)
    progress.profile_to(tmp_path)
    minimize(
        loss,
        start(),
        jnp.arange(3.0),
        batches,
        steps=30,
        optimizer=ADAM,
        label="dci: divide",
    )
    assert len(list((tmp_path / "dci_divide").rglob("perfetto_trace.json.gz"))) == 1


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


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path):
    with pytest.raises(InputError, match=r"walk: after 1 of 3 steps the loss is no longer finite; lower"):
        minimize(
            loss,
            start(),
            jnp.full(3, jnp.nan),
            batches,
            steps=3,
            optimizer=ADAM,
            label="walk",
            folder=tmp_path / "walk",
            save_every=1,
        )
    with Checkpointer(tmp_path / "walk") as saved:
        assert saved.restore((start(), ADAM.init(start()))) is None


def seen_through(kernels, x):
    for kernel in kernels:
        x = jax.nn.relu(convolve(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NUMBERS))
    value = jnp.sum((x - 1) ** 2)
    return value, {"loss": value}


def same(variables):
    return variables


def of_inputs(x, kernels, _):
    return seen_through(kernels, x)


def of_weights(kernels, x, _):
    return seen_through(kernels, x)


def drawn():
    """Kernels [3, 3, 3, 8] and [3, 3, 8, 4], and images [2, 8, 8, 3]."""
    kernels = [0.3 * jax.random.normal(jax.random.key(seed), (3, 3, *of)) for seed, of in enumerate(((3, 8), (8, 4)))]
    return kernels, jax.random.uniform(jax.random.key(9), (2, 8, 8, 3))


@pytest.mark.parametrize("loss", [of_inputs, of_weights])
def test_what_is_learned_does_not_depend_on_whose_convolutions_are_taken(loss):
    variables, frozen = drawn() if loss is of_weights else drawn()[::-1]
    plain = jitted(None)
    wanted, state = jax.tree.map(jnp.copy, variables), ADAM.init(variables)
    for _ in range(5):
        wanted, state, _ = plain(loss, ADAM, same, sharding.replicated(), wanted, state, frozen, (None,))
    found, terms = minimize(loss, variables, frozen, lambda _: None, steps=5, optimizer=ADAM)
    chex.assert_trees_all_close(found, wanted, atol=1e-4)
    assert terms["loss"] < loss(variables, frozen, None)[0]
