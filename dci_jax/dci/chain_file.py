"""One chain as one .safetensors file: its kernels or parameters, how they fit together, and which network they are of."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dci_jax.dci.chain import Chain, Inverter
from dci_jax.dci.inverter import Geometry, finer
from dci_jax.dci.trained import inverter_network
from dci_jax.dci.trained.train_chain import TrainedInverter
from dci_jax.defenses.channel import NONE, Channel, behind
from dci_jax.errors import InputError, reason
from dci_jax.network import Network, split_index
from dci_jax.runtime.digest import sha256_of

FORMAT, VERSION = "dci_jax chain", 1


def save(chain: Chain, path: str | Path) -> None:
    """Write a chain; see `Chain.save`."""
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
    about = {
        "version": VERSION,
        "network": chain.network.name,
        "fingerprint": sha256_of(jax.tree.map(jnp.asarray, chain.network)),
        "split": chain.split,
        "validation_mse": chain.validation_mse,
        "inverters": kinds,
    }
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(arrays, path, {"format": FORMAT, "about": json.dumps(about)})


def load_chain(path: str | Path, network: Network, defense: Channel = NONE) -> Chain:
    """Read a chain that `Chain.save` wrote.

    Args:
      path: the .safetensors file.
      network: the network that it was solved or trained for, with the same weights.
      defense: the defense that it was adapted to.

    Raises:
      InputError: the file is damaged, of another version, or of another network or defense.
    """
    about, tensors = _read(Path(path))
    split, inverters = about["split"], []
    depth = split_index(network, split)
    whole = behind(network, depth, defense)
    parts = finer(network)
    divided = behind(parts, split_index(parts, split), defense)
    known = next((n for n in (whole, divided) if sha256_of(jax.tree.map(jnp.asarray, n)) == about["fingerprint"]), None)
    solved = all("solved" in kind for kind in about["inverters"])
    if known is None:
        raise InputError(
            f"{path} is a chain of {about['network']} with other weights or another defense than the {network.name} given; load the "
            "network that it was made for."
        )
    for number, kind in enumerate(about["inverters"]):
        mine = {name.partition("/")[2]: t for name, t in tensors.items() if name.split("/")[0] == str(number)}
        if "solved" in kind:
            spec = kind["solved"] | {"grid": tuple(kind["solved"]["grid"])}
            inverters.append(Inverter(tuple(mine[str(r)] for r in range(len(mine))), Geometry(**spec)))
        else:
            module = inverter_network.Inverter(**kind["trained"])
            inverters.append(TrainedInverter(traverse_util.unflatten_dict(mine, sep="/"), module, kind["index"]))
    return Chain.of(inverters, divided if solved else whole, split, about["validation_mse"])


def _read(path):
    """(what the file says about itself, its tensors)."""
    if not path.is_file():
        raise InputError(f"No chain at {path}; check the path.")
    try:
        with safe_open(path, "numpy") as stream:
            known = stream.metadata() or {}
            if known.get("format") != FORMAT:
                raise InputError(f"{path} is not a chain; give a file that Chain.save wrote.")
            about = json.loads(known["about"])
            tensors = {name: jnp.asarray(stream.get_tensor(name)) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}); save the chain again.") from error
    if about.get("version") != VERSION:
        raise InputError(f"{path} is a chain of version {about.get('version')}, and this is {VERSION}; solve it again.")
    return about, tensors
