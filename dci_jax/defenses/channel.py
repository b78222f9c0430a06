"""The channel between device and server: one defense at one split, learned if necessary, for one or several queries."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.defenses import registry
from dci_jax.defenses.noise import unchanged
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.network import Network, first_blocks
from dci_jax.typing import Array, Pytree


@flax.struct.dataclass
class Channel:
    """An applied defense: a pytree, so that a compiled program serves every strength and number of queries.

    Attributes:
      kind: a key of `DEFENSES`.
      strength: strength of the defense.
      num_queries: how often each input is sent, with fresh randomness; the attacker receives every result.
      params: learned parameters, {} before learning or if there are none.
      received: the received features [B, ...], for an attacker's comparison; None elsewhere.
    """

    kind: str = flax.struct.field(pytree_node=False)
    strength: Pytree  # a number; in a tree of other things than arrays, one of these
    num_queries: Pytree = 1
    params: Pytree = flax.struct.field(default_factory=dict)
    received: Pytree = None

    @property
    def label(self) -> str:
        """Its name in tables and files, such as "none", "gaussian 0.5" or "gaussian 0.5 x10"."""
        if self.kind == "none":
            return "none"
        return f"{self.kind} {self.strength:g}" + (f" x{self.num_queries}" if self.num_queries > 1 else "")

    @property
    def columns(self) -> dict[str, str | float]:
        """Its columns in the results."""
        return {"defense": self.label, "strength": float(self.strength), "num_queries": int(self.num_queries)}

    def __call__(self, features: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """Expected received features for features [B, ...], differentiable: an attacker's model of the defense, [B, ...]."""
        strength, num_queries = (jnp.asarray(n, jnp.float32) for n in (self.strength, self.num_queries))
        return registry.find(self.kind).expected(self.params, features, strength, self.received, num_queries)


NONE = Channel("none", 0.0)


def learn(
    channel: Channel, network: Network, index: int, inputs: Prior, key: Array, folder: Path, steps: int
) -> Channel:
    """The channel with its defense learned from `inputs`, at split `index`; a killed run resumes from `folder`."""
    row = registry.find(channel.kind)
    if not row.learn:
        return channel
    key_inputs, key = jax.random.split(key)
    made = batches(inputs, key_inputs, row.batch)
    return replace(channel, params=row.learn(network, index, channel.strength, made, key, folder, steps))


def send(channel: Channel, key: Array, features: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """What the server receives for features [B, ...]; of several queries, an attacker's combination of them. [B, ...]."""
    once = replace(channel, num_queries=1)
    found = [_send(once, jax.random.fold_in(key, number), features) for number in range(channel.num_queries)]
    return registry.find(channel.kind).joined(found)


@jax.jit
def _send(channel, key, features):
    return registry.find(channel.kind).send(channel.params, key, features, channel.strength)


def sent(
    network: Network, index: int, channel: Channel, key: Array, images: Float[Array, "B ..."]
) -> Float[Array, "B ..."]:
    """Images [B, H, W, C] -> the features that the server receives at split `index`."""
    features = first_blocks(network, index, images)
    return features if channel.kind == "none" else send(channel, key, features)


def message_bytes(channel: Channel, features: Float[Array, "B ..."], received: Float[Array, "B ..."]) -> np.ndarray:
    """Payload size of each example in bytes, int [B]; see `size`.

    Args:
      channel: the applied defense.
      features, received: before and after it, [B, ...]; for random defenses, of one query.
    """
    row = registry.find(channel.kind)
    travels = row.travels(channel.params, features, channel.strength)
    arrays = np.asarray(received if travels is None else travels)
    with ThreadPoolExecutor() as pool:  # sorting and deflate release the lock
        return np.array(list(pool.map(lambda example: row.size(example, channel.strength), arrays)))


def with_defense(network: Network, index: int, channel: Channel) -> Network:
    """The network as modelled by an attacker who knows the defense: at split `index`, the expected received features."""
    if registry.find(channel.kind).expected in (registry.DEFENSES["none"].expected, unchanged):
        return network
    block = network.blocks[index - 1].replace(sends=channel)
    return network.replace(blocks=(*network.blocks[: index - 1], block, *network.blocks[index:]))


def with_observation(network: Network, received: Float[Array, "B ..."]) -> Network:
    """The same network whose channel, if any, knows the received features [B, ...]: zeros may carry no information."""
    blocks = (
        block if block.sends is None else block.replace(sends=replace(block.sends, received=received))
        for block in network.blocks
    )
    return network.replace(blocks=tuple(blocks))
