"""Divide-and-Conquer Inversion in JAX: read an input back from its features."""

import os

__version__ = "0.1.0"

# Read by XLA at JAX's first computation. On a CPU it leaves convolutions and matrix products to XLA's own
# code instead of YNNPACK, which JAX 0.10 to 0.12 take by default: on two cores up to 2 times
# as fast, for most shapes and with JAX 0.10 in particular (benchmarks/xla_flags.py).
_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
