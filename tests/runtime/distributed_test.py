"""How a process learns that it is alone, and that it is to stop."""

import ctypes
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from dci_jax.errors import InputError
from dci_jax.runtime import distributed


@pytest.fixture
def undisturbed():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    distributed._stop.clear()


def test_sigterm_is_noted_and_asked_for(undisturbed):
    distributed.listen()
    assert not distributed.preempted()
    distributed.stop_if_asked()
    os.kill(os.getpid(), signal.SIGTERM)
    assert distributed.preempted()
    with pytest.raises(distributed.Preempted):
        distributed.stop_if_asked()


@pytest.mark.parametrize(
    "given",
    [("localhost:1", 2, -1), ("localhost:1", 0, 0), ("", 2, 1), ("localhost", 2, 1), ("localhost:1", 2, 2)],
)
def test_half_of_what_processes_need_is_bad_input(given):
    with pytest.raises(InputError, match="which from 0"):
        distributed.connect(*given)


def test_a_process_alone_leads_agrees_and_waits_for_nobody():
    assert distributed.is_leader()
    assert distributed.broadcast(True)
    assert not distributed.broadcast(False)
    distributed.barrier("anywhere")
    assert not distributed.lost(RuntimeError("Gloo: Connection closed by peer"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what was freed")
def test_freed_memory_goes_back_to_the_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pieces = [np.ones(12_500) for _ in range(4000)]  # 400 MB in pieces that are too small for pages of their own
    between = pieces[::10]  # so that the others are not at the end, where they would go back by themselves
    del pieces
    before = resident()
    distributed.trim()
    assert resident() < before - 200e6
    assert all(piece.all() for piece in between)
