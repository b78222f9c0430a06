"""What a run will do and cost, before it is started: `python -m dci_jax.main --config=... --workdir=... --dry_run`."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Jaxpr, Var, jaxprs_in_params
from ml_collections import ConfigDict

from dci_jax import rates
from dci_jax.attacks import inverse_network, registry, unet
from dci_jax.dci import cost as chain_cost
from dci_jax.dci import inverter, solve_chain
from dci_jax.dci.blocks import chain_blocks, joined
from dci_jax.dci.trained import train_chain
from dci_jax.dci.trained.objective import undo
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.kept import costs
from dci_jax.inputs import prior, synthesis
from dci_jax.inputs.latents import latent_prior
from dci_jax.inputs.spectrum import identity
from dci_jax.network import feature_shapes, run, split_index, with_dtype
from dci_jax.runtime import sharding
from dci_jax.runtime.flops import flops as count_flops
from dci_jax.runtime.training_loop import step

SHARE = 0.3  # of a datasheet's rate that training is assumed to reach: an estimate, for machines that are not at hand (benchmarks/extrapolate.py)
MAP = 0.3  # seconds that a map of an inverter takes beside its arithmetic: dispatch, copies, the choice of the ridge


def plan(config: ConfigDict, case: Case) -> str:
    """The blocks of a checked config, and what is synthesised, solved, trained and optimised, as tables.

    FLOPs are those of the traced program (a multiply-add counts 2). Memory is what is alive at a time
    in it, an estimate of what a device needs. Hours are an estimate: FLOPs divided by the rates that
    operations of their kind reach on this machine.
    """
    found = dataclasses.asdict(rates.rates()) | {"maps": 1 / MAP}
    rows, fits = [], set()
    if case.trained is not None:
        rows += _prior_fitting(config, case)
        if config.synthesis.batches:
            rows += _synthesis(config, case.trained)
    for name in registry.names(config):
        attack = registry.find(name, config.oracle.attack)
        splits, settings = registry.settings(config, attack, case.splits)
        fits.add(attack.fit)
        cost = COSTS.get(attack.fit, _optimised)
        for split_label, steps, *rest in cost(case, splits, settings):
            several = [c for c in case.channels.get(split_label, ()) if c.kind != "none"]
            times = len(several) if attack.adapted else 1
            rows.append((f"{name}: {split_label}" + f", {times} defenses" * attack.adapted, steps * times, *rest))
    text = [f"{case.network.name} on {jax.device_count()} x {jax.devices()[0].device_kind}", ""]
    if train_chain.dci_trained in fits:
        text += [
            f"{'block':12} {'features':>16} {'inverter parameters':>20} {'inverter MFLOP per image':>26}",
            *_trained_blocks(config, case),
            "",
        ]
    if {solve_chain.dci, solve_chain.dci_shared} & fits:
        text += [
            f"{'block':12} {'features':>16} {'kernel sizes':>14} {'unknowns':>9}",
            *_solved_blocks(config, case),
            "",
        ]
    text += [f"{'phase':34} {'steps':>6} {'GFLOP per step':>15} {'memory, GiB':>12} {'device-hours':>13}"]
    total = 0.0
    for label, steps, work, memory in rows:
        hours = steps * sum(flops / found[kind] for kind, flops in work.items()) / 3600
        total += hours
        flops = sum(work.values()) - work.get("maps", 0)
        text.append(f"{label:34} {steps:6d} {flops / 1e9:15.1f} {memory / 2**30:12.2f} {hours:13.2f}")
    return "\n".join([*text, "", *_summary(config, case, found, total)])


def _summary(config, case, found, total):
    """What is said below the tables: the sum, what it rests on, and what comes on top."""
    shown = (
        ("float32", "training in float32"),
        ("products", "products of a solve"),
        ("sums", "its sums by frequencies"),
        ("factorisation", "factorisation in float64"),
    )
    speeds = ", ".join(f"{found[kind] / 1e9:.0f} {text}" for kind, text in shown)
    yield f"About {total:.2f} device-hours, estimated from the rates of these operations on this machine, in GFLOP/s: {speeds}."
    yield (
        f"The first run on a machine also compiles, for about {max(1, round(_compiling(config, case, found) / 60))} min. Attacks that "
        "optimise each image are counted for all images; scores and reconstruction by inverters are not counted."
    )
    if rates.load() > rates.BUSY:
        yield f"This machine is busy now (load {rates.load():.1f} per core): the run takes longer while other programs compute."


def _compiling(config, case, found):
    """Seconds, a rough estimate from how many programs runs had: of the run, of each kind of inverter, of each defense known."""
    attacks = {name: registry.find(name, config.oracle.attack) for name in registry.names(config)}
    kinds = set()
    for attack in attacks.values():
        if attack.fit in (solve_chain.dci, solve_chain.dci_shared):
            splits, settings = registry.settings(config, attack, case.splits)
            depth = max(split_index(_small(case), split) for split in splits)
            kinds |= {(g.layout, k, g.grid) for g, k in chain_cost.inverter_specs(_small(case), depth, settings)}
    known = len({kind for kind, _ in config.defenses} - {"none"}) * len(case.splits)
    programs = 80 + 7 * len(kinds) + 5 * known * any(attack.adapted for attack in attacks.values())
    return 2 * found["compiling"] * programs


def _trained_blocks(config, case):
    network = joined(case.network, case.splits)
    settings = train_chain.of_phases(registry.settings(config, registry.find("dci_trained"), case.splits)[1])
    modules, _ = train_chain.phases(network, case.splits, **settings)
    shapes, lines = feature_shapes(network), []
    for i, module in enumerate(modules):
        f = jax.ShapeDtypeStruct((1, *shapes[i + 1]), jnp.float32)
        apply = functools.partial(undo, module, network=network, index=i)
        block = functools.partial(_block, network, i)
        params = jax.eval_shape(lambda f, m=module, b=block: m.init(jax.random.key(0), f, b), f)
        flops = count_flops(jax.jit(lambda p, f, a=apply: a(params=p, features=f)).trace(params, f))
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        features = "x".join(map(str, shapes[i + 1]))
        lines.append(f"{network.blocks[i].name:12} {features:>16} {count:20,d} {flops / 1e6:26,.0f}")
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
        loss = functools.partial(synthesis.synthesis_loss, config.synthesis.jitter, network.input_shape[0] // side)
        cost = step_cost(loss, images, (frozen, labels, weights), jax.random.key(0))
        yield (
            f"synthesis at {side} px",
            steps * config.synthesis.batches,
            {config.synthesis.precision: cost[0]},
            cost[1],
        )


def _prior_fitting(config, case):
    depth = prior.blocks_to_fit(case.trained, case.weights, config.prior_fitting.steps)
    if not depth:
        return
    fitted = jax.eval_shape(lambda: identity(case.shape[2])), jax.ShapeDtypeStruct(case.shape[2:], jnp.float32)
    images = jax.ShapeDtypeStruct((config.prior_fitting.batch, *case.shape), jnp.float32)
    places = jax.ShapeDtypeStruct((config.prior_fitting.batch, 2), jnp.int32)
    for border in config.prior_fitting.padding:
        loss = functools.partial(prior.mismatch, border, depth)
        cost = step_cost(loss, fitted, case.trained, (images, places))
        yield f"prior fitting, borders of {border} px", config.prior_fitting.steps, {"float32": cost[0]}, cost[1]


def _trained(case, splits, settings):
    network = with_dtype(joined(case.network, splits), settings["precision"])
    modules, phases = train_chain.phases(network, splits, **train_chain.of_phases(settings))
    params = jax.eval_shape(functools.partial(train_chain.initialize, modules, network), jax.random.key(0))
    images = jax.ShapeDtypeStruct((settings["batch"], *case.shape), jnp.float32)
    for phase in phases:
        cost = step_cost(phase.loss, params, network, images)
        yield phase.label, phase.steps, {settings["precision"]: cost[0]}, cost[1]


def _solved_blocks(config, case):
    settings = registry.settings(config, registry.find("dci"), case.splits)[1]
    network = chain_blocks(case.network, case.splits)
    depth = max(split_index(network, name) for name in case.splits)
    found = chain_cost.inverter_specs(_small(case), depth, settings)
    for (g, k), block in zip(found, network.blocks):  # noqa: B905  to that depth
        features = "x".join(map(str, feature_shapes(network)[g.index + 1]))
        yield f"{block.name:12} {features:>16} {f'{k[0]} and {k[1]}':>14} {inverter.largest(g, k):9,d}"


def _solved(case, splits, settings):
    """One row for each chain: its maps, FLOPs of the sums and solves, memory at its height."""
    for name in splits:
        yield name, *_chain(case, settings, (name,), False)


def _shared(case, splits, settings):
    yield "all splits", *_chain(case, settings, splits, True)


def _chain(case, settings, splits, shared):
    network = _small(case)
    depth = max(split_index(network, name) for name in splits)
    found = chain_cost.inverter_specs(network, depth, settings, shared=shared)
    total = chain_cost.flops(network, found, settings)
    steps = len(found) * (settings["num_corrections"] + 1)
    memory = max(held + max(matrices, sums) for held, matrices, sums in chain_cost.memory(network, found, settings))
    work = {kind: total[kind] for kind in ("products", "sums", "factorisation")} | {"float32": total["passes"]}
    work |= {"maps": steps}
    return steps, {kind: flops / steps for kind, flops in work.items()}, memory


def _small(case):
    """The target for inputs as they are solved on, in the blocks that are undone one after the other."""
    return chain_blocks(case.network, case.splits).replace(input_shape=case.shape)


def _decoded(case, splits, settings):
    """One row for each split's decoder: a step passes twice as much back as forward."""
    images = jax.ShapeDtypeStruct((settings["batch"], *case.shape), jnp.float32)
    for name in splits:
        split = split_index(case.network, name)
        decoder, size = inverse_network.decoder_for(case.network, split, settings["width"])
        params = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, *size)))
        batch = {
            "images": images,
            "features": jax.ShapeDtypeStruct((settings["batch"], *feature_shapes(case.network)[split]), jnp.float32),
        }
        loss = functools.partial(inverse_network.pixel_loss, decoder)
        flops, memory = step_cost(loss, params, (), batch)
        yield name, settings["steps"], {settings["precision"]: flops}, memory


