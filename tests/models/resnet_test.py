from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from dci_jax import blocks, models
from dci_jax.models import resnet
from tests.conftest import ROOT
from tests.golden.seeded import (
    SCALES,
    by_torch_name,
    difference,
    random_images,
    random_state,
    torch_shapes,
)

COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # residual blocks per stage
NORMS = {18: 20, 34: 36, 50: 53}
TENSORS = {
    18: 122,
    34: 218,
    50: 320,
}  # in timm's checkpoints, a step counter per BatchNorm included


def shapes(depth):
    """Torch's names and shapes of the weights."""
    network = jax.eval_shape(partial(resnet.resnet, depth=depth), jax.random.key(0))
    parts = (*network.blocks, network.head)
    return torch_shapes([(resnet.torch_prefix(part.name), part.params) for part in parts])


def load(depth, state, folder):
    save_file(state, folder / "weights.safetensors")
    network = models.load(f"resnet{depth}", folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    return network


def answer(network, images):
    """Logits and {torch's name of a BatchNorm layer: (mean, variance) of its input}."""
    parts = [part.replace(apply=jax.jit(part.apply)) for part in network.blocks]
    with jax.default_matmul_precision("highest"):
        features, statistics = blocks.trace(network.replace(blocks=tuple(parts)), images)
        logits = blocks.logits(network, features[-1])
    trees = [
        (resnet.torch_prefix(part.name), {"batch_stats": tree})
        for part, tree in zip(parts, statistics, strict=True)
    ]
    named = by_torch_name(trees)
    layers = [name.removesuffix(".running_var") for name in named if name.endswith("running_var")]
    return logits, {
        layer: (named[f"{layer}.running_mean"], named[f"{layer}.running_var"]) for layer in layers
    }


@pytest.mark.parametrize("depth", COUNTS)
def test_answers_and_statistics_equal_those_of_pytorch_on_seeded_weights(depth, tmp_path):
    state = random_state(shapes(depth), depth, SCALES[f"resnet{depth}"])
    logits, statistics = answer(load(depth, state, tmp_path), random_images(64))
    golden = dict(np.load(ROOT / "tests" / "golden" / f"resnet{depth}.npz"))
    assert difference(logits, golden.pop("logits")) < 1e-4
    assert golden.keys() == statistics.keys()
    for layer, (mean, var) in golden.items():
        assert difference(statistics[layer][0][::4], mean) < 1e-4, layer
        assert difference(statistics[layer][1][::4], var) < 1e-4, layer


@pytest.mark.parametrize("depth", COUNTS)
def test_a_state_dict_of_pytorch_gives_its_answers_and_all_its_statistics_live(depth, tmp_path):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from tests.golden import resnet as reference

    model, images = reference.ResNet(depth), random_images(64)
    state = random_state(shapes(depth), depth + 1, SCALES[f"resnet{depth}"])
    wanted_logits, wanted = reference.answer(model, state, images)
    published = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert len(published) == TENSORS[depth]
    logits, statistics = answer(load(depth, published, tmp_path), images)
    assert difference(logits, wanted_logits) < 1e-4
    assert statistics.keys() == wanted.keys()
    for layer, (mean, var) in wanted.items():
        assert difference(statistics[layer][0], mean) < 1e-4, layer
        assert difference(statistics[layer][1], var) < 1e-4, layer


@pytest.mark.parametrize("depth", COUNTS)
def test_it_has_as_many_tensors_as_a_checkpoint_of_pytorch(depth):
    names = shapes(depth)
    norms = [name for name in names if name.endswith("running_var")]
    assert len(norms) == NORMS[depth]
    assert len(names) + len(norms) == TENSORS[depth]


@pytest.mark.parametrize("depth", COUNTS)
def test_every_residual_block_is_a_split_point(depth):
    network = jax.eval_shape(partial(resnet.resnet, depth=depth), jax.random.key(0))
    residual = [f"layer{s}.{i}" for s, count in enumerate(COUNTS[depth], 1) for i in range(count)]
    assert blocks.split_names(network) == ("stem", *residual)


def test_more_than_40_convolutions_lie_before_layer4_1_of_resnet50():
    network = jax.eval_shape(partial(resnet.resnet, depth=50), jax.random.key(0))
    before = network.blocks[: blocks.split_index(network, "layer4.1")]
    main_path = [
        layer for block in before for layer in block.params["params"] if layer.startswith("conv")
    ]
    assert len(main_path) == 1 + 3 * (3 + 4 + 6 + 2)
    assert len(main_path) > 40


@pytest.mark.parametrize(("depth", "top1"), [(18, 0.75), (50, 0.82)])
def test_published_weights_recognise_the_photographs(depth, top1, shared):
    folder = shared / "imagenet"
    network = models.load(f"resnet{depth}", folder / "weights" / f"resnet{depth}.safetensors")
    run = jax.jit(lambda network, x: blocks.logits(network, blocks.run(network, x)))
    files = sorted((folder / "images").glob("*.jpg"))
    assert len(files) == 200
    right = 0
    for start in range(0, len(files), 50):
        batch = files[start : start + 50]
        images = np.stack([np.asarray(Image.open(file))[16:240, 16:240] for file in batch])
        labels = np.array([int(file.name[:4]) for file in batch])
        scores = np.asarray(run(network, images.astype(np.float32) / 255))
        right += np.sum(scores.argmax(1) == labels)
    assert right / len(files) == pytest.approx(top1, abs=0.005)
