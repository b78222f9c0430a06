"""A chain of inverters, from the features at a split point back to the input: R_1(...R_k(f_k))."""

import math
from pathlib import Path

import flax.struct
import jax

from dci_jax.dci import inverter
from dci_jax.dci.inverter import Geometry
from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes, with_side

Array = jax.Array


@flax.struct.dataclass
class Inverter:
    """One solved inverter `R_i: f_i -> f_{i-1}`, a pytree whose leaves are its kernels.

    Attributes:
      kernels: the first map [k, k, regressors, targets], then one for each correction; see `dci.inverter`.
      spec: how the block's input and output lie on one grid.
    """

    kernels: tuple[Array, ...]
    spec: Geometry = flax.struct.field(pytree_node=False)

    def __call__(self, network: Network, sent: Array, features: Array) -> Array:
        """The estimate of `f_{i-1}` [B, ...].

        Args:
          network: the target; each correction compares its answer with the features.
          sent: what the chain was given, [B, ...] at its split point.
          features: f_i [B, ...], or an estimate of it.
        """
        x = inverter.first(self.spec, self.kernels[0], features)
        for kernel in self.kernels[1:]:
            x = inverter.corrected(self.spec, kernel, network, sent, features, x)
        return x

    def __repr__(self) -> str:
        first, *corrections = (f"{kernel.shape[0]} x {kernel.shape[1]}" for kernel in self.kernels)
        return f"kernel {first}" + (f", {len(corrections)} corrections {corrections[0]}" if corrections else "")


@flax.struct.dataclass
class Chain:
    """Reconstructs inputs from the features at one split point; a pytree, so `jit`, `vmap` and `grad` take it.

    Made by `solve_chain`, `train_chain` or `load_chain`.

    Attributes:
      inverters: the deepest first: callables `(network, sent, f_i) -> f_{i-1}`, `Inverter` or `TrainedInverter`.
      network: the target, which corrects the inverters; where the attacker knows a defense, with that defense.
      split: the split point.
      feature_shape: of one example at the split point, (h, w, C).
      validation_mse: mean squared error on the images that chose the ridge and the number of corrections; None if unknown.
    """

    inverters: tuple
    network: Network
    split: str = flax.struct.field(pytree_node=False)
    feature_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    validation_mse: float | None = flax.struct.field(pytree_node=False, default=None)

    def __call__(self, features: Array) -> Array:
        """Reconstructions [B, H, W, C] in [0, 1], or latent codes [B, C], of features [B, h, w, c] at the split point.

        Raises:
          InputError: the features do not have the shape that the network has at this split point.
        """
        return self.estimates(features)[0]

    def estimates(self, features: Array) -> tuple[Array, ...]:
        """All estimates on the way, (f_0, ..., f_k) [B, ...]; f_0 is the reconstruction, f_k are `features` themselves.

        Raises:
          InputError: see `__call__`.
        """
        if features.ndim != len(self.feature_shape) + 1 or features.shape[1:] != self.feature_shape:
            raise InputError(
                f"The features have the shape {list(features.shape)}, but {self.network.name} gives "
                f"[B, {', '.join(map(str, self.feature_shape))}] at {self.split}, channels last; for images of another size "
                "take chain.at_side(pixels)."
            )
        found = [features]
        # float32 means float32: a correction is the difference of two features that are nearly equal.
        with jax.default_matmul_precision("highest"):
            for each in self.inverters:
                found.insert(0, each(self.network, features, found[0]))
        return tuple(found)

    def at_side(self, side: int) -> "Chain":
        """The same chain for images of another size, [side, side, C]: solved inverters are convolutions.

        Raises:
          InputError: the network does not take images of that size.
        """
        network = with_side(self.network, side)
        return self.replace(network=network, feature_shape=feature_shapes(network)[len(self.inverters)])

    @property
    def validation_psnr(self) -> float | None:
        """PSNR in dB of the mean squared error on procedural images that the chain was not solved on; None if unknown."""
        return None if self.validation_mse is None else -10 * math.log10(max(self.validation_mse, 1e-10))

    def save(self, path: str | Path) -> None:
        """Write the chain to one .safetensors file; `load_chain` reads it for the same network."""
        from dci_jax.dci.chain_file import save

        save(self, path)

    @classmethod
    def of(cls, inverters: tuple, network: Network, split: str, validation_mse: float | None = None) -> "Chain":
        """The chain of these inverters, the deepest first, for the network's own size of inputs."""
        return cls(tuple(inverters), network, split, feature_shapes(network)[len(inverters)], validation_mse)

    def __repr__(self) -> str:
        names = [block.name for block in self.network.blocks[: len(self.inverters)]][::-1]
        psnr = "" if self.validation_mse is None else f", validation PSNR {self.validation_psnr:.1f} dB"
        lines = (f"\n  {name}: {each!r}" for name, each in zip(names, self.inverters, strict=True))
        return f"Chain({self.network.name} at {self.split}, {len(self.inverters)} inverters{psnr}){''.join(lines)}"
