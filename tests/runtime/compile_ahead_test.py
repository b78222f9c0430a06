"""Programs are compiled in threads before they run, and the run then compiles nothing."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

import dci_jax
from dci_jax.inputs.mixture import Prior
from dci_jax.runtime import compile_ahead
from dci_jax.runtime.sharding import put, replicated

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def threads_that_compiled():
    """A list that grows by the name of a thread for each program that XLA compiles, or reads from the cache."""
    names = []

    def listen(event, duration, **more):
        if event == COMPILED:
            names.append(threading.current_thread().name)

    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


def test_a_rehearsed_program_is_compiled_once_in_a_thread_and_not_run(threads_that_compiled):
    runs = []

    @compile_ahead.program(static_argnums=0)
    def scaled(factor, x):
        jax.debug.callback(lambda: runs.append(factor))
        return {"y": factor * jnp.sin(x)}

    x = put(np.arange(12, dtype=np.float32).reshape(3, 4), replicated())
    with compile_ahead.threads() as pool:
        with compile_ahead.rehearsal(pool) as rehearsal:
            shapes = scaled(3, x)
            assert scaled(3, jax.tree.map(lambda y: y, shapes["y"])) == shapes  # shapes in, the same program
        (ready,) = rehearsal.taken()
        assert rehearsal.taken() == []
        ready.result()
    assert shapes["y"].shape == (3, 4)
    assert not runs
    assert len(threads_that_compiled) == 1
    assert threads_that_compiled[0].startswith("ThreadPool")
    np.testing.assert_allclose(scaled(3, x)["y"], 3 * np.sin(x), rtol=1e-6)
    jax.effects_barrier()
    assert runs == [3]
    assert len(threads_that_compiled) == 1


def test_parameters_of_numpy_are_rehearsed_as_what_the_run_gives(threads_that_compiled):
    @compile_ahead.program
    def applied(params, x):
        return x @ params["w"] + params["b"]

    params = {
        "w": np.ones((4, 5), np.float32),
        "b": 2.0,
    }  # a network of one's own may hold NumPy's and Python's numbers
    x = put(np.ones((3, 4), np.float32), replicated())
    with compile_ahead.threads() as pool:
        with compile_ahead.rehearsal(pool) as rehearsal:
            assert applied(params, x).shape == (3, 5)
        for ready in rehearsal.taken():
            ready.result()
    np.testing.assert_array_equal(applied(params, x), np.full((3, 5), 6))
    assert len(threads_that_compiled) == 1


@pytest.mark.slow
def test_a_chain_is_solved_by_programs_that_were_compiled_ahead(network, threads_that_compiled):
    prior = Prior((), (("pink_noise", 1.0),), (32, 32, 3))
    settings = dict(num_images=40, num_validation=24, batch_size=8, num_corrections=2, max_unknowns=(600, 300))
    dci_jax.solve_chain(network, "layer1.0", prior, key=jax.random.key(0), progress=False, **settings)
    ahead = sum(name.startswith("ThreadPool") for name in threads_that_compiled)
    mine = len(threads_that_compiled) - ahead
    assert ahead >= 15
    again = dict(settings, num_images=48)  # other programs of the inputs alone
    threads_that_compiled.clear()
    dci_jax.solve_chain(network, "layer1.0", prior, key=jax.random.key(0), progress=False, **again)
    assert len(threads_that_compiled) <= mine
