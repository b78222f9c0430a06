import itertools
from functools import partial

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dci_jax import models
from dci_jax import network as networks
from dci_jax.checkpoints import assign
from dci_jax.errors import InputError
from dci_jax.inputs.latents import LATENTS
from dci_jax.models import dcgan, sngan
from tests.conftest import ROOT
from tests.golden.seeded import (
    SCALES,
    by_torch_name,
    difference,
    random_latents,
    random_state,
    torch_shapes,
)

# Builders of what is compared; SNGAN in a narrow form, as in tests/golden/sngan.py.
BUILD = {
    "sngan_32": partial(sngan.sngan, size=32, ngf=8),
    "sngan_64": partial(sngan.sngan, size=64, ngf=64),
    "sngan_128": partial(sngan.sngan, size=128, ngf=64),
    "dcgan_32": dcgan.dcgan,
}
SEEDS = {"sngan_32": 32, "sngan_64": 64, "sngan_128": 128, "dcgan_32": 0}  # of the goldens
LAYERS = {"sngan_32": 7, "sngan_64": 9, "sngan_128": 11, "dcgan_32": 4}  # of BatchNorm

# Channels behind each layer of SNGAN's tables, and of mimicry's form for 64 pixels.
WIDTHS = {
    32: (256, 256, 256, 256),
    64: (1024, 512, 256, 128, 64),
    128: (1024, 1024, 512, 256, 128, 64),
}


def prefix(name):
    return models.MODELS[name].prefix


def abstract(name, **kwargs):
    return jax.eval_shape(partial(BUILD[name], **kwargs), jax.random.key(0))


def shapes(network, name):
    """Torch's names and shapes of the weights."""
    return torch_shapes([(prefix(name)(part.name), part.params) for part in network.blocks])


def load(name, state, folder, **kwargs):
    save_file(state, folder / "weights.safetensors")
    return assign.load(abstract(name, **kwargs), folder / "weights.safetensors", prefix(name))


@jax.jit
def trace(network, latents):
    with jax.default_matmul_precision("highest"):
        return networks.trace(network, latents)


def answer(network, latents, name):
    """Images and {torch's name of a BatchNorm layer: (mean, variance) of its input}."""
    features, statistics = trace(network, latents)
    trees = [
        (prefix(name)(part.name), {"batch_stats": tree}) for part, tree in zip(network.blocks, statistics, strict=True)
    ]
    named = by_torch_name(trees)
    layers = [key.removesuffix(".running_var") for key in named if key.endswith("running_var")]
    return np.asarray(features[-1]), {
        layer: (named[f"{layer}.running_mean"], named[f"{layer}.running_var"]) for layer in layers
    }


def same_statistics(found, wanted, name):
    assert found.keys() == wanted.keys()
    assert len(found) == LAYERS[name]
    for layer, (mean, var) in wanted.items():
        assert difference(found[layer][0], mean) < 1e-4, layer
        assert difference(found[layer][1], var) < 1e-4, layer


def torch_generator(name):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    from tests.golden import dcgan as reference_dcgan
    from tests.golden import sngan as reference_sngan

    if name == "dcgan_32":
        return reference_dcgan.Generator()
    size = int(name.removeprefix("sngan_"))
    return reference_sngan.Generator(size, reference_sngan.NARROW[size])


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_images_and_statistics_equal_those_of_pytorch_on_seeded_weights(name, tmp_path):
    network = abstract(name)
    state = random_state(shapes(network, name), SEEDS[name], SCALES.get(name))
    latents = random_latents(*network.input_shape)
    images, statistics = answer(load(name, state, tmp_path), latents, name)
    golden = dict(np.load(ROOT / "tests" / "golden" / f"{name}.npz"))
    assert difference(images[:2, ::3, ::3], golden.pop("images")) < 1e-4
    same_statistics(statistics, golden, name)


