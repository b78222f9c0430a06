"""timm imports torchvision, whose wheels for GPUs do not load beside PyTorch's for CPUs, for want of two operators."""

import contextlib

import pytest


@pytest.fixture
def timm():
    torch = pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pytest.skip("no torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
    return pytest.importorskip("timm")
