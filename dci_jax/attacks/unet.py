"""A U-Net that corrects another attack's reconstruction, as FBPConvNet corrects a filtered back-projection (Jin et al., IEEE TIP 2017).

    R(f) = x_0 + U(x_0, f)        with the start's reconstruction x_0 of the features f

A solved inverter is a linear map of what it sees: it treats edges, textures and smooth areas alike. U is trained on the attacker's own
images, by the squared pixel error. It needs the network only to make features, and the start to reconstruct them.
"""

import functools
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float

from dci_jax.dci.grid import scale, shuffle, unshuffle
from dci_jax.defenses.channel import NONE, Channel, sent
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr
from dci_jax.models.learned import Weights, conv
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.training_loop import minimize
from dci_jax.tensors import Layout, on_grid
from dci_jax.typing import Array, Reconstruct

log = logging.getLogger("dci_jax")

_INIT = nn.initializers.lecun_normal()
_LEVELS = 2  # halvings at least, for context; features enter at the level of their grid
_WIDEST = 4  # channels of the coarse levels, relative to those at full resolution


class UNet(nn.Module):
    """A reconstruction [B, H, W, C] and its features [B, h, w, c] -> a better one; as initialised, the same.

    Attributes:
      levels: halvings, of which H and W are multiples.
      downsampling: 2^level at which the features enter.
      width: channels at full resolution.
      dtype: of the convolutions.
      tensors: layout of several tensors in the features, of which `downsampling` is the largest's; () of one.
    """

    levels: int
    downsampling: int
    width: int
    dtype: str = "float32"
    tensors: Layout = ()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], f: Float[Array, "B ..."]) -> Float[Array, "B H W C"]:
        f = on_grid(f, self.tensors, max((factor for _, factor in self.tensors), default=1))
        y, kept = self._conv(x - 0.5, self.width, "first"), []
        for level in range(self.levels + 1):
            wide = self._wide(level)
            if 2**level == self.downsampling:
                y = jnp.concatenate([y, self._conv(f, wide, "features", 1)], -1)
            y = self._residual(self._conv(y, wide, f"down{level}", 1), f"down{level}")
            if level < self.levels:
                kept.append(y)
                y = unshuffle(y, 2)
        for level in reversed(range(self.levels)):
            wide = self._wide(level)
            y = shuffle(self._conv(y, 4 * wide, f"grow{level}", 1), 2)
            y = self._conv(jnp.concatenate([kept[level], y], -1), wide, f"up{level}", 1)
            y = self._residual(y, f"up{level}")
        zeros = nn.initializers.zeros
        return x + 0.1 * self._conv(y, x.shape[-1], "last", init=zeros).astype(jnp.float32)

    def _wide(self, level):
        return self.width * min(2**level, _WIDEST)

    def _residual(self, y, name):
        z = nn.gelu(nn.LayerNorm(name=f"{name}_norm")(y))
        z = nn.gelu(self._conv(z, y.shape[-1], f"{name}_conv0"))
        return y + self._conv(z, y.shape[-1], f"{name}_conv1")

    def _conv(self, x, features, name, size=3, init=_INIT):
        return conv(x, Weights((size, size, x.shape[-1], features), init, name=name)(), self.dtype)


