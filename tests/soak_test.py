"""A little of `python -m benchmarks.soak`: bad inputs. Kills are those of faults_test.py."""

import logging

import numpy as np
import pytest

from benchmarks.soak import folders, inputs


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
def test_two_bad_inputs_of_each_kind_never_end_in_a_traceback():
    found = inputs.run(range(2 * len(inputs.KINDS)))
    assert not found["faults"]
    kinds = {line.partition(":")[0] for line in found["counts"]}
    assert kinds == set(inputs.KINDS)
    assert len(found["said"]) > 10


def test_a_fault_is_called_one(monkeypatch):
    def broken(rng, folder):
        return lambda: 1 / 0

    monkeypatch.setattr(inputs, "KINDS", {"broken": broken})
    assert "ZeroDivisionError" in inputs.run(range(1))["faults"]["0"]


def test_folders_that_differ_are_told(tmp_path):
    for name, last in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name / "attacks").mkdir(parents=True)
        np.savez(tmp_path / name / "attacks" / "0.npz", x=np.array([0, last]))
        (tmp_path / name / "results.jsonl").write_text("{}\n")
    assert folders.differences(tmp_path / "a", tmp_path / "b") == []
    assert folders.differences(tmp_path / "a", tmp_path / "c") == ["attacks/0.npz differs"]
    (tmp_path / "b" / "results.jsonl.part").write_text("{")
    (tmp_path / "b" / "results.jsonl").unlink()
    told = folders.differences(tmp_path / "a", tmp_path / "b")
    assert told == ["results.jsonl is missing", "results.jsonl.part is left"]
