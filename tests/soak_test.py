"""A little of `python -m benchmarks.soak`: bad inputs, damaged runs, kills."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.soak import folders, inputs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
def test_a_hundred_and_five_bad_inputs_never_end_in_a_traceback():
    found = inputs.run(range(105))
    assert not found["faults"]
    kinds = {line.partition(":")[0] for line in found["counts"]}
    assert kinds == set(inputs.KINDS)
    assert len(found["said"]) > 20


def test_a_fault_is_called_one(monkeypatch):
    def broken(rng, folder):
        return lambda: 1 / 0

    monkeypatch.setattr(inputs, "KINDS", {"broken": broken})
    assert "ZeroDivisionError" in inputs.run(range(1))["faults"]["0"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("kills", 1), ("runs", 1)])
def test_a_little_of_the_soak_finds_no_fault(tmp_path, kind, count):
    """In a process of its own: it forks, which one that has computed may not."""
    command = [sys.executable, "-m", "benchmarks.soak", kind, f"--count={count}", f"--out={tmp_path / 'x.json'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["faults"] in ([], {})
    assert sum((found["hits"] if kind == "kills" else found["counts"]).values()) >= count


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
