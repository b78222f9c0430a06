"""From counted FLOPs to hours on 8 GPUs and on a TPU pod: `python -m benchmarks.extrapolate` prints docs/scaling.md's tables.

An estimate: counted are the FLOPs of the program that runs (a multiply-add counts 2); assumed are the
share of the peak and that devices add up. The peaks are the vendors', dense, in bfloat16; chains are solved in float32.
"""

import functools
import math

import jax
import jax.numpy as jnp

from benchmarks.usage import arguments
from configs import paper, resnet18, resnet50
from dci_jax import models
from dci_jax.dci import cost
from dci_jax.dci.blocks import split_stages
from dci_jax.dci.trained import train_chain
from dci_jax.dci.trained.train_chain import of_phases
from dci_jax.inputs.synthesis import synthesis_loss
from dci_jax.network import split_index, split_names, with_dtype
from dci_jax.plan import SHARE, step_cost

EXACT = {  # FLOP/s of a device in float32 without TF32; a TPU's is six passes in bfloat16
    "8 x A100-80GB": 19.5e12,
    "8 x H100 SXM": 67e12,
    "TPU v5e-256": 197e12 / 6,
}
FACTORS = {  # FLOP/s in float64 of what factors: a share of one GPU, a TPU's host of some 32 cores; assumed
    "8 x A100-80GB": SHARE * 19.5e12,
    "8 x H100 SXM": SHARE * 67e12,
    "TPU v5e-256": 1e12,
}
MACHINES = (  # name, devices, peak FLOP/s of one in bfloat16, bytes/s between devices of one
    ("8 x A100-80GB", 8, 312e12, 300e9),
    ("8 x H100 SXM", 8, 989e12, 450e9),
    ("TPU v5e-256", 256, 197e12, 200e9),
)
IMAGES = 140_000  # as many as the paper synthesises


def counted(config):
    """(FLOPs of one synthesised image, FLOPs of one image in a divide step, in the last conquer step, parameters)."""
    network = models.MODELS[config.target.name].build(jax.random.key(0))
    network = with_dtype(network, "bfloat16")
    batch, synthesised = 4, 0.0
    for side, steps in config.synthesis.stages:
        loss = functools.partial(synthesis_loss, 0, network.input_shape[0] // side)
        images = jax.ShapeDtypeStruct((batch, *network.input_shape), jnp.float32)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
        names = ("statistics", "cross_entropy", "total_variation", "l2", "first")
        weights = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
        flops, _ = step_cost(loss, images, (network, labels, weights), jax.random.key(0))
        synthesised += steps * flops / batch
    splits = tuple(config.splits) or split_names(network)
    modules, phases = train_chain.phases(network, splits, **of_phases(config.dci_trained))
    params = jax.eval_shape(functools.partial(train_chain.initialize, modules, network), jax.random.key(0))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    many = len(modules)
    images = jax.ShapeDtypeStruct((many, *network.input_shape), jnp.float32)
    per_image = [step_cost(phase.loss, params, network, images)[0] / many for phase in (phases[0], phases[-1])]
    return synthesised, *per_image, count


def solved(config, split, **other):
    """(FLOPs that devices share, FLOPs of the factorisations, bytes that each device sends) of the chain of a split."""
    settings = config.dci.to_dict() | other
    side = other.get("side", config.inputs.side)
    network = split_stages(
        models.MODELS[config.target.name].build(jax.random.key(0)).replace(input_shape=(side, side, 3))
    )
    depth = split_index(network, split)
    found = cost.flops(network, cost.inverter_specs(network, depth, settings), settings)
    return found["products"] + found["sums"] + found["passes"], found["factorisation"], found["sent"]


def chains():
    """The table of chains: seconds on each machine of what is shared, of the factorisations, and of the traffic."""
    many = {
        "num_images": 8192,
        "num_validation": 256,
        "batch": 256,
        "num_corrections": 2,
        "max_unknowns": (18500, 9300),
    }
    rows = [(resnet18.get_config(), "layer2.1", {}), (resnet50.get_config(), "layer2.3", {})]
    rows += [(resnet50.get_config(), "layer4.2", many | {"samples_per_unknown": 50, "side": 224})]
    machines = list(EXACT)
    yield "| chain | shared, PFLOP | factorisations, TFLOP | " + " | ".join(f"{m}, s" for m in machines) + " |"
    yield "|---" * (3 + len(machines)) + "|"
    for config, split, other in rows:
        shared, factors, sent = solved(config, split, **other)
        cells = []
        for name, devices, _, link in MACHINES:
            parts = shared / (SHARE * devices * EXACT[name]), factors / FACTORS[name], 2 * sent / link
            cells.append(" + ".join(f"{part:.1f}" for part in parts))
        size = f", {other['num_images']} images at {other['side']} px" if other else ""
        yield (
            f"| {config.target.name}, `{split}`{size} | {shared / 1e15:.2f} | {factors / 1e12:.1f} | "
            + " | ".join(cells)
            + " |"
        )


def main():
    print(*chains(), sep="\n", end="\n\n")
    for config in (paper.get_config("resnet18"), paper.get_config("resnet50")):
        synthesised, divide, conquer, count = counted(config)
        steps = config.dci_trained.divide_steps, sum(n for _, n in config.dci_trained.conquer)
        images = config.dci_trained.batch
        training = images * (steps[0] * divide + steps[1] * conquer)
        stages = " + ".join(f"{n} at {side} px" for side, n in config.synthesis.stages)
        print(
            f"**{config.target.name}**: one synthesised image ({stages}) {synthesised / 1e12:.1f} TFLOP; "
            f"{IMAGES:,} of them {IMAGES * synthesised / 1e18:.2f} EFLOP. One image in a divide step {divide / 1e9:.0f} GFLOP, in a "
            f"conquer step (at most) {conquer / 1e9:.0f}; {steps[0]} + {steps[1]} steps of {images} images {training / 1e15:.1f} PFLOP. "
            f"Inverters: {count / 1e6:.0f} million parameters, {4 * count / 1e9:.2f} GB of gradients per step.\n"
        )
        print(
            f"| machine | synthesised images/s | hours for {IMAGES:,} | hours of training | ms per image and device: divide, conquer | ms per step for the gradients |"
        )
        print("|---|---|---|---|---|---|")
        for name, devices, peak, link in MACHINES:
            rate = SHARE * devices * peak
            one = SHARE * peak / 1e3
            traffic = 1e3 * 2 * 4 * count / link
            print(
                f"| {name} | {rate / synthesised:.0f} | {IMAGES * synthesised / rate / 3600:.2f} | {training / rate / 3600:.2f} | "
                f"{divide / one:.1f}, {conquer / one:.1f} | {traffic:.0f} |"
            )
        print()


if __name__ == "__main__":
    arguments(__doc__, 0, 0)
    main()
