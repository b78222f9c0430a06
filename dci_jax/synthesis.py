"""Inputs without data: images whose BatchNorm statistics are those that the network remembers.

DeepInversion (Yin et al., CVPR 2020): start from noise, or better from procedural images, and let
gradient descent make the network's batch statistics on them equal to its running statistics, and
its answer equal to a chosen label.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dci_jax import losses
from dci_jax.blocks import Network, logits, running_statistics, trace
from dci_jax.errors import InputError
from dci_jax.files import replacing
from dci_jax.optimize import minimize
from dci_jax.procedural import GENERATORS

Array = jax.Array


def synthesize(
    network: Network,
    key: Array,
    folder: Path,
    *,
    batches: int,
    batch: int,
    steps: int,
    start: str,
    learning_rate: float,
    statistics: float,
    cross_entropy: float,
    total_variation: float,
    l2: float,
    jitter: int,
) -> np.ndarray:
    """Images made from the network alone.

    Args:
      network: the target, with BatchNorm layers.
      key: PRNG key.
      folder: gets one file for each finished batch; a killed run goes on after the last.
      batches: how many batches.
      batch: images in each; their joint statistics are matched, so hundreds.
      steps: Adam updates for each batch.
      start: what they start from, a key of `procedural.GENERATORS`; the paper's is "white_noise".
      learning_rate: Adam's, in pixel units of [0, 1]; it falls to zero along a cosine.
      statistics, cross_entropy, total_variation, l2: weights of the loss terms.
      jitter: the images are shifted by up to so many pixels in every step.

    Returns:
      uint8 [batches * batch, H, W, C].

    Raises:
      InputError: the network has no BatchNorm layer.
    """
    if batches and not jax.tree.leaves(running_statistics(network)):
        raise InputError(
            f"{network.name} has no BatchNorm layer, so there are no statistics to match; "
            "set --config.synthesis.batches=0 and train on procedural images."
        )
    weights = {"statistics": statistics, "cross_entropy": cross_entropy}
    weights |= {"total_variation": total_variation, "l2": l2}
    weights = {name: jnp.float32(weight) for name, weight in weights.items()}
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    loss = functools.partial(synthesis_loss, jitter)
    done = []
    for number in range(batches):
        file = folder / f"batch_{number:05d}.npy"
        if not file.exists():
            key_start, key_labels, key_steps = jax.random.split(jax.random.fold_in(key, number), 3)
            images = jax.jit(GENERATORS[start], static_argnums=(1, 2))(
                key_start, batch, network.input_shape
            )
            classes = jax.eval_shape(_scores, network, images).shape[1]
            labels = jax.random.randint(key_labels, (batch,), 0, classes)
            images, _ = minimize(
                loss,
                images,
                (network, labels, weights),
                functools.partial(jax.random.fold_in, key_steps),
                steps=steps,
                optimizer=optimizer,
                project=clip,
                label=f"synthesis: batch {number + 1} of {batches}",
            )
            with replacing(file, "wb") as stream:
                np.save(stream, np.asarray(jnp.round(images * 255), np.uint8))
        done.append(np.load(file))
    return np.concatenate([np.zeros((0, *network.input_shape), np.uint8), *done])


def synthesis_loss(
    jitter: int, images: Array, frozen: tuple, key: Array
) -> tuple[Array, dict[str, Array]]:
    """cross-entropy + BatchNorm statistics + total variation + l2 (DeepInversion, eqs. 2 to 4).

    Args:
      jitter: largest shift in pixels.
      images: [B, H, W, C] in [0, 1].
      frozen: (network, labels [B], weights).
      key: for the shift and the flip of this step.

    Returns:
      (loss, terms), the terms without their weights.
    """
    network, labels, weights = frozen
    key_shift, key_flip = jax.random.split(key)
    shift = jax.random.randint(key_shift, (2,), -jitter, jitter + 1)
    seen = jnp.roll(images, shift, (1, 2))
    seen = jnp.where(jax.random.bernoulli(key_flip), seen[:, :, ::-1], seen)
    features, found = trace(network, seen)
    scores = logits(network, features[-1])
    terms = {
        "statistics": losses.batch_norm_statistics(found, running_statistics(network)),
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean(),
        "total_variation": losses.total_variation(images),
        "l2": jnp.mean((images - 0.5) ** 2),
    }
    return sum(weights[name] * term for name, term in terms.items()), terms


def clip(images: Array) -> Array:
    """To valid pixels, [0, 1]."""
    return jnp.clip(images, 0, 1)


def _scores(network: Network, images: Array) -> Array:
    return logits(network, trace(network, images)[0][-1])
