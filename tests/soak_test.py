"""A little of `python -m benchmarks.soak`: bad inputs. Kills are those of faults_test.py."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.soak import folders, inputs, known
from dci_jax.errors import InputError
from tests.command_line import ROOT


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_bad_inputs_of_each_kind_never_end_in_a_traceback():
    found = inputs.run(range(2 * len(inputs.KINDS)))
    assert not found["faults"]
    kinds = {line.partition(":")[0] for line in found["counts"]}
    assert kinds == set(inputs.KINDS)
    assert len(found["said"]) > 10


@pytest.mark.slow
def test_what_is_known_to_be_wrong_is_refused_and_what_is_right_is_not(tmp_path):
    # In a process of its own: the hook that checks the shapes of signatures in tests would be the first to refuse.
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.soak", "known", "--count=40", f"--out={out}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert {line.partition(":")[0] for line in found["counts"]} == set(known.KINDS)
    assert found["counts"]["Python API: result"] > 1


def test_a_fault_is_called_one(monkeypatch):
    def broken(rng, folder):
        return lambda: 1 / 0

    monkeypatch.setitem(inputs.SETS, "broken", {"broken": broken})
    assert "ZeroDivisionError" in inputs.run(range(1), "broken")["faults"]["0"]


@pytest.mark.parametrize(("wrong", "call", "fault"), [(True, int, "Accepted"), (False, "refuse", "Refused")])
def test_a_wrong_input_that_is_accepted_and_a_right_one_that_is_refused_are_faults(monkeypatch, wrong, call, fault):
    def refuse():
        raise InputError("give another.")

    monkeypatch.setitem(
        inputs.SETS, "x", {"x": lambda *_: known.judged("x", wrong, refuse if call == "refuse" else call)}
    )
    assert fault in inputs.run(range(1), "x")["faults"]["0"]


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
