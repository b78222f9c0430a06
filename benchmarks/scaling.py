"""How cost grows with batch, devices and images: `python -m benchmarks.scaling [--network=resnet18 --size=224] > FILE`

Prints JSON. For each phase (synthesis, divide, conquer) and batch: seconds per step (median, quartiles),
images per second, FLOPs of the whole step, and the memory that the compiler plans on each device; then
whole syntheses of more and more images, with the process's largest memory. On a
CPU the devices are pieces of the same cores, so more of them show that it works and what splitting
costs, never a speed-up; on GPUs `--devices=1,2,4,8` takes that many of them.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

CPU_DEVICES = "--xla_force_host_platform_device_count="


def phases(name, batch, size):
    """Phase -> (loss, variables, frozen, batch, layout) of one step, on the mesh."""
    import jax
    import numpy as np

    from dci_jax import models
    from dci_jax.dci.trained import train_chain
    from dci_jax.inputs.synthesis import synthesis_loss
    from dci_jax.network import classes, split_names
    from dci_jax.runtime import sharding

    network = models.MODELS[name].build(jax.random.key(0))
    network = sharding.put(network, sharding.replicated())
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(batch, size, size, 3)).astype(np.float32)
    images = sharding.put(images, sharding.batch_sharded())
    labels = sharding.put(rng.integers(0, classes(network), batch), sharding.batch_sharded())
    names = ("statistics", "cross_entropy", "total_variation", "l2", "first")
    weights = sharding.put({n: np.float32(1) for n in names}, sharding.replicated())
    loss = functools.partial(synthesis_loss, 2, 1)
    yield "synthesis", loss, images, (network, labels, weights), jax.random.key(0), sharding.batch_sharded()
    split = split_names(network)[4]
    modules, stages = train_chain.phases(
        network,
        (split,),
        width=1.0,
        cap=128,
        num_corrections=1,
        depth=2,
        distance="l1",
        layer=1.0,
        image=1.0,
        cycle=1.0,
        remat=False,
        learning_rate=1e-3,
        divide_steps=1,
        conquer_learning_rate=1e-3,
        conquer_warmup=0,
        conquer_clip=float("inf"),
        conquer=((split, 1),),
        deepest_steps=0,
    )
    params = train_chain.initialize(modules, network, jax.random.key(1))
    for label, stage in zip(("divide", "conquer"), stages, strict=True):
        yield label, stage.loss, params, network, images, sharding.replicated()


def measure(name, batch, size, repeats):
    """The rows of one batch size on the devices that this process has."""
    import jax
    import jax.numpy as jnp
    import optax

    from dci_jax.runtime import sharding
    from dci_jax.runtime.training_loop import step

    rows, optimizer = [], optax.adam(1e-3)
    for label, loss, variables, frozen, data, layout in phases(name, batch, size):
        variables = jax.tree.map(jnp.copy, sharding.put(variables, layout))
        state = jax.jit(optimizer.init)(variables)
        arguments = loss, optimizer, same, layout
        compiled = step().lower(*arguments, variables, state, frozen, (data,)).compile()
        memory = compiled.memory_analysis()
        times = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            variables, state, terms = compiled(variables, state, frozen, (data,))
            jax.block_until_ready(terms)
            times.append(time.perf_counter() - start)
        quartiles = statistics.quantiles(times[2:], n=4)
        total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        rows.append(
            {
                "phase": label,
                "devices": jax.device_count(),
                "batch": batch,
                "step_s": round(quartiles[1], 5),
                "step_s_quartiles": [round(quartiles[0], 5), round(quartiles[2], 5)],
                "images_per_s": round(batch / quartiles[1], 2),
                "gflop_per_image": round(_flops(compiled) * jax.device_count() / batch / 1e9, 4),
                "planned_mib_per_device": round(total / 2**20, 1),
                "peak_mib_of_device_0": used and round(used / 2**20, 1),
            }
        )
    return rows


def synthesise(name, count, repeats):
    """Seconds, and MiB of memory and disk, for `count` batches of 64 images of 10 updates."""
    import resource
    import tempfile
    from pathlib import Path

    import jax

    from configs import default
    from dci_jax import models
    from dci_jax.inputs import synthesis
    from dci_jax.runtime import sharding

    settings = default.get_config().synthesis.to_dict()
    network = sharding.put(models.MODELS[name].build(jax.random.key(0)), sharding.replicated())
    settings |= {"batches": count, "batch": 64, "stages": ((network.input_shape[0], repeats),)}
    with tempfile.TemporaryDirectory() as folder:
        one = settings | {"batches": 1}
        synthesis.synthesize(network, jax.random.key(0), Path(folder) / "warm", **one)
        start = time.perf_counter()
        synthesis.synthesize(network, jax.random.key(1), Path(folder) / "timed", **settings)
        seconds = time.perf_counter() - start
        disk = sum(f.stat().st_size for f in (Path(folder) / "timed").iterdir())
    return {
        "synthesised": 64 * count,
        "updates": repeats,
        "s": round(seconds, 2),
        "images_per_s": round(64 * count / seconds, 2),
        "process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "disk_mib": round(disk / 2**20, 2),
    }


def same(variables):
    """No projection."""
    return variables


def _numbers(text):
    return [int(number) for number in text.split(",") if number]


def _flops(compiled):
    cost = compiled.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="cifar_resnet20")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--batches", default="16,32,64,128")
    parser.add_argument("--devices", default="1,2,4,8")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--counts", default="", help="syntheses of so many batches of 64 images")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = parser.parse_args()
    if given.here:
        import jax

        rows = [r for b in _numbers(given.batches) for r in measure(given.network, b, given.size, given.repeats)]
        rows += [synthesise(given.network, n, given.repeats) for n in _numbers(given.counts)]
        print(json.dumps({"kind": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": rows}))
        return
    found = []
    # The batches are measured on one device; more devices share the largest. A synthesis has a process of its own.
    largest = given.batches.split(",")[-1]
    parts = [(d, given.batches if d == "1" else largest, "") for d in given.devices.split(",")]
    parts += [("1", "", str(n)) for n in _numbers(given.counts)]
    for count, batches, counts in parts:
        more = {"XLA_FLAGS": CPU_DEVICES + count} | (
            {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(int(count))))}
            if "CUDA_VISIBLE_DEVICES" not in os.environ
            else {}
        )
        arguments = [f"--network={given.network}", f"--size={given.size}", f"--batches={batches}", f"--counts={counts}"]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling", "--here", f"--repeats={given.repeats}", *arguments],
            env=os.environ | more,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    result = {
        "command": " ".join(["python", "-m", "benchmarks.scaling", *sys.argv[1:]]),
        "device": f"{found[0]['kind']}, {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "jax": found[0]["jax"],
        "network": given.network,
        "size": given.size,
        "rows": [row for part in found for row in part["rows"]],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
