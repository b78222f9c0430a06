"""What a run will do and cost, before it is started: `python -m dci_jax.main --config=... --workdir=... --dry_run`."""

import functools
import math
import time

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Jaxpr, Var, jaxprs_in_params
from ml_collections import ConfigDict

from dci_jax import parallel, synthesis
from dci_jax.attacks import dci, dci_trained, linear_inverter, solving
from dci_jax.attacks.linear_inverter import geometry
from dci_jax.attacks.objective import undo
from dci_jax.blocks import feature_shapes, run, split_index, with_dtype
from dci_jax.learning import learning, phase_settings
from dci_jax.optimize import step
from dci_jax.setting import Setting, mixture_of

SHARE = 0.3  # of the matrix-product rate that training is assumed to reach: an estimate


def plan(config: ConfigDict, setting: Setting) -> str:
    """The blocks of a checked config, and what is synthesised, solved and trained, as tables.

    FLOPs are those of the traced program (a multiply-add counts 2). Memory is what is alive at a time
    in it, an estimate of what a device needs. Hours are an estimate: FLOPs divided by
    `SHARE` of the rate that a matrix product reaches here and now.
    """
    rate = matrix_product_rate("float32")
    fast = matrix_product_rate("bfloat16")
    rows = []
    if config.synthesis.batches and not setting.network.latent:
        rows += _synthesis(config, setting.network)
    runs = learning(config)
    for attack, cost in (("dci", _solved), ("dci_shared", _shared), ("dci_trained", _trained)):
        rows += [(f"{name}: {label}", *rest) for name in runs.get(attack, ()) for label, *rest in cost(config, setting)]  # fmt: skip
    text = [f"{setting.device.name} on {jax.device_count()} x {jax.devices()[0].device_kind}", ""]
    if "dci_trained" in runs:
        text += [
            f"{'block':12} {'features':>16} {'inverter parameters':>20} {'inverter MFLOP per image':>26}",
            *_trained_blocks(config, setting),
            "",
        ]
    if {"dci", "dci_shared"} & set(runs):
        text += [
            f"{'block':12} {'features':>16} {'neighbourhood':>14} {'unknowns':>9}",
            *_solved_blocks(config, setting),
            "",
        ]
    text += [
        f"{'phase':34} {'steps':>6} {'GFLOP per step':>15} {'memory, GiB':>12} {'device-hours':>13}",
    ]
    total = 0.0
    for label, steps, flops, memory, precision in rows:
        hours = steps * flops / (SHARE * (fast if precision == "bfloat16" else rate)) / 3600
        total += hours
        text.append(
            f"{label:34} {steps:6d} {flops / 1e9:15.1f} {memory / 2**30:12.2f} {hours:13.2f}"
        )
    text += [
        "",
        f"About {total:.2f} device-hours, estimated at {SHARE:.0%} of what a matrix product reaches here:",
    ]
    text += [
        f"{rate / 1e9:.0f} GFLOP/s in float32, {fast / 1e9:.0f} in bfloat16. Evaluation and the attacks that"
    ]
    text += [
        "optimise each image (refine, rMLE) or train one network (inverse network) come on top."
    ]
    return "\n".join(text)


