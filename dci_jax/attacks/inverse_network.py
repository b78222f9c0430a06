"""The inverse network (He, Zhang & Lee, ACSAC 2019): one decoder per split, trained end to end; an encoder for latents.

It uses only the network's features, not its gradients or weights: a black-box attack.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from dci_jax.attacks.decoder import Decoder, Encoder
from dci_jax.dci.grid import scale
from dci_jax.defenses.channel import NONE, Channel, sent
from dci_jax.inputs.latents import clip, latent_prior
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.network import Network, feature_shapes, split_index, with_dtype
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array, Reconstruct


def inverse_network(
    network: Network,
    inputs: Prior,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    width: int,
    batch: int,
    learning_rate: float,
    steps: int,
    precision: str,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Train one decoder for each split, by the squared pixel error.

    Args:
      network: the target; only its features are used.
      inputs: what the attacker trains on.
      splits: split points to reconstruct from.
      key: PRNG key.
      folder: stores checkpoints; a killed run resumes from the last. Created if missing, but not its parents.
      width: hidden channels at full resolution.
      batch: images per step.
      learning_rate: initial learning rate of Adam; decays to zero on a cosine schedule.
      steps: training steps for each split.
      precision: "float32", or "bfloat16" for the convolutions in training.
      channel: the defense that this attacker knows: the decoders train on defended features.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    folder.mkdir(exist_ok=True)
    reconstructions = {}
    for name in splits:
        split = split_index(network, name)
        key_params, key_inputs = jax.random.split(jax.random.fold_in(key, split))
        decoder, shape = decoder_for(network, split, width, precision)
        draw = functools.partial(
            _pair, with_dtype(network, precision), split, channel, key_inputs, batches(inputs, key_inputs, batch)
        )
        params, _ = minimize(
            functools.partial(pixel_loss, decoder),
            jax.jit(decoder.init)(key_params, jnp.zeros((1, *shape))),
            (),
            draw,
            steps=steps,
            optimizer=optax.adam(optax.cosine_decay_schedule(learning_rate, steps)),
            label=f"inverse network: {name}",
            folder=folder / name,
        )
        decoder, _ = decoder_for(network, split, width)
        reconstructions[name] = functools.partial(decode, decoder, latent_prior(network), params)
    return reconstructions


def decoder_for(
    network: Network, split: int, width: int, precision: str = "float32"
) -> tuple[Decoder | Encoder, tuple[int, ...]]:
    """(network from a split's features to inputs, shape of the features): a decoder for images, an encoder for latents."""
    (shrunk, grown), channels = scale(network, 0, split), network.input_shape[-1]
    shape, tensors = feature_shapes(network)[split], network.blocks[split - 1].tensors
    if latent_prior(network):
        return Encoder(grown, channels, width, precision), shape
    return Decoder(shrunk, channels, width, precision, tensors), shape


@functools.partial(jax.jit, static_argnums=(0, 1))
def decode(decoder: Decoder | Encoder, latent: str, params, features: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Images [B, H, W, C] in [0, 1], or latents [B, C], from features."""
    return clip(latent, decoder.apply(params, features))


def _pair(network, split, channel, key, draw, number):
    """The batch of a step: images, and the features that were sent."""
    images = draw(number)
    return {"images": images, "features": sent(network, split, channel, jax.random.fold_in(key, number), images)}


def pixel_loss(decoder: Decoder | Encoder, params, frozen: tuple, batch: dict[str, Array]):
    """mean (decoder(F(x)) - x)^2 of a batch {"images", "features"}."""
    images, features = batch["images"], batch["features"]
    loss = jnp.mean((decoder.apply(params, features) - images) ** 2)
    return loss, {"mse": loss}