def from_torch(model, name, folder, **kwargs):
    """The network with the weights of a torch model, in a file as mimicry writes it."""
    import torch

    path = folder / "netG_100000_steps.pth"
    content = {"model_state_dict": model.state_dict(), "optimizer_state_dict": None}
    torch.save({**content, "global_step": 100_000}, path)
    return assign.load(abstract(name, **kwargs), path, prefix(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_a_checkpoint_of_pytorch_gives_its_images_and_statistics_live(name, tmp_path):
    model = torch_generator(name)
    from tests.golden.sngan import answer as torch_answer

    state = random_state(shapes(abstract(name), name), 1, SCALES.get(name))
    for (
        key,
        value,
    ) in state.items():  # the same function, with variances so small that epsilon counts
        if key.endswith("running_var"):
            state[key] = value * 1e-3
        elif key.endswith(".weight") and value.ndim == 1:
            state[key] = value * 1e-3**0.5
    latents = random_latents(*abstract(name).input_shape)
    wanted_images, wanted = torch_answer(model, state, latents)
    images, statistics = answer(from_torch(model, name, tmp_path), latents, name)
    assert difference(images, wanted_images) < 1e-4
    same_statistics(statistics, wanted, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sngan_32", "dcgan_32"])
def test_in_training_the_batch_normalises_as_in_pytorch(name, tmp_path):
    model = torch_generator(name)
    from tests.golden.sngan import answer as torch_answer

    state = random_state(shapes(abstract(name), name), 2, SCALES.get(name))
    latents = random_latents(*abstract(name).input_shape)
    wanted_images, wanted = torch_answer(model, state, latents, train=True)
    images, statistics = answer(from_torch(model, name, tmp_path, train=True), latents, name)
    assert difference(images, wanted_images) < 1e-4
    same_statistics(statistics, wanted, name)


@pytest.mark.parametrize("name", BUILD)
def test_a_latent_goes_in_and_an_image_comes_out_at_the_last_split(name):
    network = abstract(name)
    side = int(name.rpartition("_")[2])
    features = networks.feature_shapes(network)
    assert features[0] == network.input_shape == ((100,) if name == "dcgan_32" else (128,))
    assert features[-1] == (side, side, 3)
    assert networks.split_names(network)[-1] == "image"
    assert networks.classes(network) is None
    assert len(features) == len(network.blocks) + 1
    assert {shape[:2] for shape in features[1:]} == {(s, s) for s in (4, 8, 16, 32, 64, 128) if s <= side}
    latents = jax.ShapeDtypeStruct((2, *network.input_shape), np.float32)
    features, _ = jax.eval_shape(
        lambda network, x: networks.trace(networks.with_dtype(network, "bfloat16"), x), network, latents
    )
    assert {feature.dtype for feature in features[1:]} == {jax.numpy.dtype("bfloat16")}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_what_is_said_of_its_features_is_true(name, tmp_path):
    network = abstract(name)
    state = random_state(shapes(network, name), 2, SCALES.get(name))
    network = load(name, state, tmp_path)
    latents = random_latents(*network.input_shape)
    features, statistics = trace(network, latents)
    chex.assert_trees_all_equal_shapes(statistics, networks.running_statistics(network))
    for block, before in zip(network.blocks, features, strict=False):
        assert block.nonnegative == (np.min(before) >= 0), block.name
    assert np.min(features[-1]) >= 0
    assert np.max(features[-1]) <= 1


@pytest.mark.parametrize("name", BUILD)
def test_what_is_loaded_is_saved(name, tmp_path):
    state = random_state(shapes(abstract(name), name), 3, SCALES.get(name))
    network = load(name, state, tmp_path)
    assign.save(network, tmp_path / "saved.safetensors", prefix(name), {})
    chex.assert_trees_all_equal(load_file(tmp_path / "saved.safetensors"), state)


def mimicry(size):
    """The names and shapes of mimicry's checkpoint, step counters included, every number a one."""
    widths = WIDTHS[size]
    names = {"l1.weight": (16 * widths[0], 128), "l1.bias": (16 * widths[0],)}

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            names[f"{name}.{leaf}"] = (channels,)
        names[f"{name}.num_batches_tracked"] = ()

    def convolution(name, before, after, kernel):
        names[f"{name}.weight"] = (after, before, kernel, kernel)
        names[f"{name}.bias"] = (after,)

    for index, (before, after) in enumerate(itertools.pairwise(widths), 2):
        convolution(f"block{index}.c1", before, after, 3)
        convolution(f"block{index}.c2", after, after, 3)
        convolution(f"block{index}.c_sc", before, after, 1)
        norm(f"block{index}.b1", before)
        norm(f"block{index}.b2", after)
    norm(f"b{len(widths) + 1}", widths[-1])
    convolution(f"c{len(widths) + 1}", widths[-1], 3, 3)
    return {name: np.ones(shape, np.float16 if shape else np.int64) for name, shape in names.items()}


@pytest.mark.parametrize(("size", "tensors"), [(32, 57), (64, 73), (128, 89)])
def test_a_checkpoint_with_mimicrys_names_and_shapes_loads(size, tensors, tmp_path):
    state = mimicry(size)
    assert len(state) == tensors
    save_file(state, tmp_path / "weights.safetensors")
    network = models.load(f"sngan_{size}", tmp_path / "weights.safetensors")
    numbers = sum(value.size for value in state.values() if value.shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == numbers
    assert networks.split_names(network) == (
        "l1",
        *(f"block{index}" for index in range(2, len(WIDTHS[size]) + 1)),
        "image",
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("block3.c_sc.bias"), r"1 missing, such as 'block3\.c_sc\.bias'"),
        (lambda s: s.update({"block5.c1.bias": s["c5.bias"]}), r"1 left over, such as 'block5\.c1\.bias'"),
        (lambda s: s.update({"l1.weight": s["l1.weight"][:16]}), r"'l1\.weight' has shape \(128, 16\)"),
    ],
    ids=["missing", "left over", "shape"],
)
def test_a_checkpoint_that_does_not_fit_names_the_key(change, named, tmp_path):
    state = mimicry(32)
    change(state)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=named):
        models.load("sngan_32", tmp_path / "weights.safetensors")


def test_generators_and_no_others_have_a_prior():
    priors = {name: architecture.latent for name, architecture in models.MODELS.items()}
    assert {name: prior for name, prior in priors.items() if prior} == {
        "sngan_32": "normal",
        "sngan_narrow": "normal",
        "sngan_64": "normal",
        "sngan_128": "normal",
        "dcgan_32": "uniform",
    }
    for name in BUILD:
        latents = LATENTS[priors[name]](jax.random.key(0), 3, abstract(name).input_shape)
        assert latents.shape == (3, *abstract(name).input_shape)


@pytest.mark.slow
def test_the_embedded_generator_is_small_and_makes_images_that_differ():
    from importlib import resources

    from safetensors import safe_open

    path = resources.files("dci_jax.models") / models.MODELS["sngan_narrow"].embedded
    assert path.stat().st_size < 1e6
    with safe_open(path, "numpy") as file:
        assert float(file.metadata()["frechet"].split()[0]) < 10
    network = models.load("sngan_narrow")
    latents = np.array(LATENTS["normal"](jax.random.key(0), 64, network.input_shape))
    images = np.asarray(networks.run(network, latents))
    assert 0.2 < images.mean() < 0.8
    assert images.std(0).mean() > 0.1


@pytest.fixture
def faces(shared):
    pytest.importorskip("torch", reason="reads a .pt file: pip install torch")
    return shared / "celeba32_dcgan" / "generator.pt"


@pytest.mark.slow
def test_the_published_faces_equal_those_of_pytorch_and_differ_among_each_other(faces):
    import torch

    network = models.load("dcgan_32", faces)
    latents = np.array(LATENTS["uniform"](jax.random.key(0), 16, network.input_shape))
    features, _ = trace(network, latents)
    images = np.asarray(features[-1])
    rest = jax.jit(partial(networks.run, start=2))(network, features[2])
    np.testing.assert_allclose(rest, images, atol=1e-5)
    model = torch_generator("dcgan_32").eval()
    model.load_state_dict(torch.load(faces, weights_only=True, map_location="cpu"))
    with torch.no_grad():
        wanted = (model(torch.tensor(latents)).permute(0, 2, 3, 1).numpy() + 1) / 2
    assert np.max(np.abs(images - wanted)) < 1e-4
    assert 0 <= images.min() < 0.1 < 0.9 < images.max() <= 1
    assert np.mean(images.std(0)) > 0.1


def test_latents_of_its_prior_give_the_published_generator_the_statistics_it_was_trained_with(faces):
    network = models.load("dcgan_32", faces)

    latents = LATENTS["uniform"](jax.random.key(1), 256, network.input_shape)
    _, found = answer(network, latents, "dcgan_32")
    running = by_torch_name([(prefix("dcgan_32")(part.name), part.params) for part in network.blocks])
    for layer, (mean, var) in found.items():
        spread = np.sqrt(running[f"{layer}.running_var"])
        assert np.mean(np.abs(mean - running[f"{layer}.running_mean"]) / spread) < 0.05, layer
        assert np.mean(np.abs(np.sqrt(var) / spread - 1)) < 0.05, layer  # normal latents: 0.7