def unet(
    network: Network,
    inputs: Prior,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    width: int,
    num_images: int,
    batch: int,
    learning_rate: float,
    steps: int,
    precision: str,
    start: dict[str, Reconstruct],
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Train one U-Net for each split.

    Args:
      network: the target; only its features are used.
      inputs: what the attacker trains on, at the network's own size.
      splits: split points to reconstruct from.
      key: PRNG key.
      folder: stores checkpoints; a killed run resumes from the last. Created if missing, but not its parents.
      width: channels at full resolution.
      num_images: images to train on, rounded up to whole batches; the start reconstructs each once, and every host keeps all, in float16.
      batch: images per step.
      learning_rate: highest learning rate of AdamW; rises over 50 steps, then decays to zero on a cosine schedule.
      steps: training steps for each split.
      precision: "float32", or "bfloat16" for the convolutions in training.
      start: split point -> the reconstruction that is corrected.
      channel: the defense that this attacker knows: the U-Nets train on defended features.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].

    Raises:
      InputError: see `check`, or the loss is not finite.
    """
    folder.mkdir(exist_ok=True)
    inputs, reconstructions = replace(inputs, shape=network.input_shape), {}
    for name in splits:
        split = split_index(network, name)
        key_params, key_inputs = jax.random.split(jax.random.fold_in(key, split))
        draw = batches(inputs, key_inputs, batch)
        count = math.ceil(num_images / batch)
        size = float(jnp.std(sent(network, split, channel, key_inputs, draw(count)))) or 1.0
        make = functools.partial(
            _examples, network, split, channel, key=key_inputs, draw=draw, start=start[name], size=size
        )
        unseen = make(numbers=[count], label="")
        kept = functools.cache(
            lambda m=make, n=count, name=name: m(numbers=range(n), label=f"U-Net: {name}")
        )  # if it trains
        module = unet_for(network, split, width, precision)
        rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(50, steps // 2), steps)
        params, _ = minimize(
            functools.partial(pixel_loss, module),
            jax.jit(module.init)(key_params, *(jnp.float32(unseen[k][:1]) for k in ("start", "features"))),
            (),
            functools.partial(_some, kept, int(jax.random.bits(key_inputs)), batch),
            steps=steps,
            optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01)),
            label=f"U-Net: {name}",
            folder=folder / name,
        )
        module = unet_for(network, split, width)
        found = _decoded(module, params, unseen["start"], unseen["features"])
        before, after = (float(psnr(*map(jnp.float32, (x, unseen["images"]))).mean()) for x in (unseen["start"], found))
        log.info("U-Net: %s: %.2f dB become %.2f dB on %d images that it has not seen", name, before, after, batch)
        reconstructions[name] = functools.partial(_corrected, module, size, params, start[name])
    return reconstructions


def unet_for(network: Network, split: int, width: int, precision: str = "float32") -> UNet:
    """The U-Net for a split's features, at most as deep as the image's size can be halved."""
    (shrunk, _), tensors = scale(network, 0, split), network.blocks[split - 1].tensors
    levels = max(_LEVELS, shrunk.bit_length() - 1)
    while any(side % 2**levels for side in network.input_shape[:2]):
        levels -= 1
    return UNet(levels, shrunk, width, precision, tensors)


def _examples(network, split, channel, *, key, draw, start, size, numbers, label):
    """{"images", "features" / size, "start"} of batches of images, on the host: float16 [N, ...]."""
    found = {}
    for done, number in enumerate(numbers):
        if label and 8 * done % len(numbers) < 8:  # eight times; no bar, because the training shows one
            log.info("%s: %d of %d batches to train on are reconstructed", label, done, len(numbers))
        distributed.stop_if_asked()
        images = draw(number)
        features = sent(network, split, channel, jax.random.fold_in(key, number), images)
        one = {"images": images, "features": features / size, "start": jnp.clip(start(features), 0, 1)}
        for name, a in sharding.fetch(one).items():
            found.setdefault(name, np.empty((len(numbers), *a.shape), np.float16))[done] = a
    return {name: a.reshape(-1, *a.shape[2:]) for name, a in found.items()}


def _some(kept, seed, batch, number):
    """The batch of a step, drawn from all examples."""
    examples = kept()
    rows = np.random.default_rng((seed, number)).integers(0, len(examples["images"]), batch)
    return {name: sharding.put(a[rows], sharding.batch_sharded()) for name, a in examples.items()}


def pixel_loss(module: UNet, params: Any, frozen: tuple, batch: dict[str, Array]):
    """mean (U(x_0, f) - x)^2 of a batch {"images", "features", "start"}."""
    images, features, start = (batch[name].astype(jnp.float32) for name in ("images", "features", "start"))
    loss = jnp.mean((module.apply(params, start, features) - images) ** 2)
    return loss, {"mse": loss}


@functools.partial(jax.jit, static_argnums=0)
def _decoded(module, params, x, f):
    return jnp.clip(module.apply(params, jnp.float32(x), jnp.float32(f)), 0, 1)


def _corrected(module, size, params, start, features):
    return _decoded(module, params, jnp.clip(start(features), 0, 1), features / size)


def check(
    network: Network, splits: tuple[str, ...], shape: tuple[int, ...], *, num_images: int, **settings: Any
) -> None:
    """Raise InputError if a split's features are not smaller than the image by a power of two, or the examples do not fit in memory."""
    shapes = feature_shapes(network)
    for name in splits:
        each = 2 * (2 * math.prod(shapes[0]) + math.prod(shapes[split_index(network, name)]))
        if num_images * each > distributed.memory() // 2:
            raise InputError(
                f"unet.num_images is {num_images}: these images and their features after {name} take {num_images * each / 2**30:.1f} GiB, "
                f"more than half of this machine's memory; give at most {distributed.memory() // 2 // each}."
            )
        shrunk, grown = scale(network, 0, split_index(network, name))
        if grown > 1 or shrunk & (shrunk - 1):
            raise InputError(
                f"dci+unet: {name} has features {shrunk if grown == 1 else f'1/{grown}'} times smaller than the image; a U-Net needs "
                "a power of two. Choose other split points (unet.splits), or leave the attack out."
            )
