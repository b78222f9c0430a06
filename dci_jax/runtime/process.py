"""What a program of this project, but no import of it, changes in its process: XLA's flags and other libraries' noise."""

import logging
import os
import signal
import sys
import threading

import jax

# On a CPU it leaves convolutions and matrix products to XLA's own code instead of YNNPACK, which JAX 0.10 to 0.12
# take by default: faster for most shapes, with JAX 0.10 in particular.
_FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def prepare() -> None:
    """Call it before JAX's first computation, which reads XLA's flags."""
    if _FLAG not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
    # On a GPU JAX would round what it multiplies to TF32 (three digits), on a TPU to bfloat16 (two): float32 means float32
    # here, because an inverter is corrected by the difference of two features that are nearly equal. What may be computed
    # in bfloat16 has a field of its own.
    if not jax.config.jax_default_matmul_precision:  # JAX_DEFAULT_MATMUL_PRECISION
        jax.config.update("jax_default_matmul_precision", "highest")
    # Orbax reports every file there, and what it raises as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Where one file cannot be written, the others that were under way complain too, with a traceback each: the
    # first is raised, and says it all.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if sys.unraisablehook is not _first_only:
        _others.append(sys.unraisablehook)
        sys.unraisablehook = _first_only


_others = []


def _first_only(unraisable) -> None:
    if unraisable.exc_type is KeyboardInterrupt:
        # Ctrl-C arrived in a callback of the garbage collector, which ignores what is raised there: once more, later.
        threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        _others[-1](unraisable)
