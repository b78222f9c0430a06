"""A feature codec: decorrelated channels, cosine transform, one quantiser, entropy coding; no learned part but the channels' basis.

Standardised codecs of features (MPEG-AI's FCM) have these stages with a video encoder as the last; here it is deflate.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.network import Network, first_blocks
from dci_jax.typing import Array

Features = Float[Array, "B *f"]

_BATCHES = 4  # of images for the channels' covariance


def codec(params: dict[str, Array], key: Array | None, features: Features, strength: Array | float) -> Features:
    """What a decoder makes of `coefficients`."""
    found = coefficients(params, features, strength) * (strength * params["deviation"])
    if found.ndim == 4:
        found = jax.scipy.fft.idctn(found, axes=(1, 2), norm="ortho")
    return found @ params["basis"].T + params["mean"]


def coefficients(params: dict[str, Array], features: Features, strength: Array | float) -> Features:
    """Whole numbers [B, ...]: coefficients in steps of `strength` deviations of the features."""
    found = (features - params["mean"]) @ params["basis"]
    if found.ndim == 4:
        found = jax.scipy.fft.dctn(found, axes=(1, 2), norm="ortho")
    return jnp.round(found / (strength * params["deviation"]))


def coefficient_bytes(example: np.ndarray, strength: float) -> int:
    """Size in bytes of one example's coefficients [..., C], channel by channel, after deflate."""
    planes = np.moveaxis(np.asarray(example), -1, 0)
    width = np.int8 if np.abs(planes).max(initial=0) < 128 else np.int32
    return len(zlib.compress(planes.astype(width).tobytes(), 9))


def learn_codec(
    network: Network,
    index: int,
    strength: float,
    batches: Callable[[int], Array],
    key: Array | None,
    folder: Path,
    steps: int,
) -> dict[str, Array]:
    """Mean, principal axes [C, C] and deviation of the features of some images. Solved, not trained."""
    features = np.concatenate([first_blocks(network, index, batches(number)) for number in range(_BATCHES)])
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    _, basis = np.linalg.eigh(np.cov(rows.T).reshape(rows.shape[1], -1))
    found = {"mean": rows.mean(0), "basis": basis[:, ::-1], "deviation": rows.std() + 1e-12}
    return jax.tree.map(jnp.float32, found)
