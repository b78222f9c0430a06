import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dci_jax.errors import InputError
from dci_jax.models import lpips

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints with the published names and shapes, random numbers in them."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("lpips")
    backbone = {"classifier.1.weight": np.zeros((8, 8), np.float32)}
    for number, shape in SHAPES.items():
        backbone[f"features.{number}.weight"] = np.float32(rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape))
        backbone[f"features.{number}.bias"] = np.float32(rng.normal(0, 0.1, shape[0]))
    linear = {f"lin{i}.model.1.weight": np.float32(rng.random((1, s[0], 1, 1))) for i, s in enumerate(SHAPES.values())}
    save_file(backbone, folder / "alexnet.safetensors")
    save_file(linear, folder / "alex.safetensors")
    return folder


def pair(size):
    rng = np.random.default_rng(1)
    return (np.float32(rng.random((2, size, size, 3))) for _ in range(2))


def test_it_is_nothing_between_equal_images_and_grows_with_noise(files):
    weights = lpips.load(files / "alexnet.safetensors", files / "alex.safetensors")
    a, b = pair(64)
    assert float(np.abs(lpips.lpips(weights, a, a)).max()) == 0
    near, far = (lpips.lpips(weights, a, a + share * (b - a)) for share in (0.1, 0.9))
    assert (np.asarray(near) < np.asarray(far)).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 224])
def test_it_equals_the_published_formula_in_pytorch(files, size):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    weights = lpips.load(files / "alexnet.safetensors", files / "alex.safetensors")
    a, b = pair(size)

    def taps(x):
        x = torch.tensor(x).permute(0, 3, 1, 2) * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
            1, 3, 1, 1
        )
        for number in SHAPES:
            if number in (3, 6):
                x = torch.nn.functional.max_pool2d(x, 3, 2)
            w = torch.tensor(np.array(weights[f"features.{number}.weight"]).transpose(3, 2, 0, 1).copy())
            stride, pad = (4, 2) if number == 0 else (1, w.shape[-1] // 2)
            bias = torch.tensor(np.array(weights[f"features.{number}.bias"]))
            x = torch.relu(torch.nn.functional.conv2d(x, w, bias, stride, pad))
            yield x

    expected = 0
    for tap, (x, y) in enumerate(zip(taps(a), taps(b), strict=True)):
        x, y = (z / (z.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y))
        linear = torch.tensor(np.array(weights[f"lin{tap}.model.1.weight"]))
        expected += torch.nn.functional.conv2d((x - y) ** 2, linear).mean((1, 2, 3))
    np.testing.assert_allclose(jax.jit(lpips.lpips)(weights, a, b), expected, rtol=1e-4)


def test_other_weights_are_refused(files):
    with pytest.raises(InputError, match=r"features.0.weight is no such key, not \[64, 3, 11, 11\]"):
        lpips.load(files / "alex.safetensors", files / "alexnet.safetensors")
