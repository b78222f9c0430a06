"""Load a target network by name; rank its split points without an attack."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jax

from dci_jax import models
from dci_jax.api.calls import as_plain, check_values, float32
from dci_jax.errors import InputError, described
from dci_jax.evaluation.information import score
from dci_jax.network import Network, check_network, split_index, split_names, with_side
from dci_jax.settings.ranges import COUNT


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
    if not isinstance(side, int | tuple) or side == ():
        raise InputError(f"side is {described(side)}; give a number of pixels, or (height, width).")
    if not isinstance(weights, str | Path):
        raise InputError(f"weights is {described(weights)}; give a path, or leave it out.")
    network = models.load(name, str(weights), sha256, weights_key=weights_key)
    network = models.deploy(name, network) if deploy else network
    return as_plain(with_side(network, side) if side else network)


def leakage_scores(
    network: Network, splits: Sequence[str] = (), *, num_images: int = 4, seed: int = 0
) -> dict[str, float]:
    """Rank split points without an attack, by the error of a linear estimator of small changes, in dB.

    Takes half a minute per split point of a small network; uses procedural images, no real data. The score ranks split points
    and certifies nothing: attack those that you would choose (`audit`).
    `dci_jax/evaluation/information.py` has the equations.

    Args:
      network: the target, a network of images.
      splits: split points; (): all.
      num_images: procedural images to average over.
      seed: seed of these, and of the estimate's random signs.

    Returns:
      split point -> score in dB; higher leaks more.

    Raises:
      InputError: an unknown split point, a number below 1, or a generator.
    """
    check_network(network)
    splits = tuple(splits) if isinstance(splits, Iterable) and not isinstance(splits, str | dict) else splits
    if not isinstance(splits, tuple) or not all(isinstance(name, str) for name in splits):
        raise InputError(f"splits is a {type(splits).__name__}; give a tuple of names, or () for all.")
    check_values(num_images=(num_images, COUNT), seed=(seed, "seed"))
    if network.latent:
        raise InputError(
            f"{network.name} is a generator, and the score is of images; reconstruct its latents instead, as configs/sngan_narrow.py does."
        )
    names = splits or split_names(network)
    indices = [split_index(network, name) for name in names]
    with float32():
        key = jax.random.key(seed)
        return {name: score(network, i, key, num_images) for name, i in zip(names, indices, strict=True)}
