import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from dci_jax import models
from dci_jax import network as networks
from dci_jax.dci.blocks import split_stages
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

DEEP, SHALLOW = (3, 4, 6, 3), (2, 2, 2, 2)  # residual blocks per stage
COUNTS = {"resnet18": SHALLOW, "resnet34": DEEP, "resnet50": DEEP, "resnet34_cifar": DEEP}
NORMS = {"resnet18": 20, "resnet34": 36, "resnet50": 53, "resnet34_cifar": 36}
# In checkpoints of PyTorch, a step counter per BatchNorm included.
TENSORS = {"resnet18": 122, "resnet34": 218, "resnet50": 320, "resnet34_cifar": 218}


def abstract(name):
    return jax.eval_shape(models.MODELS[name].build, jax.random.key(0))


def shapes(name):
    """Torch's names and shapes of the weights."""
    network = abstract(name)
    parts = (*network.blocks, network.head)
    return torch_shapes([(resnet.torch_prefix(part.name), part.params) for part in parts])


def images_for(name):
    return random_images(min(abstract(name).input_shape[0], 64))


def load(name, state, folder):
    save_file(state, folder / "weights.safetensors")
    network = models.load(name, folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    return network


def answer(network, images):
    """Logits and {torch's name of a BatchNorm layer: (mean, variance) of its input}."""
    parts = [part.replace(apply=jax.jit(part.apply)) for part in network.blocks]
    with jax.default_matmul_precision("highest"):
        features, statistics = networks.trace(network.replace(blocks=tuple(parts)), images)
        logits = networks.logits(network, features[-1])
    trees = [
        (resnet.torch_prefix(part.name), {"batch_stats": tree}) for part, tree in zip(parts, statistics, strict=True)
    ]
    named = by_torch_name(trees)
    layers = [name.removesuffix(".running_var") for name in named if name.endswith("running_var")]
    return logits, {layer: (named[f"{layer}.running_mean"], named[f"{layer}.running_var"]) for layer in layers}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_answers_and_statistics_equal_those_of_pytorch_on_seeded_weights(name, tmp_path):
    seed = int(name[6:8])
    state = random_state(shapes(name), seed, SCALES[name])
    logits, statistics = answer(load(name, state, tmp_path), images_for(name))
    golden = dict(np.load(ROOT / "tests" / "golden" / f"{name}.npz"))
    assert difference(logits, golden.pop("logits")) < 1e-4
    assert golden.keys() == statistics.keys()
    for layer, (mean, var) in golden.items():
        assert difference(statistics[layer][0][::4], mean) < 1e-4, layer
        assert difference(statistics[layer][1][::4], var) < 1e-4, layer


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_a_state_dict_of_pytorch_gives_its_answers_and_all_its_statistics_live(name, tmp_path):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from tests.golden import resnet as reference

    small = name.endswith("_cifar")
    normalisation = (reference.CIFAR_MEAN, reference.CIFAR_STD) if small else ()
    model, images = reference.ResNet(int(name[6:8]), small), images_for(name)
    state = random_state(shapes(name), 1, SCALES[name])
    wanted_logits, wanted = reference.answer(model, state, images, *normalisation)
    published = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert len(published) == TENSORS[name]
    logits, statistics = answer(load(name, published, tmp_path), images)
    assert difference(logits, wanted_logits) < 1e-4
    assert statistics.keys() == wanted.keys()
    for layer, (mean, var) in wanted.items():
        assert difference(statistics[layer][0], mean) < 1e-4, layer
        assert difference(statistics[layer][1], var) < 1e-4, layer


@pytest.mark.parametrize("name", COUNTS)
def test_it_has_as_many_tensors_as_a_checkpoint_of_pytorch(name):
    names = shapes(name)
    norms = [name for name in names if name.endswith("running_var")]
    assert len(norms) == NORMS[name]
    assert len(names) + len(norms) == TENSORS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_every_residual_block_is_a_split_point(name):
    residual = [f"layer{s}.{i}" for s, count in enumerate(COUNTS[name], 1) for i in range(count)]
    assert networks.split_names(abstract(name)) == ("stem", *residual)


def test_more_than_40_convolutions_lie_before_layer4_1_of_resnet50():
    network = abstract("resnet50")
    before = network.blocks[: networks.split_index(network, "layer4.1")]
    main_path = [layer for block in before for layer in block.params["params"] if layer.startswith("conv")]
    assert len(main_path) == 1 + 3 * (3 + 4 + 6 + 2)
    assert len(main_path) > 40


@pytest.mark.parametrize(("depth", "top1"), [(18, 0.75), (50, 0.82)])
def test_published_weights_recognise_the_photographs(depth, top1, shared):
    folder = shared / "imagenet"
    network = models.load(f"resnet{depth}", folder / "weights" / f"resnet{depth}.safetensors")
    run = jax.jit(lambda network, x: networks.logits(network, networks.run(network, x)))
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


@pytest.mark.slow
def test_the_parts_of_a_stem_are_its_convolution_and_its_pooling():
    network = models.MODELS["resnet18"].build(jax.random.key(0)).replace(input_shape=(32, 32, 3))
    found = split_stages(network)
    assert networks.split_names(found)[:3] == ("stem, stage 1", "stem", "layer1.0")
    assert networks.feature_shapes(found)[:4] == ((32, 32, 3), (16, 16, 64), (8, 8, 64), (8, 8, 64))
    images = random_images(32)
    whole, _ = networks.trace(network, images, stop=1)
    (_, convolved, pooled), statistics = networks.trace(found, images, stop=2)
    np.testing.assert_allclose(pooled, whole[1], rtol=1e-5, atol=1e-5)
    assert (convolved >= 0).all()
    assert statistics[0]["bn1"]["mean"].shape == (64,)
    assert split_stages(models.MODELS["resnet34_cifar"].build(jax.random.key(0))).blocks[0].name == "stem"  # no pooling
