"""A generator's codes read back -> latent error, and how near the image regenerated from them is, per code."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import metrics
from dci_jax.blocks import Network, run, split_index, trace
from dci_jax.damages import DAMAGES
from dci_jax.evaluate import each, features_at
from dci_jax.losses import batch_norm_statistics

Array = jax.Array


def evaluate_codes(
    network: Network,
    codes: np.ndarray,
    reconstruct: Callable[[Array], Array],
    split: str,
    damage: tuple[str, float],
    key: Array,
    file: Path,
    batch: int,
) -> dict[str, np.ndarray]:
    """Read every code back from its features at one split; kept in files, so that it is done once.

    Args:
      network: a generator.
      codes: the private ones, float32 [N, C].
      reconstruct: features [B, ...] -> codes [B, C]. It never sees the codes.
      split: split point; the last has the image itself for features.
      damage: (key of `DAMAGES`, strength), applied to the features; other than "none" at the last
        split only.
      key: for the damage.
      file: .npz, see `evaluate.evaluate`.
      batch: codes at a time, shared by the devices.

    Returns:
      Each [N]: "latent_cosine" and "latent_error" (relative l2) of the codes; "mse", "psnr" and
      "ssim" of the image regenerated from the code, against the undamaged one; "psnr_sent" of what
      was given to the attack, where that is an image. And "code" float32 [N, C], "reconstruction"
      and "sent" uint8 [N, H, W, 3].
    """
    index, (name, strength) = split_index(network, split), damage

    def one(truth, start):
        features = features_at(network, index, truth)
        sent = hurt(name, strength, jax.random.fold_in(key, start), features)
        return measure(network, index, truth, reconstruct(sent), sent)

    return each(file, batch, one, codes)


def guess_codes(
    network: Network, codes: np.ndarray, guesses: np.ndarray, file: Path, batch: int
) -> dict[str, np.ndarray]:
    """Like `evaluate_codes` at the last split, for guesses [N, C] that were made without any features."""

    def one(truth, guess, _):
        index = len(network.blocks)
        return measure(network, index, truth, guess, features_at(network, index, truth))

    return each(file, batch, one, codes, guesses)


def evaluate_images(
    network: Network,
    images: np.ndarray,
    reconstruct: Callable[[Array], Array],
    file: Path,
    batch: int,
) -> dict[str, np.ndarray]:
    """The same for given images uint8 [N, H, W, 3], which no code need belong to: no latent errors."""

    def one(truth, _):
        code = reconstruct(truth)
        return compared(features_at(network, len(network.blocks), code), truth) | {"code": code}

    return each(file, batch, one, images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def hurt(name: str, strength: float, key: Array, features: Array) -> Array:
    """What the attack is given: the features behind a key of `DAMAGES`."""
    return DAMAGES[name](key, features, strength)


@functools.partial(jax.jit, static_argnums=1)
def measure(
    network: Network, index: int, truth: Array, found: Array, sent: Array
) -> dict[str, Array]:
    """See `evaluate_codes`: codes [B, C], the true and the found, and the features `sent` at split `index`."""
    image, again = run(network, truth), run(network, found)
    whole = index == len(network.blocks)
    return compared(again, image) | {
        "latent_cosine": metrics.latent_cosine(found, truth),
        "latent_error": metrics.latent_error(found, truth),
        "psnr_sent": metrics.psnr(sent, image) if whole else jnp.full(len(truth), jnp.nan),
        "sent": jnp.round((sent if whole else image) * 255).astype(jnp.uint8),
        "code": found,
    }


def compared(found: Array, truth: Array) -> dict[str, Array]:
    """mse, psnr, ssim [B] and "reconstruction" uint8, of images [B, H, W, 3] in [0, 1]."""
    return {
        "mse": metrics.mse(found, truth),
        "psnr": metrics.psnr(found, truth),
        "ssim": metrics.ssim(found, truth),
        "reconstruction": jnp.round(found * 255).astype(jnp.uint8),
    }


@jax.jit
def unlikeliness(network: Network, codes: Array) -> Array:
    """How far the BatchNorm statistics of each code's own features are from the running ones. [N].

    A generator's defective samples are those with features unlike what it had in training; a score
    without data.
    """
    running = tuple(block.params.get("batch_stats", {}) for block in network.blocks)

    def one(code):
        return batch_norm_statistics(trace(network, code[None])[1], running)

    return jax.lax.map(one, codes, batch_size=32)


@jax.jit
def depths(network: Network, codes: Array, estimates: tuple[Array, ...]) -> dict[str, Array]:
    """What each block's inverter made of the block behind it, on the way from an image to its code.

    Args:
      network: a generator.
      codes: the true ones, [B, C].
      estimates: (f_0, ..., f_N), from an attack's `unwind`.

    Returns:
      "errors" [B, N]: |f'_i - f_i| / |f_i - mean f_i| of i = 0 ... N - 1; "pictures" uint8
      [B, N, H, W, 3]: what the rest of the generator makes of each estimate.
    """
    features, errors, pictures = trace(network, codes)[0], [], []
    for i, (estimate, truth) in enumerate(zip(estimates[:-1], features, strict=False)):
        axes = tuple(range(1, truth.ndim))
        spread = jnp.sqrt(jnp.sum((truth - truth.mean(0)) ** 2, axes))
        errors.append(jnp.sqrt(jnp.sum((estimate - truth) ** 2, axes)) / spread)
        pictures.append(jnp.round(run(network, estimate, i) * 255).astype(jnp.uint8))
    return {"errors": jnp.stack(errors, 1), "pictures": jnp.stack(pictures, 1)}
