"""Seeded weights and images, with numpy alone: the golden scripts and the tests make the same ones."""

import numpy as np

# Network -> ending of a name -> what those weights are multiplied by: BatchNorm at the ends of branches
# that are added up, which would make the sum grow from block to block. The
# first layer of the DCGAN adds up 100 values only, not the 4096 that its shape stands for elsewhere.
SCALES = {
    "resnet18": {"bn2.weight": 0.5},
    "resnet34": {"bn2.weight": 0.5},
    "resnet34_cifar": {"bn2.weight": 0.5},
    "resnet50": {"bn3.weight": 0.5},
    "repvgg_a0": {"bn.weight": 0.7, "identity.weight": 0.7},
    "repvgg_cifar": {"bn.weight": 0.7, "identity.weight": 0.7},
    "dcgan_32": {"generator_deconv.0.0.weight": 10.0},
}

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def random_state(shapes, seed, scales=None):
    """Weights by name that keep activations of order one; see `SCALES`. Names are served alphabetically."""
    rng, state = np.random.default_rng(seed), {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 4:
            value = rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
        else:
            value = rng.normal(1.0 if name.endswith("weight") and len(shape) == 1 else 0, 0.1, shape)
        for ending, scale in (scales or {}).items():
            value = value * scale if name.endswith(ending) else value
        state[name] = value.astype(np.float32)
    return state


def random_images(size):
    """Two images [2, size, size, 3] in [0, 1]."""
    return np.random.default_rng(7).uniform(size=(2, size, size, 3)).astype(np.float32)


def random_latents(entries):
    """Four latents [4, entries], standard normal."""
    return np.random.default_rng(7).normal(size=(4, entries)).astype(np.float32)


def by_torch_name(trees):
    """{torch's name: leaf} of pairs (prefix, {collection: nested dict of Flax's}), one per block."""
    named = {}

    def walk(name, tree):
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(f"{name}{key}.", value)
            else:
                named[name + LEAVES[key]] = value

    for prefix, collections in trees:
        for tree in collections.values():
            walk(prefix, tree)
    return named


def torch_shapes(trees):
    """{torch's name: torch's shape} of the same pairs."""
    orders = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        name: tuple(leaf.shape[axis] for axis in orders[len(leaf.shape)]) for name, leaf in by_torch_name(trees).items()
    }


def difference(found, wanted):
    """The largest difference of two arrays, as a share of the largest value wanted."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    return np.max(np.abs(found - wanted)) / np.max(np.abs(wanted))
