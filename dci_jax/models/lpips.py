"""LPIPS (Zhang et al., CVPR 2018), version 0.1 on AlexNet: how different two images look, by weights that are given."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from dci_jax.checkpoints.read import read
from dci_jax.errors import InputError
from dci_jax.typing import Array

# torchvision's AlexNet: (number in `features`, channels in, channels out, kernel, stride, padding), pooled before?
_LAYERS = (
    (0, 3, 64, 11, 4, 2, False),
    (3, 64, 192, 5, 1, 2, True),
    (6, 192, 384, 3, 1, 1, True),
    (8, 384, 256, 3, 1, 1, False),
    (10, 256, 256, 3, 1, 1, False),
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1]


def load(backbone: str | Path, linear: str | Path) -> dict[str, Array]:
    """The weights that `lpips` takes.

    Args:
      backbone: torchvision's AlexNet, keys features.0.weight ... features.10.bias (the classifier is not used).
      linear: LPIPS v0.1 linear layers of AlexNet, keys lin0.model.1.weight ... lin4.model.1.weight, each [1, C, 1, 1].

    Raises:
      InputError: a file cannot be read, or lacks a key, or it has another shape.
    """
    found, weights = {}, {Path(path): read(path) for path in (backbone, linear)}
    for tap, (number, before, after, size, *_) in enumerate(_LAYERS):
        for path, key, shape in (
            (Path(backbone), f"features.{number}.weight", (after, before, size, size)),
            (Path(backbone), f"features.{number}.bias", (after,)),
            (Path(linear), f"lin{tap}.model.1.weight", (1, after, 1, 1)),
        ):
            tensor = weights[path].get(key)
            if tensor is None or tensor.shape != shape:
                shown = "no such key" if tensor is None else list(tensor.shape)
                raise InputError(
                    f"{path}: {key} is {shown}, not {list(shape)}; give torchvision's AlexNet in lpips.backbone "
                    "and LPIPS v0.1's alex.pth in lpips.linear."
                )
            found[key] = jnp.array(
                np.transpose(tensor, (2, 3, 1, 0)) if key.startswith("features") and tensor.ndim == 4 else tensor
            )
    return found


def lpips(
    weights: dict[str, Array], images: Float[Array, "B ..."], truth: Float[Array, "B ..."]
) -> Float[Array, "B ..."]:
    """LPIPS of [B, H, W, 3] (or grey, [B, H, W, 1]) in [0, 1] twice: 0 where they are equal. Returns [B]."""
    total = 0.0
    for tap, (a, b) in enumerate(zip(_taps(weights, images), _taps(weights, truth), strict=True)):
        a, b = (x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in (a, b))
        total += jnp.mean((a - b) ** 2 @ weights[f"lin{tap}.model.1.weight"][0, :, 0, 0], (1, 2))
    return total


def _taps(weights, images):
    images = jnp.broadcast_to(images, (*images.shape[:3], 3))
    x, found = (2 * images - 1 - jnp.array(_SHIFT)) / jnp.array(_SCALE), []
    for number, _, _, _, stride, pad, pooled in _LAYERS:
        x = nn.max_pool(x, (3, 3), (2, 2)) if pooled else x
        x = jax.lax.conv_general_dilated(
            x,
            weights[f"features.{number}.weight"],
            (stride, stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = nn.relu(x + weights[f"features.{number}.bias"])
        found.append(x)
    return found
