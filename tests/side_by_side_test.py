"""PyTorch and JAX compute the same loss and gradient in every case that is timed, and the table says what was measured."""

import pytest

CASES = {
    "synthesis of 32 px": lambda c: c.synthesis("cifar_resnet20", 4, 32),
    "synthesis of 64 px": lambda c: c.synthesis("resnet18", 2, 64),
    "rMLE": lambda c: c.matching("cifar_resnet20", 2, 32, "layer2.0"),
    "inverse network": lambda c: c.decoding("cifar_resnet20", 2, 32, "layer2.0", width=8),
    "divide": lambda c: c.divide("cifar_resnet20", 5, 32, "layer2.0", rounds=1, width=0.5),
    "conquer": lambda c: c.conquer("cifar_resnet20", 10, 32, "layer2.0", rounds=1, width=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_agree(name):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from benchmarks import cases, side_by_side

    for what, difference in side_by_side.gate(CASES[name](cases)).items():
        assert difference < side_by_side.TOLERANCE, what
