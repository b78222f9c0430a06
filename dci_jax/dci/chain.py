"""A chain of inverters, from the features at a split point back to the input: R_1(...R_k(f_k))."""

import math
from collections.abc import Sequence
from pathlib import Path

import flax.struct
import jax
from jaxtyping import Float

from dci_jax.arrays import as_features
from dci_jax.dci import inverter
from dci_jax.dci.inverter import InverterSpec
from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes, with_side
from dci_jax.tensors import join, layout, shapes
from dci_jax.typing import Array, Pytree


@flax.struct.dataclass
class Inverter:
    """One solved inverter `R_i: f_i -> f_{i-1}`, a pytree whose leaves are its kernels.

    Attributes:
      kernels: the first map [k, k, regressors, targets], then one for each correction; see `dci.inverter`.
      spec: how the block's input and output lie on one grid.
    """

    kernels: tuple[Array, ...]
    spec: InverterSpec = flax.struct.field(pytree_node=False)

    def __call__(
        self, network: Network, sent: Float[Array, "B ..."], features: Float[Array, "B ..."]
    ) -> Float[Array, "B ..."]:
        """Estimate `f_{i-1}` [B, ...].

        Args:
          network: the target; each correction compares its output with the features.
          sent: the chain's input, [B, ...] at its split point.
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
    """Reconstructs inputs from the features at one split point; a pytree, so it works with `jit`, `vmap` and `grad`.

    Made by `solve_chain`, `train_chain` or `load_chain`.

    Attributes:
      inverters: deepest first; callables `(network, sent, f_i) -> f_{i-1}`, `Inverter` or `TrainedInverter`.
      network: the target, whose outputs correct the inverters; it includes the defense if the attacker knows one.
      split: the split point.
      feature_shape: shape of one example's features at the split point, (h, w, C).
      validation_mse: mean squared error on the images for choosing the ridge and the number of corrections; None if unknown.
      restore: puts received features right first, where the attacker knows a defense that moves them (`Defense.restore`).
    """

    inverters: tuple
    network: Network
    split: str = flax.struct.field(pytree_node=False)
    feature_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    validation_mse: float | None = flax.struct.field(pytree_node=False, default=None)
    restore: Pytree = None

    def __call__(self, features: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """Reconstruct images [B, H, W, C] in [0, 1], or latents [B, C], from features [B, h, w, c] at the split point.

        If several tensors are sent, give them as a tuple, or in one array (`dci_jax.tensors.join`).

        Raises:
          InputError: the features do not have the shape of this split point, or are not finite.
        """
        return self.estimates(features)[0]

    def estimates(self, features: Float[Array, "B ..."]) -> tuple[Array, ...]:
        """All intermediate estimates (f_0, ..., f_k) [B, ...]; f_0 is the reconstruction, f_k `features` (as `restore` puts them right).

        Raises:
          InputError: see `__call__`.
        """
        if isinstance(features, tuple | list) and features and all(getattr(t, "ndim", 0) == 4 for t in features):
            asked = self.network.blocks[len(self.inverters) - 1].tensors
            if asked and layout([t.shape[1:] for t in features]) != asked:
                given = " + ".join(str(list(t.shape[1:])) for t in features)
                raise InputError(
                    f"The tensors are {given}, but {self.network.name} sends "
                    f"{' + '.join(str(list(s)) for s in shapes(self.feature_shape, asked))} at {self.split}; give them in this order."
                )
            features = join(features)
        features = as_features(features)
        if features.ndim != len(self.feature_shape) + 1 or features.shape[1:] != self.feature_shape:
            raise InputError(
                f"The features have the shape {list(features.shape)}, but {self.network.name} gives "
                f"[B, {', '.join(map(str, self.feature_shape))}] at {self.split}, channels last; for images of another size "
                "use chain.at_side(pixels)."
            )
        found = [features if self.restore is None else self.restore(features)]
        # Full float32: a correction is the difference of two features that are nearly equal.
        with jax.default_matmul_precision("highest"):
            for each in self.inverters:
                found.insert(0, each(self.network, found[-1], found[0]))
        return tuple(found)

    def at_side(self, side: int) -> "Chain":
        """The same chain for images of another size, [side, side, C]: solved inverters are convolutions.

        Raises:
          InputError: the network does not take images of that size, or the chain is adapted to a defense that moves features.
        """
        if self.restore is not None:
            raise InputError(
                "A chain adapted to a defense that moves features serves images of one size; solve it at that size."
            )
        network = with_side(self.network, side)
        return self.replace(network=network, feature_shape=feature_shapes(network)[len(self.inverters)])

    @property
    def validation_psnr(self) -> float | None:
        """PSNR in dB of the mean squared error on procedural validation images; None if unknown, or for latents."""
        if self.validation_mse is None or self.network.latent:
            return None
        return -10 * math.log10(max(self.validation_mse, 1e-10))

    def save(self, path: str | Path) -> None:
        """Save the chain to one .safetensors file, which `load_chain` reads for the same network."""
        from dci_jax.dci import chain_file  # which makes chains

        chain_file.save(self, path)

    @classmethod
    def of(cls, inverters: Sequence, network: Network, split: str, validation_mse: float | None = None) -> "Chain":
        """The chain of these inverters, deepest first, for the network's own input size."""
        return cls(tuple(inverters), network, split, feature_shapes(network)[len(inverters)], validation_mse)

    __hash__, __eq__ = object.__hash__, object.__eq__  # for `jax.jit(chain)`: of arrays there is no hash

    def __repr__(self) -> str:
        names = [block.name for block in self.network.blocks[: len(self.inverters)]][::-1]
        psnr = "" if self.validation_mse is None else f", validation PSNR {self.validation_psnr:.1f} dB"
        lines = (f"\n  {name}: {each!r}" for name, each in zip(names, self.inverters, strict=True))
        return f"Chain({self.network.name} at {self.split}, {len(self.inverters)} inverters{psnr}){''.join(lines)}"
