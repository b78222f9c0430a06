"""PyTorch and JAX compute the same loss and gradient in every case that is timed, and the table says what was measured."""

import json
import math

import numpy as np
import pytest

from benchmarks import tables
from tests.conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "side_by_side"
CASES = {
    "synthesis of 32 px": lambda c: c.synthesis("cifar_resnet20", 4, 32),
    "rMLE": lambda c: c.matching("cifar_resnet20", 2, 32, "layer2.0"),
    "inverse network": lambda c: c.decoding("cifar_resnet20", 2, 32, "layer2.0", width=8),
    "divide": lambda c: c.divide("cifar_resnet20", 5, 32, "layer2.0", num_corrections=1, width=0.5),
    "conquer": lambda c: c.conquer("cifar_resnet20", 10, 32, "layer2.0", num_corrections=1, width=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_agree(name):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from benchmarks import cases, side_by_side

    for what, difference in side_by_side.gate(CASES[name](cases)).items():
        assert difference < side_by_side.TOLERANCE, what


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dead_leaves", "pink_noise"])
def test_the_same_numbers_give_the_same_procedural_images(kind):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    import jax

    from benchmarks import peer_quickstart
    from dci_jax.inputs import procedural, spectrum

    key, shape = jax.random.key(0), (8, 8, 3)
    wanted = procedural.GENERATORS[kind](key, 3, shape)
    total = sum(map(math.prod, peer_quickstart.numbers(kind, shape)))
    uniform = torch.tensor(np.asarray(jax.random.uniform(key, (3, total))))
    found = getattr(peer_quickstart, kind)(uniform, shape)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), wanted, atol=1e-4)
    bands, shift = spectrum.halved(3), np.float32([0.1, 0, -0.1])
    again = peer_quickstart.filtered(found, torch.tensor(bands), torch.tensor(shift))
    np.testing.assert_allclose(again.permute(0, 2, 3, 1), spectrum.filtered(wanted, bands, shift), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [3e-4, float("nan")])
def test_times_of_a_case_that_differs_are_said_to_say_nothing(gradient):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from benchmarks import side_by_side

    same = {"case": "a step", "gate": {"loss": 0.0, "gradient": 5e-5}, "gate_timed": {"loss": 0.0, "gradient": 1e-3}}
    assert list(side_by_side.differences(same)) == []
    (said,) = side_by_side.differences({**same, "gate": {"loss": 0.0, "gradient": gradient}})
    assert said.startswith("a step: PyTorch and JAX differ by")


def test_the_table_takes_the_fastest_pytorch_column_and_its_ratio():
    columns = {
        "jax float32": {"step_ms": [9.0, 10.0, 11.0], "images_per_s": 800.0, "compile_s": 2.04},
        "jax bfloat16": {"step_ms": [29.0, 30.4, 31.0], "images_per_s": 263.0, "compile_s": 2.0},
        "torch shipped": {"step_ms": [60.0, 70.0, 80.0], "images_per_s": 114.0},
        "torch frozen": {"step_ms": [14.0, 15.0, 16.0], "images_per_s": 533.0},
        "torch compiled": {"step_ms": [16.0, 17.0, 18.0], "images_per_s": 470.0},
    }
    ratios = {"torch shipped": [6, 7, 8], "torch frozen": [1.4, 1.52, 1.6], "torch compiled": [1.6, 1.7, 1.8]}
    row = {"case": "a step", "images": 8, "columns": columns, "ratios": ratios}
    lines = list(tables.steps({"rows": [row]}))
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert "channels_last" not in lines[0]
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells == ["a step", "8", "70", "15.0", "17.0", "10.0 (9.0-11.0)", "30", "2.0 s", "**1.52** (1.40-1.60)"]


def test_the_documented_table_is_the_measured_one():
    if not (RESULTS / "cpu.json").exists():
        pytest.skip("nothing is measured yet: python -m benchmarks.side_by_side")
    measured = json.loads((RESULTS / "cpu.json").read_text())
    assert all(max(row["gate"].values()) < 1e-4 for row in measured["rows"])
    page = (ROOT / "docs" / "speed.md").read_text()
    assert " ".join(tables.text(measured).split()) in " ".join(page.split())  # lines of prose are wrapped


def test_a_profile_becomes_shares_of_its_step():
    printed = "   200.0 ms a step: a step\n   120.0 onednn$convolution\n   120.0 oneDNN's convolutions and products\n    60.0 the rest: sums\n   180.0 all operations\n"
    assert list(tables.profiles(printed))[2:] == ["| a step | 200 | 60% | 0% | 0% | 30% |"]


def test_the_documented_profiles_are_the_measured_ones():
    page = (ROOT / "docs" / "notes" / "speed.md").read_text()
    assert "\n".join(tables.profiles((RESULTS / "profiles.txt").read_text())) in page
