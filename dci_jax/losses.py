"""The papers' equations: feature distance, cycle consistency, total variation, BatchNorm statistics."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.typing import Array, Pytree


def l1(
    estimate: Float[Array, "B *f"],
    truth: Float[Array, "B *f"],
    scale: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """mean |estimate - truth|, relative to the truth's mean deviation (`scale`). Scalar."""
    estimate, truth = _float32(estimate, truth)
    scale = deviation(truth) if scale is None else scale
    return jnp.mean(jnp.abs(estimate - truth)) / (jax.lax.stop_gradient(scale) + 1e-6)


def deviation(truth: Float[Array, "B *f"]) -> Float[Array, ""]:
    """mean |truth - its channel means|. Scalar."""
    (truth,) = _float32(truth)
    return jnp.mean(jnp.abs(truth - _channel_mean(truth)))


def l2(
    estimate: Float[Array, "B *f"],
    truth: Float[Array, "B *f"],
    scale: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """mean (estimate - truth)^2, relative to the truth's variance (`scale`). Scalar."""
    estimate, truth = _float32(estimate, truth)
    scale = variance(truth) if scale is None else scale
    return jnp.mean((estimate - truth) ** 2) / (jax.lax.stop_gradient(scale) + 1e-6)


def variance(truth: Float[Array, "B *f"]) -> Float[Array, ""]:
    """mean (truth - its channel means)^2. Scalar."""
    (truth,) = _float32(truth)
    return jnp.mean((truth - _channel_mean(truth)) ** 2)


def cosine(
    estimate: Float[Array, "B *f"],
    truth: Float[Array, "B *f"],
    scale: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """1 - cosine similarity per example, averaged; needs no scale. Scalar in [0, 2]."""
    del scale
    a, b = (v.reshape(v.shape[0], -1) for v in _float32(estimate, truth))
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.mean(1 - jnp.sum(a * b, 1) / (norms + 1e-12))


# Distance of an estimate [B, ...] from the truth [B, ...], by its name in a config.
# Scaling by the truth's deviation or variance makes one weight serve every layer and network.
DISTANCES = {"l1": l1, "l2": l2, "cosine": cosine}
# The scale of each, for callers that see only part of the batch: truth [B, ...] of the whole batch -> scalar.
SCALES = {"l1": deviation, "l2": variance, "cosine": variance}


def total_variation(images: Float[Array, "B H W C"]) -> Float[Array, ""]:
    """Mean length of the pixel gradient of [B, H, W, C] (Rudin, Osher & Fatemi, 1992). Scalar."""
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    return jnp.mean(jnp.sqrt(down**2 + right**2 + 1e-8))


def batch_norm_statistics(
    statistics: Pytree, running: Pytree, first: Float[Array, ""] | float | int = 1.0
) -> Float[Array, ""]:
    """How far a batch's BatchNorm statistics are from the running ones (DeepInversion, eq. 4).

    For each layer `|mean - running mean| / |running std| + |var - running var| / |running var|`
    (norms over channels, not squared), averaged over the layers. The paper does not divide; with
    the division one weight serves networks of every depth and scale.

    Args:
      statistics, running: equal trees whose nodes hold "mean" and "var", each [C].
      first: weight of the first layer, relative to the others.

    Returns:
      Scalar; 0 when equal.

    Raises:
      ValueError: there is no BatchNorm layer in the trees.
    """
    leaves = jax.tree_util.tree_leaves_with_path(running)
    if not leaves:
        raise ValueError("The network has no BatchNorm layer, so there are no statistics to match.")
    new = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(statistics)}
    old = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    terms, weights = [], []
    for path in (p for p in old if p.endswith("['mean']")):
        at = path.removesuffix("['mean']") + "['var']"
        mean = _norm(new[path] - old[path]) / jnp.sqrt(jnp.sum(old[at]))
        var = _norm(new[at] - old[at]) / jnp.linalg.norm(old[at])
        terms.append(mean + var)
        weights.append(1.0 if weights else first)
    return sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)


def _norm(x):
    """The 2-norm, with a gradient of 0 at 0, where a blank image in an untrained network begins."""
    return jnp.sqrt(jnp.sum(x**2) + 1e-30)


def distance_correlation(a: Float[Array, "B *a"], b: Float[Array, "B *b"]) -> Float[Array, ""]:
    """Bias-corrected squared distance correlation of two sets of B >= 4 vectors (Székely & Rizzo, 2013), which NoPeek minimizes.

    For independent vectors it is 0 on average and may be negative; the uncorrected one approaches 1 with their dimension: .997
    for 32 pairs of noise in the dimension of images. Scalar, at most 1.
    """
    count = len(a)
    apart = 1 - jnp.eye(count)

    def centred(x):
        """U-centred distances (eq. 2.1 there): rows, columns and diagonal sum to 0 without a bias."""
        x = x.reshape(count, -1)
        x = x - jnp.mean(x, 0)
        squares = jnp.sum(x**2, 1)
        distances = apart * jnp.sqrt(jnp.maximum(squares[:, None] + squares - 2 * x @ x.T, 0) + 1e-8)
        sums = jnp.sum(distances, 0) / (count - 2)
        return apart * (distances - sums - sums[:, None] + jnp.sum(sums) / (count - 1))

    a, b = map(centred, _float32(a, b))
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2) + 1e-12)


def _float32(*arrays):
    return tuple(array.astype(jnp.float32) for array in arrays)


def _channel_mean(x):
    return jnp.mean(x, tuple(range(x.ndim - 1)), keepdims=True)
