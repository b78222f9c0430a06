"""Target networks by name; `load` gives one with its weights."""

from functools import partial
from importlib import resources

import jax

from dci_jax.blocks import Network
from dci_jax.errors import InputError
from dci_jax.models import cifar_resnet, weights

# name -> (key, train=False) -> Network with random weights
MODELS = {
    f"cifar_resnet{depth}": partial(cifar_resnet.cifar_resnet, depth=depth)
    for depth in cifar_resnet.DEPTHS
}

# name -> the checkpoint inside this package, trained by dci_jax/train_target.py
EMBEDDED = {"cifar_resnet20": "cifar_resnet20.safetensors"}


def load(name: str, path: str = "") -> Network:
    """The target network called `name`.

    Args:
      name: a key of `MODELS`.
      path: its checkpoint; empty takes the one that comes with this package.

    Raises:
      InputError: unknown name, no embedded checkpoint, or a checkpoint that does not fit.
    """
    if name not in MODELS:
        raise InputError(f"No network is called {name!r}; choose from: {', '.join(MODELS)}.")
    if not path and name not in EMBEDDED:
        raise InputError(
            f"No weights of {name} come with this package; give --config.target.weights=PATH, "
            f"or choose from: {', '.join(EMBEDDED)}."
        )
    path = path or resources.files("dci_jax.models") / EMBEDDED[name]
    shapes = jax.eval_shape(MODELS[name], jax.random.key(0))
    return weights.load(shapes, path, cifar_resnet.torch_prefix)
