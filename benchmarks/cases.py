"""One training step of every attack, in JAX and in PyTorch, from the same start: the rows of `python -m benchmarks.side_by_side`

A case is made at any size, so that tests/side_by_side_test.py checks at tiny ones that both compute the
same. The JAX side is the project's own code; the PyTorch side is benchmarks/peers.py.
"""

import functools
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from benchmarks import peers
from configs import default
from dci_jax import models
from dci_jax.attacks import inverse_network
from dci_jax.attacks.decoder import Decoder
from dci_jax.attacks.feature_matching import match_loss
from dci_jax.dci.grid import scale
from dci_jax.dci.trained import train_chain
from dci_jax.dci.trained.objective import Objective, conquer_loss, divide_loss
from dci_jax.dci.trained.train_chain import of_phases
from dci_jax.inputs.synthesis import clip, synthesis_loss
from dci_jax.network import feature_shapes, run, split_index, with_dtype
from tests.golden.seeded import SCALES, random_state, torch_shapes

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

JITTER = 2  # pixels


@dataclass(frozen=True)
class Jax:
    """What `dci_jax.runtime.training_loop.update` takes."""

    loss: Callable
    variables: Any
    frozen: Any
    batch: Any
    project: Callable


@dataclass(frozen=True)
class Torch:
    """A step in PyTorch: `loss(*prepare(*draw()))` is differentiated for `learned`.

    Attributes:
      target: the frozen network.
      learned: leaf tensors.
      data: other arrays [B, C, H, W] that `loss` takes first.
      draw: what is random in one step.
      prepare: draws -> what `loss` takes after `data`; run eagerly.
      loss: (*data, *prepared) -> scalar; what torch.compile compiles.
      project: whether the learned are images, to be clipped.
    """

    target: peers.Target
    learned: list
    data: tuple
    draw: Callable[[], tuple]
    prepare: Callable[..., tuple]
    loss: Callable
    project: bool


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
      name, images: images per step.
      jax: dtype -> `Jax`.
      torch: () -> `Torch`, fresh.
      port: the JAX variables, or their gradient -> arrays in the order of `Torch.learned`.
      drawn: what PyTorch must draw to do what `jax` does with its batch.
    """

    name: str
    images: int
    jax: Callable[[str], Jax]
    torch: Callable[[], Torch]
    port: Callable[[Any], list[np.ndarray]]
    drawn: tuple = ()


def cases(gpu: bool, images: int | None = None) -> dict[str, Callable[[], Case]]:
    """The cases by name: as they are timed, larger on a GPU; or with `images` images, small."""
    few = {"resnet18": 128, "resnet50": 128} if gpu else {"resnet18": 8, "resnet50": 4}
    few = {name: images or usual for name, usual in few.items()}
    many, middling = images or (512 if gpu else 128), images or (256 if gpu else 16)
    settings = default.get_config()
    large = 64 if images else 224  # pixels
    decoded = images or settings.inverse_network.batch
    inverted, smaller = (
        images or settings.dci_trained.batch,
        dict(num_corrections=1, width=0.5) if images else {},
    )
    return {
        "synthesis, ResNet-20, 32 px": lambda: synthesis("cifar_resnet20", many, 32),
        "synthesis, ResNet-32, 32 px": lambda: synthesis("cifar_resnet32", many, 32),
        "synthesis, ResNet-34, 32 px": lambda: synthesis("resnet34_cifar", middling, 32),
        "synthesis, ResNet-18, 224 px": lambda: synthesis("resnet18", few["resnet18"], large),
        "synthesis, ResNet-50, 224 px": lambda: synthesis("resnet50", few["resnet50"], large),
        "rMLE, ResNet-20 to layer2.2": lambda: matching("cifar_resnet20", many, 32, "layer2.2"),
        "rMLE, ResNet-18 to layer2.1, 224 px": lambda: matching("resnet18", few["resnet18"], large, "layer2.1"),
        "inverse network, ResNet-20 to layer2.2": lambda: decoding("cifar_resnet20", decoded, 32, "layer2.2"),
        "DCI divide, ResNet-20 to layer2.2": lambda: divide("cifar_resnet20", inverted, 32, "layer2.2", **smaller),
        "DCI conquer, ResNet-20 to layer2.2": lambda: conquer("cifar_resnet20", inverted, 32, "layer2.2", **smaller),
    }


def synthesis(name: str, batch: int, size: int) -> Case:
    """One step of DeepInversion, with every term of its loss."""
    network = seeded(name)
    images = uniform(batch, size)
    labels = np.random.default_rng(1).integers(0, 10, batch)
    weights = dict(statistics=10.0, cross_entropy=0.1, total_variation=0.1, l2=0.01)
    key = jax.random.key(3)
    key_shift, key_flip = jax.random.split(key)
    shift = jax.random.randint(key_shift, (2,), -JITTER, JITTER + 1)
    loss = functools.partial(synthesis_loss, JITTER, 1)
    named = {name: np.float32(weight) for name, weight in {**weights, "first": 1.0}.items()}

    def in_jax(dtype):
        return Jax(loss, images, (with_dtype(network, dtype), labels, named), key, clip)

    def in_torch():
        target = peers.target(name, network)
        layers, learned = peers.tap(target), leaf(images)

        def loss(labels, images, seen):
            return peers.synthesis_loss(target, layers, weights, labels, images, seen)

        def draw():
            return *(random.randint(-JITTER, JITTER) for _ in range(2)), random.random() < 0.5

        def prepare(*draws):
            return learned, peers.jittered(learned, *draws)

        return Torch(target, [learned], (torch.tensor(labels),), draw, prepare, loss, True)

    drawn = *map(int, shift), bool(jax.random.bernoulli(key_flip))
    return Case(f"synthesis {name}", batch, in_jax, in_torch, as_torch, drawn)


def matching(name: str, batch: int, size: int, split: str) -> Case:
    """One step of rMLE."""
    network, weight = seeded(name), 0.03
    stop = split_index(network, split)
    images = uniform(batch, size)
    features = jax.jit(run, static_argnums=(2, 3))(network, uniform(batch, size, 5), 0, stop)

    def in_torch():
        target, learned = peers.target(name, network), leaf(images)

        def loss(features, images):
            return peers.feature_loss(target, stop, features, weight, images)

        data = (torch.tensor(as_torch(features)[0]),)
        return Torch(target, [learned], data, tuple, lambda: (learned,), loss, True)

    in_jax = functools.partial(rmle_step, network, stop, images, features, weight)
    return Case(f"rMLE {name}", batch, in_jax, in_torch, as_torch)


def rmle_step(network, stop, images, features, weight, dtype) -> Jax:
    """What the project's rMLE gives to `optimize.update`; the one place that knows its signature."""
    loss = functools.partial(match_loss, stop, None)
    frozen = with_dtype(network, dtype), features, np.float32([weight, 0])
    return Jax(loss, images, frozen, None, clip)


