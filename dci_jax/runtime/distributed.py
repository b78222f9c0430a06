"""The processes of a run, one per host or more: how they find each other, which one leads, how they stop together."""

import ctypes
import os
import signal
import sys
import threading
import warnings

import jax
import numpy as np
from jax.experimental import multihost_utils

from dci_jax.errors import InputError, reason

_HEARTBEAT_SECONDS = 60  # a process that was silent so long is taken for dead
_LOST = ("Gloo", "peer", "UNAVAILABLE", "coordination", "heartbeat", "NCCL", "ABORTED")
_stop = threading.Event()
_polls = [0]


class Preempted(Exception):
    """The run was asked to stop (SIGTERM) and has saved what it had; the same command line goes on."""


def connect(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Join the other processes of this run, if there are any; before anything asks for a device.

    SLURM steps, Open MPI, Cloud TPU and TPU node pools on GKE are recognised by JAX itself.

    Args:
      coordinator: HOST:PORT of process 0, for all other places.
      processes: how many there are; with `coordinator`.
      process: which one this is, from 0; with `coordinator`.

    Raises:
      InputError: half of the three are given, or the others cannot be reached.
    """
    given = {"coordinator": coordinator, "processes": processes > 0, "process": process >= 0}
    if any(given.values()):
        port = coordinator.rpartition(":")[2]
        listens = ":" in coordinator and port.isascii() and port.isdigit() and 0 < int(port) < 65536
        if not all(given.values()) or process >= processes or not listens:
            raise InputError(
                f"--coordinator={coordinator} --processes={processes} --process={process} do not say "
                "where process 0 listens (HOST:PORT), how many processes there are, and which from 0 this is."
            )
        where = dict(coordinator_address=coordinator, num_processes=processes, process_id=process)
        where |= dict(cluster_detection_method="deactivate")
    else:
        where = {}
    try:
        with warnings.catch_warnings():  # of Kubernetes, where the flags above say who is who
            warnings.simplefilter("ignore")
            jax.distributed.initialize(**where, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except ValueError:
        if where:
            raise
        listen()  # no cluster: a single process
    except RuntimeError as error:
        raise InputError(
            f"The processes of this run did not find each other ({reason(error)}); start all "
            "of them at the same time, and see that they reach process 0."
        ) from error


def listen() -> None:
    """Note SIGTERM instead of dying of it. With several processes JAX does this, for all of them at once."""
    signal.signal(signal.SIGTERM, lambda *_: _stop.set())


def preempted() -> bool:
    """Whether to save and stop now: True on every process at the same call, after one got SIGTERM.

    Cheap enough for every step. All processes must call it equally often.
    """
    if not jax.distributed.is_initialized():
        return _stop.is_set()
    _polls[0] += 1
    return multihost_utils.reached_preemption_sync_point(_polls[0])


def stop_if_asked() -> None:
    """Raise `Preempted` if `preempted()`; for places where nothing has to be saved."""
    if preempted():
        raise Preempted


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def trim() -> None:
    """Give freed memory back to the system: glibc keeps gigabytes of it in pieces, beside which a large matrix has no room."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


def is_leader() -> bool:
    """Whether this process writes the files that only one may write."""
    return jax.process_index() == 0


def broadcast(value: bool | np.ndarray) -> bool | np.ndarray:
    """The leading process's value, on every process: what they all decide by must be the same."""
    if jax.process_count() == 1:
        return value
    found = multihost_utils.broadcast_one_to_all(value)
    return np.asarray(found) if isinstance(value, np.ndarray) else bool(found)


def barrier(place: str) -> None:
    """Wait until every process is here, so that what one has written the others can read."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def lost(error: Exception) -> bool:
    """Whether a runtime error says that another process of this run is gone, rather than a fault of its own."""
    text = str(error)
    return jax.process_count() > 1 and any(word in text for word in _LOST)
