"""How many floating-point operations a program takes, whatever device it is to run on."""

import jax
from jax.stages import Traced


def flops(traced: Traced) -> float:
    """FLOPs of a traced program, as XLA counts them for a CPU: its GPU client counts only what has been compiled."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names no CPU
        return float(traced.lower().compile().cost_analysis()["flops"])
    with jax.default_device(cpu):
        found = traced.lower(lowering_platforms=("cpu",)).cost_analysis()
    return float((found or traced.lower().compile().cost_analysis())["flops"])
