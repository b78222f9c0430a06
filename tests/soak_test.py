"""A hundredth of `python -m benchmarks.soak`: bad inputs end in a result or a sentence."""

import logging

import pytest

from benchmarks import soak


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
def test_a_hundred_and_five_bad_inputs_never_end_in_a_traceback():
    found = soak.run(range(105))
    assert not found["faults"]
    kinds = {line.partition(":")[0] for line in found["counts"]}
    assert kinds == set(soak.KINDS)
    assert found["sentences"] > 20


def test_a_fault_is_called_one(monkeypatch):
    def broken(rng, folder):
        return lambda: 1 / 0

    monkeypatch.setattr(soak, "KINDS", {"broken": broken})
    assert "ZeroDivisionError" in soak.run(range(1))["faults"]["0"]
