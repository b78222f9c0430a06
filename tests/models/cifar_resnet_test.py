from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dci_jax import network as networks
from dci_jax.checkpoints import assign
from dci_jax.models import cifar_resnet
from tests.conftest import ROOT
from tests.golden.seeded import random_images, random_state, torch_shapes


def abstract(depth):
    return jax.eval_shape(partial(cifar_resnet.cifar_resnet, depth=depth), jax.random.key(0))


def shapes(network):
    """Torch's names and shapes of a network's weights."""
    parts = (*network.blocks, network.head)
    return torch_shapes([(cifar_resnet.torch_prefix(part.name), part.params) for part in parts])


def answer(network, images):
    with jax.default_matmul_precision("highest"):
        features, statistics = networks.trace(network, images)
        return networks.logits(network, features[-1]), statistics[-1]["bn2"]


def test_answers_equal_those_of_pytorch_on_seeded_weights(tmp_path):
    network = abstract(20)
    save_file(random_state(shapes(network), seed=3), tmp_path / "w.safetensors")
    network = assign.load(network, tmp_path / "w.safetensors", cifar_resnet.torch_prefix)
    images = random_images(32)
    logits, statistics = answer(network, images)
    golden = np.load(ROOT / "tests" / "golden" / "cifar_resnet20.npz")
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics["mean"], golden["mean"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics["var"], golden["var"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [32, 44])
def test_other_depths_equal_pytorch_live(tmp_path, depth):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from tests.golden import cifar_resnet as reference

    network = abstract(depth)
    state = random_state(shapes(network), seed=depth)
    save_file(state, tmp_path / "w.safetensors")
    network = assign.load(network, tmp_path / "w.safetensors", cifar_resnet.torch_prefix)
    images = random_images(32)
    logits, mean, var = reference.answer(depth, state, images)
    found, statistics = answer(network, images)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-4)


@pytest.mark.parametrize("depth", cifar_resnet.DEPTHS)
def test_depth_counts_the_convolutions_and_the_linear_layer(depth):
    network = abstract(depth)
    kernels = [leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(network) if keys[-1].key == "kernel"]
    assert len(kernels) == depth
    assert len(network.blocks) == 1 + (depth - 2) // 2
