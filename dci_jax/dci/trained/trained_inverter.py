"""One trained inverter, applied: a link of a `Chain`."""

import flax.struct
import jax
from jaxtyping import Float

from dci_jax.dci.trained.inverter_network import Inverter
from dci_jax.dci.trained.objective import undo
from dci_jax.inputs.latents import clip, latent_prior
from dci_jax.network import Network
from dci_jax.typing import Array, Pytree


@flax.struct.dataclass
class TrainedInverter:
    """One trained inverter `R_i: f_i -> f_{i-1}`, a pytree whose leaves are its parameters.

    Attributes:
      params: parameters of the module.
      module: the convolutional network, unrolled around the block.
      index: index of the block, from 0.
    """

    params: Pytree
    module: Inverter = flax.struct.field(pytree_node=False)
    index: int = flax.struct.field(pytree_node=False)

    def __call__(
        self, network: Network, sent: Float[Array, "B ..."], features: Float[Array, "B ..."]
    ) -> Float[Array, "B ..."]:
        """Estimate `f_{i-1}` [B, ...] from `features`, f_i [B, ...] or an estimate of it; `sent` is unused.

        Each inverter is compiled separately, so that all split points share it.
        """
        found = _undo(self.module, self.params, network, self.index, features)
        return found if self.index else clip(latent_prior(network), found)

    def __repr__(self) -> str:
        return f"trained, {self.module.width} hidden channels, {self.module.num_corrections} corrections"


_undo = jax.jit(undo, static_argnums=(0, 3))
