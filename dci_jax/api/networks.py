"""Load a target network by name, and say what each of its split points costs."""

import math
from pathlib import Path
from typing import Any

from dci_jax import models
from dci_jax.api.calls import as_plain
from dci_jax.evaluation.kept import costs
from dci_jax.network import Network, feature_shapes, split_names, with_side


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
      sha256: of the checkpoint, or its first 8 digits or more; empty: not checked.
      weights_key: where a .pth or .ckpt has its weights, such as "state_dict_ema"; empty: "state_dict" or "model", or else averaged ones.
      deploy: the reparameterized form (RepVGG).
      side: of the input images in pixels, or (height, width); 0: as the network was trained.

    Raises:
      InputError: there is no such network, or the weights do not fit it.
    """
    network = models.load(name, str(weights), sha256, weights_key=weights_key)
    network = models.deploy(name, network) if deploy else network
    return as_plain(with_side(network, side) if side else network)


def split_points(network: Network) -> list[dict[str, Any]]:
    """What each split point costs for one input, in their order; nothing is computed. `pandas.DataFrame` takes it.

    Args:
      network: the target.

    Returns:
      a dict for each: "name"; "shape" of the features, channels last; "values", how many numbers these are, and
      "share_of_input", as a share of the input's; "bytes_float32" and "bytes_8bit" of a payload; "device_flops" up to there,
      and "share_of_flops" of those up to the last one; "device_parameters"; "batch_norms", the BatchNorm layers on the device.
    """
    names, shapes = split_names(network), feature_shapes(network)
    found = costs(network, names)
    whole = max(found[names[-1]]["device_flops"], 1)
    return [
        {
            "name": name,
            "shape": shape,
            "values": math.prod(shape),
            "share_of_input": math.prod(shape) / math.prod(shapes[0]),
            "bytes_float32": 4 * math.prod(shape),
            "bytes_8bit": math.prod(shape),
            "device_flops": found[name]["device_flops"],
            "share_of_flops": found[name]["device_flops"] / whole,
            "device_parameters": found[name]["device_parameters"],
            "batch_norms": found[name]["batch_norms"],
        }
        for name, shape in zip(names, shapes[1:], strict=True)
    ]
