"""Keeps a process within the memory maps that Linux allows: every compiled program takes some.

    vm.max_map_count = 65530

A program that was dropped is traced again when it is needed, so none is dropped before there are many.
"""

import jax

_MOST = 500  # programs, of some 30 maps each
_COMPILED = "/jax/core/compile/backend_compile_duration"  # also counts programs that are read from the cache on disk
_count = 0


def bound() -> None:
    """Drop the compiled programs if there are many. Call it between computations that share few."""
    global _count
    if _count > _MOST:
        jax.clear_caches()
        _count = 0


def _compiled(event: str, _seconds: float, **_) -> None:
    global _count
    _count += event == _COMPILED


jax.monitoring.register_event_duration_secs_listener(_compiled)
