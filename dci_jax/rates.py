"""How fast this machine does what a run is made of: measured in a few seconds, on an idle machine once, and kept beside the compiled programs.

A matrix product says little: on a CPU convolutions and their gradients reach other shares of its rate than sums of normal equations,
and a factorisation in float64 another again.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from dci_jax.dci import normal_equations
from dci_jax.dci.ridge import on_gpu
from dci_jax.runtime import sharding
from dci_jax.runtime.files import replacing
from dci_jax.runtime.flops import flops
from dci_jax.runtime.training_loop import step, take_step

FILE = "rates.json"
BUSY = 0.5  # load for each core from which on a measurement says little
_UNKNOWNS = 4000


@dataclass(frozen=True)
class Rates:
    """Rates of one device.

    Attributes:
      products: FLOP/s of the sums of normal equations of single pixels, in float32: matrix products.
      sums: the same of neighbourhoods: by frequencies.
      factorisation: FLOP/s of a Cholesky factorisation, in float64.
      float32, bfloat16: FLOP/s of an update through convolutions, forward and back.
      compiling: seconds that XLA takes for that update, a middling program.
    """

    products: float
    sums: float
    factorisation: float
    float32: float
    bfloat16: float
    compiling: float


def rates() -> Rates:
    """This machine's, kept from when it was idle, or measured now."""
    folder = jax.config.jax_compilation_cache_dir
    file = Path(folder) / FILE if folder else None
    machine = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}"
    try:
        kept = json.loads(file.read_text()) if file else {}
        return Rates(**kept[machine])
    except (OSError, ValueError, KeyError, TypeError):
        found = measured()
    if file and load() < BUSY:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            json.dump({machine: dataclasses.asdict(found)}, stream)
    return found


def load() -> float:
    """Processes that want to compute, of all programs over the last minute, for each core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def measured() -> Rates:
    """The rates here and now."""
    single, compiling = _update(jnp.float32)
    half, _ = _update(jnp.bfloat16)
    return Rates(_sums(1), _sums(3), _factorisation(), single, half, compiling)


def _sums(size):
    # Small ones wait for other things than arithmetic, few images for what all images cost once.
    u, t = (jnp.ones((128, 14, 14, c)) for c in (256, 128))
    work = 128 * normal_equations.flops(size, 14, 14, 256, 128)
    return work / _seconds(lambda: jax.block_until_ready(normal_equations.moments(size, (u,), (t,))))


def _factorisation():
    places = np.arange(_UNKNOWNS)
    matrix = np.eye(_UNKNOWNS) + 1 / (1.0 + places[:, None] + places)  # Hilbert's, which is positive semi-definite
    if not on_gpu(_UNKNOWNS):
        return _UNKNOWNS**3 / 3 / _seconds(lambda: scipy.linalg.cho_factor(matrix))
    with jax.enable_x64(True):
        there, factor = jnp.asarray(matrix), jax.jit(jnp.linalg.cholesky)
        return _UNKNOWNS**3 / 3 / _seconds(lambda: factor(there).block_until_ready())


def _update(dtype):
    """(FLOP/s, seconds of compiling) of an update of three convolutions of 64 channels."""
    kernels = [jnp.full((3, 3, c, 64), 0.01, dtype) for c in (3, 64, 64)]
    images = jax.random.normal(jax.random.key(0), (16, 32, 32, 3), dtype)
    optimizer = optax.sgd(1e-3)
    arguments = _loss, optimizer, _same, sharding.replicated()
    work = flops(step().trace(*arguments, kernels, optimizer.init(kernels), (), (images,), half=True))

    def once():
        new = jax.tree.map(jnp.copy, kernels)
        jax.block_until_ready(take_step(*arguments, new, optimizer.init(new), (), (images,)))

    began = time.perf_counter()
    once()
    first = time.perf_counter() - began
    each = _seconds(once)
    return work / each, max(first - each, 0.0)


def _loss(kernels, frozen, x):
    for kernel in kernels:
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
    return jnp.mean(jnp.float32(x)), {}


def _same(variables):
    return variables


def _seconds(call: Callable[[], object]) -> float:
    """Of one call: the better of two, after one that compiles."""
    call()
    found = []
    for _ in range(2):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)
