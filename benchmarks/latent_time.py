"""What a generator's latents cost to read back: DCI's pass beside steps of latent optimisation and of Gauss-Newton.

    python -m benchmarks.latent_time sngan_narrow [WEIGHTS]

Takes configs/NAME.py; the inverters' weights are random, which costs the same. Prints JSON: milliseconds for
each latent in batches of `config.batch`, medians of turns that alternate, and how many steps take as long as a
pass, and a hundred times as long.
"""

import functools
import importlib
import json
import platform
import statistics
import sys
import time

import jax

from benchmarks.usage import arguments
from dci_jax import models
from dci_jax.attacks.gauss_newton import gauss_newton
from dci_jax.attacks.rmle import rmle
from dci_jax.dci.chain import Chain
from dci_jax.dci.trained.train_chain import initialize, of_phases, phases
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.inputs.latents import LATENTS
from dci_jax.network import run
from dci_jax.runtime import sharding

REPEATS, STEPS = 20, 20  # steps of latent optimisation in each turn; a single one of Gauss-Newton


def readers(config, network):
    """Name -> a function from features to latents."""
    last = network.blocks[-1].name
    modules, _ = phases(network, (last,), **of_phases(config.dci_trained))
    params = initialize(modules, network, jax.random.key(0))
    inverters = [TrainedInverter(params[i], modules[i], i) for i in reversed(range(len(modules)))]
    chain = Chain.of(inverters, network, last)
    optimise = rmle(
        network,
        None,
        (last,),
        None,
        None,
        steps=STEPS,
        learning_rate=config.rmle.learning_rate,
        total_variation=0.0,
    )[last]
    newton = gauss_newton(network, None, (last,), None, None, steps=1, damping=config.gauss_newton.damping)[last]
    return {
        "dci_trained": functools.partial(jax.jit(lambda chain, features: chain(features)), chain),
        "latent optimisation": optimise,
        "gauss_newton": newton,
    }


def main(name, weights=""):
    config = importlib.import_module(f"configs.{name}").get_config()
    network = sharding.put(models.load(config.target.name, weights), sharding.replicated())
    draw = LATENTS[network.latent]
    images = run(network, draw(jax.random.key(1), config.batch, network.input_shape))
    columns = readers(config, network)
    times = {label: [] for label in columns}
    for turn in range(REPEATS + 1):  # the first turn compiles
        for label, read in columns.items():
            start = time.perf_counter()
            jax.block_until_ready(read(images))
            if turn:
                times[label].append(time.perf_counter() - start)
    steps = {"dci_trained": 1, "latent optimisation": STEPS, "gauss_newton": 1}
    each = {label: statistics.median(t) / steps[label] for label, t in times.items()}
    rows = {
        label: {
            "ms_a_code": round(1e3 * seconds / config.batch, 4),
            "steps_as_long_as_a_pass": round(each["dci_trained"] / seconds, 2),
            "steps_a_hundred_times_as_long": round(100 * each["dci_trained"] / seconds, 1),
        }
        for label, seconds in each.items()
    }
    rows["dci_trained"] = {"ms_a_code": rows["dci_trained"]["ms_a_code"]}
    print(
        json.dumps(
            {
                "command": " ".join(["python", "-m", "benchmarks.latent_time", *sys.argv[1:]]),
                "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
                "python": platform.python_version(),
                "jax": jax.__version__,
                "latents": config.batch,
                "one": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main(*arguments(__doc__, 1, 2))
