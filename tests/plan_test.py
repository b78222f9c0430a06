import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from configs import resnet50, tiny
from dci_jax import models, plan, rates
from dci_jax.attacks import registry
from dci_jax.check import check
from dci_jax.dci import cost, inverter
from dci_jax.dci.inverter import correction_moments, inverter_spec
from dci_jax.dci.trained import train_chain
from dci_jax.network import feature_shapes
from dci_jax.runtime.flops import flops as count_flops

FLOAT = 4


def peak(function, *arguments):
    return plan.peak_bytes(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def test_what_is_used_up_is_no_longer_counted():
    x = jnp.zeros(1000)
    assert peak(lambda x: jnp.sin(x), x) == 2 * 1000 * FLOAT
    assert peak(lambda x: jnp.sin(jnp.sin(jnp.sin(x))), x) == 2 * 1000 * FLOAT
    assert peak(lambda x: jnp.sin(x) + jnp.cos(x), x) == 3 * 1000 * FLOAT


def test_called_programs_count_once():
    x = jnp.zeros(1000)
    inner = jax.jit(lambda x: jnp.sin(x) + jnp.cos(x))
    assert peak(lambda x: inner(x), x) == 3 * 1000 * FLOAT


def step_bytes(network, remat):
    settings = dict(
        width=1.0,
        cap=64,
        num_corrections=2,
        depth=2,
        distance="l1",
        layer=1.0,
        image=1.0,
        cycle=1.0,
        remat=remat,
        learning_rate=1e-3,
        divide_steps=1,
        conquer_learning_rate=1e-3,
        conquer_warmup=0,
        conquer_clip=float("inf"),
        conquer=(("layer2.0", 1),),
        deepest_steps=0,
    )
    modules, (_, phase) = train_chain.phases(network, ("layer2.0",), **settings)
    params = train_chain.initialize(modules, network, jax.random.key(0))
    images = np.zeros((16, 32, 32, 3), np.float32)
    gradient = jax.jit(jax.grad(phase.loss, has_aux=True))
    traced = gradient.trace(params, network, images)
    memory = traced.lower().compile().memory_analysis()
    compiled = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return plan.peak_bytes(traced.jaxpr.jaxpr), compiled


@pytest.mark.slow
def test_the_estimate_is_near_what_the_compiler_states(network):
    estimate, compiled = step_bytes(network, remat=False)
    assert estimate == pytest.approx(compiled, rel=0.35)


@pytest.mark.slow
def test_rematerialisation_needs_less(network):
    # XLA's CPU compiler computes nothing twice, so only the traced program can tell.
    assert step_bytes(network, remat=True)[0] < 0.6 * step_bytes(network, remat=False)[0]


@pytest.fixture
def cache(tmp_path):
    """The folder of compiled programs, beside which rates are kept."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def test_rates_are_measured_once_on_an_idle_machine(monkeypatch, cache):
    found = []

    def measured():
        found.append(rates.Rates(1.0, 2.0, 3.0, 4.0, 5.0, len(found)))
        return found[-1]

    monkeypatch.setattr(rates, "measured", measured)
    monkeypatch.setattr(rates, "load", lambda: 0.9)
    assert [rates.rates().compiling for _ in range(2)] == [0, 1]  # busy: nothing is kept
    monkeypatch.setattr(rates, "load", lambda: 0.1)
    assert [rates.rates().compiling for _ in range(2)] == [2, 2]
    (cache / rates.FILE).write_text('{"another machine": 1}')
    assert rates.rates().compiling == 3


def test_the_sums_of_a_solve_cost_what_the_traced_program_says(network):
    g = inverter_spec(network, 1)
    batch = 256  # the transforms back are made once, whatever their number
    f, u = (jax.ShapeDtypeStruct((batch, 32, 32, channels), jnp.float32) for channels in (16, g.channels))
    for size in (1, 3, 5):
        program = jax.make_jaxpr(lambda u, f, size=size: correction_moments(size, g, [u], [f], [f], 1))(u, f)
        stated = products(program.jaxpr) / batch
        assert cost.sums_flops(g, (size, size), 32, 32)[1] == pytest.approx(stated, rel=0.25)


def products(jaxpr):
    """FLOPs of the matrix products in a program, those in a loop as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        inside = sum(map(products, jaxprs_in_params(equation.params)))
        total += inside * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape, (result,) = equation.invars[0].aval.shape, equation.outvars
            total += 2 * math.prod(result.aval.shape) * math.prod(shape[axis] for axis in contracted)
    return total


def test_a_chain_counts_its_passes_through_the_network_and_back():
    network = models.MODELS["cifar_resnet20"].build(jax.random.key(0))
    depth, free = (
        4,
        {"num_images": 64, "num_validation": 64, "batch": 64, "samples_per_unknown": 10**9, "num_corrections": 1},
    )
    found = [(inverter_spec(network, index, depth), (1, 1)) for index in range(depth)]
    counted = cost.flops(network, found, free)
    sums = sum(sum(cost.sums_flops(g, ks, *g.grid)) for g, ks in found)
    passes = 0.0
    for g, _ in found:
        shapes = [(1, *feature_shapes(network)[at]) for at in (depth, g.index + 1, g.index)]
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        made = functools.partial(inverter.regressors, g, network)
        passes += count_flops(jax.jit(made).trace(*given))
    assert counted["products"] + counted["sums"] == pytest.approx(64 * sums)  # validation images have none
    # Both maps of an inverter are convolutions; on validation images for each of three ridges, too.
    maps = sum(2 * math.prod(g.grid) * (g.sent + g.channels) * g.target for g, _ in found)
    assert counted["passes"] == pytest.approx(128 * passes + (64 + 4 * 64) * maps, rel=0.1)


@pytest.mark.slow
def test_every_attack_has_its_rows(monkeypatch, network):
    monkeypatch.setattr(models, "load", lambda *_: network)
    monkeypatch.setattr(rates, "rates", lambda: rates.Rates(1e9, 1e9, 1e9, 1e9, 1e9, 1.0))
    config = tiny.get_config()
    config.attacks, config.dci.num_images, config.dci.batch = tuple(registry.ATTACKS), 16, 8
    config.prior_fitting.update(steps=7, batch=8, padding=(0, 4))
    lines = plan.plan(config, check(config)).splitlines()
    for name in registry.ATTACKS:
        rows = [line.split() for line in lines if line.startswith(f"{name}: ")]
        assert rows, name
        assert all(float(row[-3]) >= 0 and int(row[-4]) > 0 for row in rows), name
    rows = [line.split() for line in lines if line.startswith("prior fitting, borders of")]
    assert [row[4:7:2] for row in rows] == [["0", "7"], ["4", "7"]]
    assert all(float(row[7]) > 0 for row in rows)


@pytest.mark.slow
def test_a_network_whose_weights_are_not_at_hand_is_planned_by_its_shapes(monkeypatch):
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("would be fetched"))
    config = resnet50.get_config()
    assert check(config, planned=True).network.name == "resnet50"