def matrix_product_rate(dtype: str, size: int = 2048) -> float:
    """FLOP/s that a product of two square matrices of this size reaches on the first device."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def _trained_blocks(config, setting):
    network = setting.device
    modules, _ = dci_trained.phases(network, setting.splits, **phase_settings(config))
    shapes, lines = feature_shapes(network), []
    for i, module in enumerate(modules):
        f = jax.ShapeDtypeStruct((1, *shapes[i + 1]), jnp.float32)
        apply = functools.partial(undo, module, network=network, index=i)
        block = functools.partial(_block, network, i)
        params = jax.eval_shape(lambda f, m=module, b=block: m.init(jax.random.key(0), f, b), f)
        flops = jax.jit(lambda p, f, a=apply: a(params=p, features=f)).lower(params, f).cost_analysis()["flops"]  # fmt: skip
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        features = "x".join(map(str, shapes[i + 1]))
        lines.append(
            f"{network.blocks[i].name:12} {features:>16} {count:20,d} {flops / 1e6:26,.0f}"
        )
    return lines


def _block(network, index, x):
    return run(network, x, index, index + 1)


def _synthesis(config, network):
    frozen = with_dtype(network, config.synthesis.precision)
    images = jax.ShapeDtypeStruct((config.synthesis.batch, *network.input_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((config.synthesis.batch,), jnp.int32)
    names = ("statistics", "cross_entropy", "total_variation", "l2", "first")
    weights = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
    for side, steps in config.synthesis.stages:
        loss = functools.partial(
            synthesis.synthesis_loss, config.synthesis.jitter, network.input_shape[0] // side
        )
        cost = step_cost(loss, images, (frozen, labels, weights), jax.random.key(0))
        yield (
            f"synthesis at {side} px",
            steps * config.synthesis.batches,
            *cost,
            config.synthesis.precision,
        )


def _trained(config, setting):
    network = with_dtype(setting.device, config.dci_trained.precision)
    modules, phases = dci_trained.phases(network, setting.splits, **phase_settings(config))
    params = jax.eval_shape(
        functools.partial(dci_trained.initialize, modules, network), jax.random.key(0)
    )
    _, shape = mixture_of(config, network)
    images = jax.ShapeDtypeStruct((config.dci_trained.batch, *shape), jnp.float32)
    for phase in phases:
        yield (
            phase.label,
            phase.steps,
            *step_cost(phase.loss, params, network, images),
            config.dci_trained.precision,
        )


def _geometries(config, setting, depth, shared):
    """[(geometry, neighbourhood)] of a chain of `depth` inverters, on images as they are solved on."""
    _, shape = mixture_of(config, setting.device)
    small, s = setting.device.replace(input_shape=shape), config.dci
    found = [geometry(small, index, None if shared else depth) for index in range(depth)]
    return [(g, linear_inverter.sizes(g, s.size, s.unknowns)) for g in found]


def _solved_blocks(config, setting):
    depth = max(split_index(setting.device, name) for name in setting.splits)
    for (g, k), block in zip(_geometries(config, setting, depth, False), setting.device.blocks):  # noqa: B905  to that depth
        features = "x".join(map(str, feature_shapes(setting.device)[g.index + 1]))
        yield f"{block.name:12} {features:>16} {f'{k[0]} and {k[1]}':>14} {linear_inverter.largest(g, k):9,d}"


def _solved(config, setting):
    """One row for each chain: its maps, FLOPs of the sums and solves, memory of the largest solve."""
    for name in tuple(config.dci.splits) or setting.splits:
        yield name, *_chain(config, setting, split_index(setting.device, name), False)


def _shared(config, setting):
    names = tuple(config.dci.splits) or setting.splits
    depth = max(split_index(setting.device, name) for name in names)
    yield "all splits", *_chain(config, setting, depth, True)


def _chain(config, setting, depth, shared):
    s, found = config.dci, _geometries(config, setting, depth, shared)
    counts = linear_inverter.enough(*zip(*found, strict=True), s.images, s.held_out, s.equations)
    total = 0.0
    for (g, k), count in zip(found, counts, strict=True):
        first, correction = linear_inverter.flops(g, k, *g.grid)
        images = count * (1 + s.held_out / max(s.images, 1))
        solve = len(solving.RIDGES) * linear_inverter.largest(g, k) ** 3 / 3
        total += images * first + s.rounds * images * correction + (s.rounds + 1) * solve
    steps = len(found) * (s.rounds + 1)
    most = max(linear_inverter.largest(g, k) for g, k in found)
    return steps, total / steps, dci.MATRICES * 8 * most**2, "float32"


def step_cost(loss, variables, frozen, batch):
    """(FLOPs, bytes of memory) of one update on one device, from the traced program."""
    optimizer = optax.adam(1e-3)
    state = jax.eval_shape(optimizer.init, variables)
    traced = step.trace(
        loss, optimizer, _same, parallel.copied(), variables, state, frozen, (batch,)
    )
    return traced.lower().cost_analysis()["flops"], peak_bytes(traced.jaxpr.jaxpr)


def peak_bytes(jaxpr: Jaxpr) -> int:
    """The most that is alive at a time while a traced program runs in its own order, nothing fused.

    Near what XLA's compiler states (tests/plan_test.py), which takes many minutes for a deep chain. The
    CPU's compiler undoes rematerialisation, so there `dci_trained.remat` saves nothing.
    """
    last = {v: i for i, e in enumerate(jaxpr.eqns) for v in e.invars if isinstance(v, Var)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, Var)}
    alive = {v: _bytes(v) for v in (*jaxpr.invars, *jaxpr.constvars)}
    peak = total = sum(alive.values())
    for i, equation in enumerate(jaxpr.eqns):
        inner = [peak_bytes(sub) - sum(map(_bytes, sub.invars)) for sub in jaxprs_in_params(equation.params)]  # fmt: skip
        new = {v: _bytes(v) for v in equation.outvars}
        # What a called program makes becomes its caller's, so it is not counted twice.
        peak = max(peak, total + max([sum(new.values()), *inner]))
        alive |= new
        total += sum(new.values())
        for v in (*equation.invars, *new):
            if isinstance(v, Var) and last.get(v, i) <= i:
                total -= alive.pop(v, 0)
    return peak


def _bytes(variable):
    shape = getattr(variable.aval, "shape", ())
    return math.prod(shape) * getattr(variable.aval.dtype, "itemsize", 4)


def _same(variables):
    return variables
