"""Load a target network by name."""

from pathlib import Path

from dci_jax import models
from dci_jax.api.calls import as_plain, described
from dci_jax.errors import InputError
from dci_jax.network import Network, with_side


def load_network(
    name: str,
    weights: str | Path = "",
    *,
    sha256: str = "",
    weights_key: str = "",
    deploy: bool = False,
    side: int | tuple[int, int] = 0,
) -> Network:
    """Load a target network.

    Args:
      name: a key of `dci_jax.models.MODELS`, such as "cifar_resnet20"; "bundle" for a network that `python -m
        dci_jax.convert` exported from PyTorch; or "module:function" for your own.
      weights: path of a .safetensors, .pth or .th checkpoint, or of a bundle's folder; empty: the published weights.
      sha256: SHA-256 of the checkpoint, or at least its first 8 digits; empty: not checked.
      weights_key: key of the weights in a .pth or .ckpt, such as "state_dict_ema"; empty: "state_dict" or "model", else averaged weights.
      deploy: whether to use the reparameterized form (RepVGG).
      side: side of the input images in pixels, or (height, width); 0: as in training.

    Raises:
      InputError: there is no such network, or the weights do not fit it.
    """
    for argument, value in (("name", name), ("sha256", sha256), ("weights_key", weights_key)):
        if not isinstance(value, str):
            raise InputError(f"{argument} is {described(value)}; give a string.")
    if not isinstance(side, int | tuple):
        raise InputError(f"side is {described(side)}; give a number of pixels, or (height, width).")
    if not isinstance(weights, str | Path):
        raise InputError(f"weights is {described(weights)}; give a path, or leave it out.")
    network = models.load(name, str(weights), sha256, weights_key=weights_key)
    network = models.deploy(name, network) if deploy else network
    return as_plain(with_side(network, side) if side else network)
