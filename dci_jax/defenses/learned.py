"""Defenses that are trained before anything is sent: a narrow bottleneck, NoPeek, learned noise. The server is frozen.

They learn from procedural or synthesised images, or from real ones in `defense.images`; the server's own
prediction is the label. Every `learn` is `(network, index, strength, batches, key, folder, steps) -> params`.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from dci_jax.defenses.noise import deviation
from dci_jax.losses import distance_correlation, l2
from dci_jax.network import Network, first_blocks, logits, run
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array

Batches = Callable[[int], Array]

LEVELS = 255  # a bottleneck's values are sent in 8 bits
_NOISE = (1e-3, 100.0)  # scales of learned noise, in units of the features' deviation
_RATE = 3e-3
_ANSWERED = 32  # maximum number of images per batch for which the server's prediction is computed


def task_loss(
    network: Network, index: int, features: Float[Array, "B ..."], received: Float[Array, "B ..."]
) -> Float[Array, ""]:
    """The server's loss: KL(prediction from `features` || prediction from `received`) + distance of the last features. Scalar.

    Args:
      network: the target; without a head, only the distance of the last features counts.
      index: split.
      features, received: at that split, [B, ...].
    """
    right, found = (run(network, f, index) for f in (features, received))
    loss = l2(found, right)
    if network.head:
        right, found = (jax.nn.log_softmax(logits(network, f)) for f in (right, found))
        loss += jnp.mean(jnp.sum(jnp.exp(right) * (right - found), -1))
    return loss


def bottleneck(
    params: dict[str, Array], key: Array | None, features: Float[Array, "B ..."], strength: Array
) -> Float[Array, "B ..."]:
    """1 x 1 convolution down to 1 / `strength` of the channels, 8 bits, 1 x 1 convolution up. Straight-through gradients."""
    return narrow(params, features) @ params["up"] + params["bias"]


def narrow(params: dict[str, Array], features: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """What a bottleneck sends: [B, ..., channels / strength], each example's range in 8 bits."""
    sent = (features - params["bias"]) @ params["down"]
    axes = tuple(range(1, sent.ndim))
    low, high = jnp.min(sent, axes, keepdims=True), jnp.max(sent, axes, keepdims=True)
    step = (high - low) / LEVELS + 1e-12
    coarse = jnp.round((sent - low) / step) * step + low
    return sent + jax.lax.stop_gradient(coarse - sent)


def learn_bottleneck(
    network: Network, index: int, strength: float, batches: Batches, key: Array | None, folder: Path, steps: int
) -> dict[str, Array]:
    """The features' principal components, then `steps` of Adam on `task_loss` (Eshratifar et al., ISLPED 2019)."""
    features = np.concatenate([first_blocks(network, index, batches(number)) for number in range(4)])
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    bias, channels = rows.mean(0), max(1, round(rows.shape[1] / strength))
    _, vectors = np.linalg.eigh(np.cov(rows.T).reshape(rows.shape[1], -1))
    main = np.float32(vectors[:, ::-1][:, :channels])
    start = {"down": main, "up": main.T, "bias": np.float32(bias)}
    return _trained(bottleneck, 0.0, network, index, start, batches, key=key, folder=folder, steps=steps)


def nopeek(
    params: dict[str, Array], key: Array | None, features: Float[Array, "B ..."], strength: Array
) -> Float[Array, "B ..."]:
    """One more 3 x 3 convolution on the device, with a shortcut."""
    if features.ndim == 2:
        return features + features @ params["kernel"][1, 1]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return features + jax.lax.conv_general_dilated(
        features, params["kernel"], (1, 1), "SAME", dimension_numbers=dimensions
    )


def learn_nopeek(
    network: Network, index: int, strength: float, batches: Batches, key: Array | None, folder: Path, steps: int
) -> dict[str, Array]:
    """NoPeek (Vepakomma et al., ICDMW 2020): `task_loss` + strength x distance correlation of features and images.

    The correlation is bias-corrected (see `losses`) and covers all images of a batch, `task_loss` the first 32. NoPeek trains the
    whole device part, with labels; here one more layer is trained, without labels, and the server is frozen.
    """
    channels = first_blocks(network, index, batches(0)).shape[-1]
    start = {"kernel": np.zeros((3, 3, channels, channels), np.float32)}
    return _trained(nopeek, strength, network, index, start, batches, key=key, folder=folder, steps=steps)


def learned_noise(
    params: dict[str, Array], key: Array | None, features: Float[Array, "B ..."], strength: Array
) -> Float[Array, "B ..."]:
    """Laplace noise whose scale is learned for every value of the features."""
    scale = jnp.exp(params["scale"]) * deviation(features)
    return features + scale * jax.random.laplace(key, features.shape)


def learn_noise(
    network: Network, index: int, strength: float, batches: Batches, key: Array | None, folder: Path, steps: int
) -> dict[str, Array]:
    """After Shredder (Mireshghallah et al., ASPLOS 2020): `task_loss` - strength x mean log scale of the noise.

    Shredder draws from a collection of noise tensors that were trained one by one; here one distribution is trained.
    """
    shape = first_blocks(network, index, batches(0)).shape[1:]
    start = {"scale": np.full(shape, np.log(0.5), np.float32)}
    return _trained(learned_noise, strength, network, index, start, batches, key=key, folder=folder, steps=steps)


def _trained(send, strength, network, index, start, batches, *, key, folder, steps):
    def drawn(number):
        return {"images": batches(number), "key": jax.random.fold_in(key, number)}

    params, _ = minimize(
        _loss(send, index, "scale" in start),
        start,
        (network, jnp.float32(strength)),
        drawn,
        steps=steps,
        optimizer=_optimizer(steps),
        project=_bounded if "scale" in start else _free,
        label=f"defense {folder.name}",
        folder=folder,
    )
    return params


@functools.cache
def _optimizer(steps):
    return optax.adam(optax.cosine_decay_schedule(_RATE, steps))


@functools.cache  # `minimize` compiles once per loss object
def _loss(send: Callable[..., Array], index: int, noise: bool) -> Callable[..., Any]:
    def loss(params, frozen, batch):
        network, strength = frozen
        features = run(network, batch["images"], 0, index)
        received = send(params, batch["key"], features, strength)
        terms = {"task": task_loss(network, index, features[:_ANSWERED], received[:_ANSWERED])}
        if noise:
            terms["noise"] = -jnp.mean(params["scale"])
        elif send is nopeek:
            terms["correlation"] = distance_correlation(batch["images"], received)
        return terms["task"] + strength * sum(list(terms.values())[1:]), terms

    return loss


def _free(params):
    return params


def _bounded(params):
    return {"scale": jnp.clip(params["scale"], *map(np.log, _NOISE))}
