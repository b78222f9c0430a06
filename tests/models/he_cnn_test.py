import jax
import numpy as np
import pytest

from dci_jax import models
from dci_jax import network as networks
from dci_jax.checkpoints import assign
from dci_jax.dci.chain import Chain
from dci_jax.dci.trained import train_chain
from dci_jax.dci.trained.trained_inverter import TrainedInverter


def state(network):
    """The checkpoint's keys and shapes, as PyTorch has them."""
    tensors = {}
    for block in (*network.blocks, network.head):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            tensors[assign.torch_name("", keys)] = assign.to_torch(np.asarray(leaf))
    return tensors


@pytest.fixture(scope="module")
def he():
    return models.MODELS["he_cnn"].build(jax.random.key(0))


def test_the_checkpoint_has_the_papers_layers(he):
    shapes = {name: tensor.shape for name, tensor in state(he).items() if name.endswith("weight")}
    assert shapes == {
        "conv11.weight": (64, 3, 3, 3),
        "conv12.weight": (64, 64, 3, 3),
        "conv21.weight": (128, 64, 3, 3),
        "conv22.weight": (128, 128, 3, 3),
        "conv31.weight": (128, 128, 3, 3),
        "conv32.weight": (128, 128, 3, 3),
        "fc1.weight": (512, 2048),
        "fc2.weight": (10, 512),
    }


def test_the_splits_are_the_papers(he, images):
    features = dict(zip(networks.split_names(he), networks.trace(he, images)[0][1:], strict=True))
    assert {name: f.shape[1:] for name, f in features.items()} == {
        "conv11": (32, 32, 64),
        "relu12": (32, 32, 64),
        "relu21": (16, 16, 128),
        "relu22": (16, 16, 128),
        "relu31": (8, 8, 128),
        "relu32": (8, 8, 128),
    }
    assert features["conv11"].min() < 0
    assert all(f.min() == 0 for name, f in features.items() if name != "conv11")


def test_an_inverter_may_give_negative_values_only_where_the_block_takes_them(he):
    assert [block.nonnegative for block in he.blocks] == [False, False, True, True, True, True]


def test_answers_equal_pytorchs(he, images):
    torch = pytest.importorskip("torch")
    f, t = torch.nn.functional, {k: torch.from_numpy(v) for k, v in state(he).items()}
    x = torch.from_numpy(((images - he.mean) / he.std).astype(np.float32).transpose(0, 3, 1, 2))

    def conv(x, n):
        return f.conv2d(x, t[f"conv{n}.weight"], t[f"conv{n}.bias"], padding=1)

    conv11 = conv(x, 11)
    relu12 = f.relu(conv(f.relu(conv11), 12))
    relu22 = f.relu(conv(f.relu(conv(f.max_pool2d(relu12, 2), 21)), 22))
    relu32 = f.relu(conv(f.relu(conv(f.max_pool2d(relu22, 2), 31)), 32))
    hidden = f.linear(f.max_pool2d(relu32, 2).flatten(1), t["fc1.weight"], t["fc1.bias"])
    scores = f.linear(torch.sigmoid(hidden), t["fc2.weight"], t["fc2.bias"])
    found = networks.trace(he, images)[0]
    for split, truth in ((1, conv11), (2, relu12), (4, relu22), (6, relu32)):
        truth = truth.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found[split], truth, rtol=1e-4, atol=5e-5)
    np.testing.assert_allclose(networks.logits(he, found[-1]), scores.numpy(), rtol=1e-4, atol=5e-5)


@pytest.mark.slow
def test_it_can_be_inverted_block_by_block(he, images):
    modules = train_chain.inverters(he, 6, 0.5, 16, 1, 2)
    params = train_chain.initialize(modules, he, jax.random.key(1))
    inverters = [TrainedInverter(params[i], modules[i], i) for i in reversed(range(6))]
    found = Chain.of(inverters, he, "relu32")(networks.run(he, images))
    assert found.shape == images.shape