def decoding(name: str, batch: int, size: int, split: str, width: int = 32) -> Case:
    """One training step of the inverse network."""
    network = seeded(name)
    stop = split_index(network, split)
    shape, images = feature_shapes(network)[stop], uniform(batch, size)
    decoder = Decoder(scale(network, 0, stop)[0], 3, width)
    params = random_params(decoder.init, jax.random.key(1), jnp.zeros((1, *shape)))
    twin = peers.Decoder(decoder, shape)

    def in_jax(dtype):
        loss = functools.partial(_decoding_loss, decoder.clone(dtype=dtype), stop)
        return Jax(loss, params, with_dtype(network, dtype), images, same)

    def in_torch():
        target, module = peers.target(name, network), peers.Decoder(decoder, shape)
        peers.fill(module, params)
        loss = functools.partial(peers.pixel_loss, target, module, stop)
        return Torch(target, list(module.parameters()), leaves(images), tuple, tuple, loss, False)

    return Case(f"inverse network {name}", batch, in_jax, in_torch, twin.port)


def _decoding_loss(decoder, stop, params, network, images):
    """The inverse network's loss with the network's forward pass in it."""
    batch = {"images": images, "features": run(network, images, 0, stop)}
    return inverse_network.pixel_loss(decoder, params, (), batch)


