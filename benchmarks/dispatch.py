"""One update per dispatch against ten in a `lax.scan`: `python -m benchmarks.dispatch`

Prints JSON: milliseconds per update of either, alternating, and the median of the ratios of neighbours.
"""

import json
import platform
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import optax

from benchmarks.scaling import phases, same
from benchmarks.usage import arguments
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import step

REPEATS, BATCH, MANY = 8, 16, 10


def main():
    rows, optimizer = [], optax.adam(1e-3)
    for label, loss, variables, frozen, data, layout in phases("cifar_resnet20", BATCH, 32):
        variables = sharding.put(variables, layout)
        state = jax.jit(optimizer.init)(variables)

        def seconds(count, loss=loss, layout=layout, v=variables, s=state, f=frozen, d=data):
            v, s = jax.tree.map(jnp.copy, (v, s))  # donated
            start = time.perf_counter()
            for _ in range(MANY // count):
                v, s, terms = step()(loss, optimizer, same, layout, v, s, f, (d,) * count)
            jax.block_until_ready(terms)
            return (time.perf_counter() - start) / MANY

        seconds(1), seconds(MANY)  # compile
        pairs = [(seconds(1), seconds(MANY)) for _ in range(REPEATS)]
        rows.append(
            {
                "phase": label,
                "one_ms": round(1e3 * statistics.median(a for a, _ in pairs), 2),
                "ten_ms": round(1e3 * statistics.median(b for _, b in pairs), 2),
                "ten_over_one": round(statistics.median(b / a for a, b in pairs), 2),
            }
        )
    print(
        json.dumps(
            {
                "command": " ".join(["python", "-m", "benchmarks.dispatch", *sys.argv[1:]]),
                "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
                "python": platform.python_version(),
                "jax": jax.__version__,
                "images": BATCH,
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    arguments(__doc__, 0, 0)
    main()
