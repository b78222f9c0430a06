import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dci_jax import models
from dci_jax import network as networks
from dci_jax.models import repvgg
from tests.conftest import ROOT
from tests.golden.seeded import (
    SCALES,
    by_torch_name,
    difference,
    random_images,
    random_state,
    torch_shapes,
)

SIZES = {"repvgg_a0": 64, "repvgg_cifar": 32}  # of the test's images
NORMS = {"repvgg_a0": 61, "repvgg_cifar": 62}
# A step counter per BatchNorm included; of repvgg_a0 as published by timm, of repvgg_cifar counted.
TENSORS = {"repvgg_a0": 351, "repvgg_cifar": 356}


def abstract(name):
    return jax.eval_shape(models.MODELS[name].build, jax.random.key(0))


def shapes(name):
    """Torch's names and shapes of the weights."""
    network = abstract(name)
    parts = (*network.blocks, network.head)
    return torch_shapes([(repvgg.torch_prefix(part.name), part.params) for part in parts])


def load(name, state, folder):
    save_file(state, folder / "weights.safetensors")
    network = models.load(name, folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    return network


def trace(network, images):
    """Logits, features and statistics; equal blocks are compiled once."""
    parts = [part.replace(apply=jax.jit(part.apply)) for part in network.blocks]
    with jax.default_matmul_precision("highest"):
        features, statistics = networks.trace(network.replace(blocks=tuple(parts)), images)
        return networks.logits(network, features[-1]), features, statistics


def answer(network, images):
    """Logits and {torch's name of a BatchNorm layer: (mean, variance) of its input}."""
    logits, _, statistics = trace(network, images)
    trees = [
        (repvgg.torch_prefix(part.name), {"batch_stats": tree})
        for part, tree in zip(network.blocks, statistics, strict=True)
    ]
    named = by_torch_name(trees)
    layers = [name.removesuffix(".running_var") for name in named if name.endswith("running_var")]
    return logits, {layer: (named[f"{layer}.running_mean"], named[f"{layer}.running_var"]) for layer in layers}


def test_answers_and_statistics_equal_those_of_pytorch_on_seeded_weights(tmp_path):
    state = random_state(shapes("repvgg_a0"), 0, SCALES["repvgg_a0"])
    logits, statistics = answer(load("repvgg_a0", state, tmp_path), random_images(64))
    golden = dict(np.load(ROOT / "tests" / "golden" / "repvgg_a0.npz"))
    assert difference(logits, golden.pop("logits")) < 1e-4
    assert golden.keys() == statistics.keys()
    for layer, (mean, var) in golden.items():
        assert difference(statistics[layer][0][::4], mean) < 1e-4, layer
        assert difference(statistics[layer][1][::4], var) < 1e-4, layer


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_state_dict_of_pytorch_gives_its_answers_and_all_its_statistics_live(name, tmp_path):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from tests.golden import repvgg as reference
    from tests.golden.resnet import answer as torch_answer

    model, images = reference.RepVGG(name), random_images(SIZES[name])
    state = random_state(shapes(name), 1, SCALES[name])
    wanted_logits, wanted = torch_answer(model, state, images)
    published = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert len(published) == TENSORS[name]
    network = load(name, published, tmp_path)
    logits, statistics = answer(network, images)
    assert difference(logits, wanted_logits) < 1e-4
    assert statistics.keys() == wanted.keys()
    for layer, (mean, var) in wanted.items():
        assert difference(statistics[layer][0], mean) < 1e-4, layer
        assert difference(statistics[layer][1], var) < 1e-4, layer

    deployed = models.deploy(name, network)
    folded = [model.stem, *(block for stage in model.stages for block in stage)]
    for block, layer in zip(deployed.blocks, folded, strict=True):
        kernel, bias = reference.fold(layer)
        found = block.params["params"]["reparam_conv"]
        assert difference(found["kernel"], kernel.transpose(2, 3, 1, 0)) < 1e-5, block.name
        assert difference(found["bias"], bias) < 1e-5, block.name


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_the_deploy_form_is_the_same_function_without_batch_norm(name, tmp_path):
    state, images = random_state(shapes(name), 2, SCALES[name]), random_images(SIZES[name])
    # The same function, with variances so small that epsilon counts.
    for key, value in state.items():
        if key.endswith("running_var"):
            state[key] = value * 0.01
        elif key.endswith(".weight") and value.ndim == 1:
            state[key] = value * 0.1
    network = load(name, state, tmp_path)
    deployed = models.deploy(name, network)
    assert networks.split_names(deployed) == networks.split_names(network)
    for block in deployed.blocks:
        assert block.params.keys() == {"params"}
        assert block.params["params"].keys() == {"reparam_conv"}
    wanted_logits, wanted, _ = trace(network, images)
    logits, features, statistics = trace(deployed, images)
    assert statistics == ({},) * len(network.blocks)
    assert difference(logits, wanted_logits) < 1e-4
    for block, found, feature in zip(network.blocks, features[1:], wanted[1:], strict=True):
        assert difference(found, feature) < 1e-4, block.name


@pytest.mark.parametrize("name", SIZES)
def test_it_has_as_many_tensors_as_a_checkpoint_of_pytorch(name):
    names = shapes(name)
    norms = [name for name in names if name.endswith("running_var")]
    assert len(norms) == NORMS[name]
    assert len(names) + len(norms) == TENSORS[name]


@pytest.mark.parametrize("name", SIZES)
def test_every_repvgg_block_is_a_split_point(name):
    stages = [f"stages.{s}.{i}" for s, count in enumerate((2, 4, 14, 1)) for i in range(count)]
    assert networks.split_names(abstract(name)) == ("stem", *stages)