def divide(name: str, batch: int, size: int, split: str, **smaller: Any) -> Case:
    """One step of DCI's divide phase, with the inverters of configs/default.py."""

    def loss(target, twins, objective, depth):
        del depth
        return functools.partial(peers.divide_loss, target, twins, objective.layer, objective.cycle)

    return _dci("DCI divide", divide_loss, loss, name, batch, size, split, smaller)


def conquer(name: str, batch: int, size: int, split: str, **smaller: Any) -> Case:
    """One step of DCI's conquer phase; as many images as the splits can share evenly."""

    def loss(target, twins, objective, depth):
        weights = objective.layer, objective.image, objective.cycle

        def grouped(images):  # image r * depth + s is the r-th of group s
            groups = images.unflatten(0, (-1, depth)).transpose(0, 1).flatten(0, 1)
            return peers.conquer_loss(target, twins, weights, groups)

        return grouped

    return _dci("DCI conquer", conquer_loss, loss, name, batch, size, split, smaller)


def _dci(label, in_jax_loss, in_torch_loss, name, batch, size, split, smaller):
    settings = of_phases(default.get_config().dci_trained) | smaller | {"conquer": ()}
    objective = Objective(*(settings[k] for k in ("distance", "layer", "image", "cycle", "remat")))
    network, modules, params, twins = chain(name, split, settings)
    depth = len(modules)
    shared = depth if in_jax_loss is conquer_loss else 1  # each split has images of its own
    images = uniform(max(batch // shared, 1) * shared, size)

    def in_jax(dtype):
        frozen = with_dtype(network, dtype)
        modules, _ = train_chain.phases(frozen, (split,), **settings)
        return Jax(functools.partial(in_jax_loss, objective, modules), params, frozen, images, same)

    def in_torch():
        target, filled = peers.target(name, network), twins()
        learned = [p for twin in filled for p in twin.parameters()]
        loss = in_torch_loss(target, filled, objective, depth)
        return Torch(target, learned, leaves(images), tuple, tuple, loss, False)

    empty = twins()

    def port(trees):
        return [a for twin, tree in zip(empty, trees, strict=True) for a in twin.port(tree)]

    return Case(f"{label} {name}", len(images), in_jax, in_torch, port)


def chain(name: str, split: str, settings: dict) -> tuple:
    """(network, inverters down to `split`, their parameters, a function that makes their PyTorch twins)."""
    network = seeded(name)
    modules, _ = train_chain.phases(network, (split,), **settings)
    params = random_params(functools.partial(train_chain.initialize, modules, network), jax.random.key(1))

    def twins():
        shapes = feature_shapes(network)[1:]
        made = [peers.Inverter(m, shape) for m, shape in zip(modules, shapes, strict=False)]
        return [peers.fill(twin, tree) for twin, tree in zip(made, params, strict=True)]

    return network, modules, params, twins


@functools.cache
def seeded(name: str):
    """The JAX network with the random weights of tests/golden/seeded.py."""
    shapes = jax.eval_shape(models.MODELS[name].build, jax.random.key(0))
    prefix = models.MODELS[name].prefix
    parts = (*shapes.blocks, shapes.head)
    named = torch_shapes([(prefix(part.name), part.params) for part in parts])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(random_state(named, 0, SCALES.get(name)), path)
        return models.load(name, path)


def uniform(batch: int, size: int, seed: int = 2) -> np.ndarray:
    """Random images [B, size, size, 3] in [0, 1]."""
    return np.random.default_rng(seed).uniform(size=(batch, size, size, 3)).astype(np.float32)


def random_params(init: Callable, *arguments: Any):
    """Parameters for what `init` would return, none of them zero: last layers of zeros would hide the others."""
    rng = np.random.default_rng(4)

    def draw(keys, leaf):
        noise = rng.normal(size=leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 100))
        return np.float32(noise + (keys[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, *arguments))


def same(variables):
    """No projection."""
    return variables


def as_torch(images) -> list[np.ndarray]:
    """[B, H, W, C] -> one array [B, C, H, W]."""
    return [np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2))]


def leaf(images):
    """Images to be optimised, [B, C, H, W]."""
    return torch.tensor(as_torch(images)[0]).requires_grad_()


def leaves(images):
    """Images to be learned from."""
    return (torch.tensor(as_torch(images)[0]),)
