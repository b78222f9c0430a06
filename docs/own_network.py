"""How to audit your own network: give dci_jax a function that returns it. This page runs as it is.

    python -m dci_jax.main --config=configs/default.py --workdir=runs/own \\
        --config.target.name=docs.own_network:small_vgg

and with a trained network of yours and your own images `--config.target.weights=my_weights.npz
--config.data.images=my_photos/`. `target.name` is module:function, importable from the folder where you
start; the function gets `target.weights` and returns a `Network`. A network is a list of pieces, and behind each piece lies a
split point: (name, function, parameters), where the function is any pure `(parameters, x) -> y` on
images [B, H, W, C]. Three things help the attack, and none is needed:

* BatchNorm statistics. Return `(y, statistics)`, with the batch mean and biased variance of what goes
  into each BatchNorm layer, and keep the running ones under `parameters["batch_stats"]` in a tree of
  the same shape. `dci_trained` and `deepinversion` match them. Flax modules need nothing:
  `flax_piece` taps their `nn.BatchNorm` layers. Without BatchNorm a warning says so, and the label and
  procedural images must do.
* A head. It measures label agreement, and shapes synthesised images by their label.
* Mean and std of the normalisation that your network was trained with; images are in [0, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dci_jax.models.layers import flax_piece
from dci_jax.network import Network
from dci_jax.pieces import sequential


def convolution(params, x):
    """[B, H, W, C] -> [B, H / 2, W / 2, D]: convolution, BatchNorm, ReLU, pooling; any JAX code will do."""
    x = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    statistics = {"mean": jnp.mean(x, (0, 1, 2)), "var": jnp.var(x, (0, 1, 2))}
    running = params["batch_stats"]
    x = (x - running["mean"]) * jax.lax.rsqrt(running["var"] + 1e-5)
    x = nn.relu(params["scale"] * x + params["bias"])
    return nn.max_pool(x, (2, 2), (2, 2)), statistics


def classify(params, x):
    """[B, h, w, C] -> logits [B, classes]."""
    return jnp.mean(x, (1, 2)) @ params["kernel"]


def small_vgg(weights: str) -> Network:
    """Three convolutions for 32x32 images; `weights` is an .npz, or empty for random ones."""
    found = dict(np.load(weights)) if weights else random_weights()
    pieces = []
    for name in ("conv1", "conv2", "conv3"):
        params = {leaf: found[f"{name}.{leaf}"] for leaf in ("kernel", "scale", "bias")}
        params["batch_stats"] = {leaf: found[f"{name}.{leaf}"] for leaf in ("mean", "var")}
        pieces.append((name, convolution, params))
    head = (classify, {"kernel": found["fc.kernel"]})
    return sequential("small_vgg", (32, 32, 3), pieces, head, mean=(0.5,), std=(0.25,))


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """What my_weights.npz would hold: one array for each name."""
    rng, found, before = np.random.default_rng(seed), {}, 3
    for name, after in (("conv1", 16), ("conv2", 32), ("conv3", 64)):
        found[f"{name}.kernel"] = rng.normal(0, (2 / 9 / before) ** 0.5, (3, 3, before, after))
        found |= {f"{name}.{leaf}": np.ones(after) for leaf in ("scale", "var")}
        found |= {f"{name}.{leaf}": np.zeros(after) for leaf in ("bias", "mean")}
        before = after
    found["fc.kernel"] = rng.normal(0, 0.1, (before, 10))
    return {name: array.astype(np.float32) for name, array in found.items()}


class Stage(nn.Module):
    """The same for Flax: a module per piece, in evaluation mode."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.features, (3, 3), (2, 2), use_bias=False)(x)
        return nn.relu(nn.BatchNorm(use_running_average=True)(x))


def small_flax(weights: str) -> Network:
    """Two Flax stages with random weights, and no head."""
    del weights
    x, pieces = jnp.zeros((1, 32, 32, 3)), []
    for number, module in enumerate((Stage(16), Stage(32))):
        x, variables = module.init_with_output(jax.random.key(number), x)
        pieces.append(flax_piece(f"stage{number}", module, variables))
    return sequential("small_flax", (32, 32, 3), pieces)
