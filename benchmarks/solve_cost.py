"""What the inverters of a chain cost to solve, block by block: `python -m benchmarks.solve_cost resnet18 layer2.1 --side=128`

Prints JSON: for each block one batch's regressors (the block and all behind it, forwards and back), sums (of as many batches as are
summed together, for each of them) and step, each the best of three, and the solve on the host for one ridge; how many inputs there
are by the config's rule, and the seconds of a correction after the first. `--devices=8` makes eight of a CPU: what sharing costs, no
speed-up. Weights are random: none of this depends on them.
"""

import argparse
import json
import math
import os
import platform
import sys
import time

from benchmarks import command

CPU_DEVICES = "--xla_force_host_platform_device_count="


def rows(name, split, side, batch, settings):
    """One dict for each inverter of the chain, the deepest first."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dci_jax import models
    from dci_jax.dci import cost, inverter, normal_equations, ridge
    from dci_jax.dci.blocks import split_stages
    from dci_jax.dci.solve_inverter import together
    from dci_jax.inputs.procedural import GENERATORS
    from dci_jax.network import features_at, split_index
    from dci_jax.runtime import sharding

    network = sharding.put(split_stages(models.MODELS[name].build(jax.random.key(0))), sharding.replicated())
    depth = split_index(network, split)
    images = GENERATORS["dead_leaves"](jax.random.key(1), batch, (side, side, 3))
    features = [sharding.put(images, sharding.batch_sharded())]
    small = network.replace(input_shape=(side, side, 3))
    features += [features_at(small, index + 1, features[0]) for index in range(depth)]
    found = [inverter.inverter_spec(small, index, depth) for index in range(depth)]
    sizes = [inverter.kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"]) for g in found]
    least, most, equations = (settings[field] for field in ("num_validation", "num_images", "samples_per_unknown"))
    counts = inverter.enough(found, sizes, most, least, equations)
    for index in reversed(range(depth)):
        g, (_, size), seen, f, true = found[index], sizes[index], features[depth], features[index + 1], features[index]
        estimate = 0.9 * true
        u = inverter.regressors(g, network, seen, f, estimate)
        some = together(size, math.ceil(counts[index] / batch), batch, math.prod(u.shape[:3]), g.channels)
        sums = [u] * some, [estimate] * some, [true] * some
        unknowns = size**2 * g.channels
        kernel = jnp.zeros((size, size, g.channels, g.target))
        pixels = np.random.default_rng(0).normal(size=(2 * unknowns, min(unknowns, 512)))
        matrix = np.eye(unknowns) + np.cov(pixels[:unknowns]) if unknowns > 1 else np.eye(1)
        normal = normal_equations.Normal(matrix, np.ones((unknowns, g.target)))
        row = {
            "block": network.blocks[index].name,
            "grid": list(u.shape[1:3]),
            "channels": g.channels,
            "neighbourhood": size,
            "unknowns": unknowns,
            "inputs": counts[index],
            "regressors_s": best(inverter.regressors, g, network, seen, f, estimate),
            "sums_s": round(best(inverter.correction_moments, size, g, *sums, some) / some, 4),
            "step_s": best(inverter.moved, g, kernel, u, estimate),
            "solve_s": best(ridge.solve, normal, 1e-3),
        }
        gflop = batch * cost.sums_flops(g, sizes[index], *u.shape[1:3])[1] / 1e9
        row["sums_gflop_per_s"] = round(gflop / row["sums_s"])
        each = sum(row[part] for part in ("regressors_s", "sums_s", "step_s")) * counts[index] / batch
        row["round_s"] = round(each + row["solve_s"], 2)
        yield row


def best(function, *arguments):
    """Seconds, compilation left out."""
    import jax

    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return round(min(times), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("split")
    parser.add_argument("--side", type=int, default=32, help="pixels of the inputs that it is solved on")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--devices", type=int, default=1)
    given = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CPU_DEVICES}{given.devices}"
    import jax

    from benchmarks.device_rates import matrix_product_rate
    from configs import default
    from dci_jax.runtime import process

    process.prepare()
    settings = default.get_config().dci.to_dict()
    result = {
        "command": command("benchmarks.solve_cost", *sys.argv[1:]),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "product_gflop_per_s": round(matrix_product_rate("float32") / 1e9),  # of two matrices of 2048
        "rows": list(rows(given.network, given.split, given.side, given.batch, settings)),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
