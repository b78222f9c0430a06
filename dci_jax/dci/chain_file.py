"""A chain as one .safetensors file: kernels, what they belong to, and a SHA-256 of all of it."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dci_jax.dci.chain import Chain, Inverter
from dci_jax.dci.inverter import InverterSpec, inverter_spec, split_stages
from dci_jax.dci.trained import inverter_network
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.defenses import registry
from dci_jax.defenses.channel import NONE, Channel, with_defense
from dci_jax.errors import InputError, reason
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime.digest import sha256_of

FORMAT, VERSION = "dci_jax chain", 3
_RESTORE = "restore"  # the names of its tensors begin with it


def save(chain: Chain, path: str | Path) -> None:
    """`Chain.save`."""
    tensors, kinds = {}, []
    for number, each in enumerate(chain.inverters):
        if isinstance(each, Inverter):
            tensors |= {f"{number}/{r}": kernel for r, kernel in enumerate(each.kernels)}
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
        "version": VERSION,
        "network": chain.network.name,
        "fingerprint": _fingerprint(chain.network),
        "split": chain.split,
        "validation_mse": chain.validation_mse,
        "inverters": kinds,
    }
    if not Path(path).parent.is_dir():
        raise InputError(
            f"There is no folder {Path(path).parent} to write {Path(path).name} in; create it, or give another path."
        )
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    about["sha256"] = _digest(about, arrays)
    save_file(arrays, path, {"format": FORMAT, "about": json.dumps(about)})


def _digest(about, arrays):
    """Hash of a file's description and of its tensors: a flipped bit would be a weaker attack, which reads as safety."""
    told = json.dumps({name: value for name, value in about.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256((told + sha256_of(arrays)).encode()).hexdigest()


def load_chain(path: str | Path, network: Network, defense: Channel = NONE) -> Chain:
    """Load a chain that `Chain.save` wrote.

    Args:
      path: the .safetensors file.
      network: the network that it was solved or trained for, with the same weights.
      defense: the defense that it was adapted to.

    Raises:
      InputError: the file is damaged, of another version, or of another network or defense.
    """
    about, tensors = _read(Path(path))
    try:
        inverters = [_inverter(kind, str(number), tensors) for number, kind in enumerate(about["inverters"])]
        split, made_for, mse = about["split"], about["fingerprint"], about["validation_mse"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); save the chain again.") from error
    network = split_stages(network) if any(isinstance(each, Inverter) for each in inverters) else network
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
        if spec != right or [kernel.shape[2:] for kernel in each.kernels] != wanted:
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
        return Inverter(tuple(mine[str(r)] for r in range(len(mine))), InverterSpec(**spec))
    module = inverter_network.Inverter(**kind["trained"])
    return TrainedInverter(traverse_util.unflatten_dict(mine, sep="/"), module, kind["index"])


def _fingerprint(network):
    """Hash of the weights and of the input normalization."""
    return sha256_of(jax.tree.map(jnp.asarray, (network, network.mean, network.std)))


def _read(path):
    """(what the file says about itself, its tensors)."""
    if not os.path.isfile(path):
        raise InputError(f"No chain at {path}; check the path.")
    try:
        with safe_open(path, "numpy") as stream:
            known = stream.metadata() or {}
            if known.get("format") != FORMAT:
                raise InputError(f"{path} is not a chain; give a file that Chain.save wrote.")
            about = dict(json.loads(known["about"]))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, KeyError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}); save the chain again.") from error
    if about.get("version") != VERSION:
        raise InputError(
            f"{path} is a chain of version {about.get('version')}, but this library reads version {VERSION}; solve it again."
        )
    if about.get("sha256") != _digest(about, tensors):
        raise InputError(f"{path} is damaged or was edited (its SHA-256 differs); save the chain again.")
    return about, jax.tree.map(jnp.asarray, tensors)
