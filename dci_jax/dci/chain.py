"""A chain of inverters, from the features at a split point back to the input: R_1(...R_k(f_k))."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Float

from dci_jax.arrays import as_features
from dci_jax.dci import chain_file, inverter
from dci_jax.dci.blocks import chain_blocks, joined
from dci_jax.dci.inverter import InverterSpec, Precisions, inverter_spec
from dci_jax.dci.precision import channels
from dci_jax.dci.trained import inverter_network
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.defenses import registry
from dci_jax.defenses.channel import NONE, Channel, with_defense
from dci_jax.errors import InputError, reason
from dci_jax.network import Network, feature_shapes, split_index, with_side
from dci_jax.runtime.digest import sha256_of
from dci_jax.tensors import join, layout, shapes
from dci_jax.typing import Array, Pytree

_RESTORE = "restore"  # the names of its tensors in a file begin with it
_PRECISIONS = "precision", "precision_split"  # names in a file


@flax.struct.dataclass
class Inverter:
    """One solved inverter `R_i: f_i -> f_{i-1}`, a pytree whose leaves are its kernels.

    Attributes:
      kernels: the first map [k, k, regressors, targets], then one for each correction; see `dci.inverter`.
      spec: how the block's input and output lie on one grid.
      precisions: inverse covariances of the errors of its output, [c, c], and of those at the split, that weight them before they
        are routed back; None: not weighted; see `dci.precision`.
    """

    kernels: tuple[Array, ...]
    spec: InverterSpec = flax.struct.field(pytree_node=False)
    precisions: Precisions = (None, None)

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
            x = inverter.corrected(self.spec, kernel, network, sent, features, x, self.precisions)
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
        _save(self, path)

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


def _save(chain: Chain, path: str | Path) -> None:
    tensors, kinds = {}, []
    for number, each in enumerate(chain.inverters):
        if isinstance(each, Inverter):
            tensors |= {f"{number}/{r}": kernel for r, kernel in enumerate(each.kernels)}
            pairs = zip(_PRECISIONS, each.precisions, strict=True)
            tensors |= {f"{number}/{name}": p for name, p in pairs if p is not None}
            kinds.append({"solved": dataclasses.asdict(each.spec)})
        else:
            flat = traverse_util.flatten_dict(each.params, sep="/")
            tensors |= {f"{number}/{name}": leaf for name, leaf in flat.items()}
            names = [f.name for f in dataclasses.fields(each.module) if f.name not in ("parent", "name")]
            kinds.append({"trained": {name: getattr(each.module, name) for name in names}, "index": each.index})
    if chain.restore is not None:
        flat = traverse_util.flatten_dict(dataclasses.asdict(chain.restore), sep="/")
        tensors |= {f"{_RESTORE}/{name}": leaf for name, leaf in flat.items()}
    about = {
        "network": chain.network.name,
        "fingerprint": _fingerprint(chain.network),
        "split": chain.split,
        "validation_mse": chain.validation_mse,
        "inverters": kinds,
    }
    chain_file.write(Path(path), about, tensors)


def load_chain(path: str | Path, network: Network, defense: Channel = NONE) -> Chain:
    """Load a chain that `Chain.save` wrote.

    Args:
      path: the .safetensors file.
      network: the network that it was solved or trained for, with the same weights.
      defense: the defense that it was adapted to.

    Raises:
      InputError: the file is damaged, of another version, or of another network or defense.
    """
    about, tensors = chain_file.read(Path(path))
    try:
        inverters = [_inverter(kind, str(number), tensors) for number, kind in enumerate(about["inverters"])]
        split, made_for, mse = about["split"], about["fingerprint"], about["validation_mse"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); save the chain again.") from error
    solved = any(isinstance(each, Inverter) for each in inverters)
    network = chain_blocks(network, (split,)) if solved else joined(network, (split,))
    restores = registry.find(defense.kind).restore
    moved = {name.partition("/")[2]: t for name, t in tensors.items() if name.startswith(f"{_RESTORE}/")}
    if bool(moved) != bool(restores):
        raise InputError(
            f"{path} was{' not' * (not moved)} adapted to a defense that moves features, but the defense given is {defense.label}; "
            "give the one that it was solved for."
        )
    target = network if restores else with_defense(network, split_index(network, split), defense)
    if _fingerprint(target) != made_for:
        raise InputError(
            f"{path} is a chain of {about['network']} with other weights, another normalization or another defense than the "
            f"{network.name} given; load the network that it was made for."
        )
    _check_specs(path, inverters, target)
    chain = Chain.of(inverters, target, split, mse)
    return chain.replace(restore=_restored(path, restores, moved, chain.feature_shape)) if restores else chain


def _restored(path, restores, tensors, shape):
    """What puts features of this shape right, from its tensors."""
    features = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        found = restores(**traverse_util.unflatten_dict(tensors, sep="/"))
        if jax.eval_shape(lambda restore, f: restore(f), found, features).shape != features.shape:
            raise ValueError("features of another shape")
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path} was edited ({reason(error)}); save the chain again.") from error
    return found


def _check_specs(path, inverters, network):
    """Raise InputError where solved inverters are not those of the network's blocks, the deepest first."""
    depth, shapes = len(inverters), feature_shapes(network)
    for number, each in enumerate(inverters):
        if not isinstance(each, Inverter):
            continue
        spec, index = each.spec, depth - 1 - number
        stop = spec.stop if spec.stop in (index + 1, depth) else depth
        right = dataclasses.replace(inverter_spec(network, index, stop, shapes), grid=spec.grid)
        wanted = [(right.channels if r else right.sent, right.target) for r in range(len(each.kernels))]
        counts = channels(right, network) if len(each.kernels) > 1 else (0, 0)
        weights = [0 if p is None else p.shape for p in each.precisions]
        fits = weights == [count and (count, count) for count in counts]
        if spec != right or not fits or [kernel.shape[2:] for kernel in each.kernels] != wanted:
            raise InputError(
                f"{path} was edited: its inverter of block {index} is not that of {network.name}; save the chain again."
            )


def _inverter(kind, number, tensors):
    """The inverter that the file describes by `kind`, from the tensors under its number."""
    mine = {name.partition("/")[2]: t for name, t in tensors.items() if name.split("/")[0] == number}
    if "solved" in kind:
        solved = kind["solved"]
        spec = solved | {"grid": tuple(solved["grid"]), "tensors": tuple(map(tuple, solved["tensors"]))}
        kinds = {"bool": bool, "float": (int, float), "int": int}
        for field in dataclasses.fields(InverterSpec):
            if not isinstance(spec.get(field.name, ()), kinds.get(getattr(field.type, "__name__", field.type), tuple)):
                raise TypeError(f"{field.name} is {spec.get(field.name)!r}")
        precisions = tuple(mine.pop(name, None) for name in _PRECISIONS)
        return Inverter(tuple(mine[str(r)] for r in range(len(mine))), InverterSpec(**spec), precisions)
    module = inverter_network.Inverter(**kind["trained"])
    return TrainedInverter(traverse_util.unflatten_dict(mine, sep="/"), module, kind["index"])


def _fingerprint(network):
    """Hash of the weights and of the input normalization."""
    return sha256_of(jax.tree.map(jnp.asarray, (network, network.mean, network.std)))