def _corrected(case, splits, settings):
    """One row for each split's U-Net; the start's reconstruction of its images is not counted."""
    images = jax.ShapeDtypeStruct((settings["batch"], *case.network.input_shape), jnp.float32)
    for name in splits:
        split = split_index(case.network, name)
        shape = (settings["batch"], *feature_shapes(case.network)[split])
        batch = {"images": images, "start": images, "features": jax.ShapeDtypeStruct(shape, jnp.float32)}
        module = unet.unet_for(case.network, split, settings["width"])
        params = jax.eval_shape(module.init, jax.random.key(0), images, batch["features"])
        loss = functools.partial(unet.pixel_loss, module)
        flops, memory = step_cost(loss, params, (), batch)
        yield name, settings["steps"], {settings["precision"]: flops}, memory


def _optimised(case, splits, settings):
    """One row for each split, for all inputs, private and for selection: a pass forward and back costs three forward passes."""
    count = len(case.names)
    weights = settings["total_variation"] if "num_validation" in settings and not latent_prior(case.network) else ()
    if len(weights) > 1:
        count += settings["num_validation"] * len(weights)
    for name in splits:
        flops = costs(case.network, (name,))[name]["device_flops"]
        steps = settings["steps"] * (settings.get("inner", 0) + 1)
        yield name, steps, {"float32": 3 * flops * count}, 0


COSTS = {
    solve_chain.dci: _solved,
    solve_chain.dci_shared: _shared,
    train_chain.dci_trained: _trained,
    inverse_network.inverse_network: _decoded,
    unet.unet: _corrected,
}


def step_cost(loss, variables, frozen, batch):
    """(FLOPs, bytes of memory) of one update on one device, from the traced program."""
    optimizer = optax.adam(1e-3)
    state = jax.eval_shape(optimizer.init, variables)
    arguments = loss, optimizer, _same, sharding.replicated(), variables, state, frozen, (batch,)
    traced = step().trace(*arguments, half=True)
    return count_flops(traced), peak_bytes(traced.jaxpr.jaxpr)


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
        inner = [peak_bytes(sub) - sum(map(_bytes, sub.invars)) for sub in jaxprs_in_params(equation.params)]
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
