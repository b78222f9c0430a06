"""Target networks by name, classifiers and generators, and converted ones; `load` gives one with its weights."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import import_from_string
from dci_jax.checkpoints import assign, hub
from dci_jax.errors import InputError
from dci_jax.importers import bundle
from dci_jax.models import cifar_resnet, dcgan, he_cnn, repvgg, resnet, sngan, trial
from dci_jax.network import Network


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and where PyTorch's checkpoints keep its blocks.

    Attributes:
      build: (key, train=False) -> Network with random weights.
      prefix: block name -> what its torch names begin with.
      deploy: the network -> the same function as it runs on a device, where that differs.
      embedded: the checkpoint inside this package, by training/target.py or training/generator.py.
      latent: of a generator, the prior of its latents, a key of `dci_jax.inputs.latents.LATENTS`.
    """

    build: Callable[..., Network]
    prefix: Callable[[str], str]
    deploy: Callable[[Network], Network] | None = None
    embedded: str = ""
    latent: str = ""


MODELS = {
    **{
        f"cifar_resnet{depth}": Architecture(
            partial(cifar_resnet.cifar_resnet, depth=depth),
            cifar_resnet.torch_prefix,
            embedded="cifar_resnet20.safetensors" if depth == 20 else "",
        )
        for depth in cifar_resnet.DEPTHS
    },
    **{
        f"resnet{depth}": Architecture(partial(resnet.resnet, depth=depth), resnet.torch_prefix)
        for depth in resnet.DEPTHS
    },
    **{
        f"resnet{depth}_cifar": Architecture(partial(resnet.resnet_cifar, depth=depth), resnet.torch_prefix)
        for depth in (18, 34)
    },
    "he_cnn": Architecture(he_cnn.he_cnn, he_cnn.torch_prefix, embedded="he_cnn.safetensors"),
    "repvgg_a0": Architecture(repvgg.repvgg, repvgg.torch_prefix, repvgg.reparameterize),
    "repvgg_cifar": Architecture(
        repvgg.repvgg_cifar,
        repvgg.torch_prefix,
        repvgg.reparameterize,
        embedded="repvgg_cifar.safetensors",
    ),
    **{
        f"sngan_{size}": Architecture(partial(sngan.sngan, size=size), sngan.torch_prefix, latent="normal")
        for size in sngan.SIZES
    },
    "sngan_narrow": Architecture(
        sngan.narrow, sngan.torch_prefix, embedded="sngan_narrow.safetensors", latent="normal"
    ),
    "dcgan_32": Architecture(dcgan.dcgan, dcgan.torch_prefix, latent="uniform"),
}


BUNDLE = "bundle"  # the name of all converted networks: their weights are a folder


def load(
    name: str, source: str | Path = "", sha256: str = "", splits: tuple[str, ...] = (), weights_key: str = ""
) -> Network:
    """The target network called `name`, with its weights.

    Args:
      name: a key of `MODELS`, "bundle" of a converted network, or "module.path:function" of one's own: the function
        is called with `source` and returns a `Network`.
      source: a checkpoint's path, a bundle's folder, or a key of `sources.SOURCES`; empty takes the checkpoint that
        comes with this package, or else the first source of that network, which is downloaded.
      sha256: of the checkpoint, or at least its first 8 hex digits; empty: not checked.
      splits: that are asked for; those of a bundle can be more than it has by default.
      weights_key: where a checkpoint has its weights, see `checkpoints.read`.

    Raises:
      InputError: unknown name, nothing to be had, or a checkpoint that is damaged or does not fit.
    """
    if weights_key and (":" in name or name == BUNDLE):
        raise InputError(f"weights_key is {weights_key!r}, but {name} is no checkpoint; leave it out.")
    if ":" in name:
        return _own(name, source)
    if name == BUNDLE:
        network = bundle.load(source, splits, sha256)
        trial.check_shapes(network)
        return network
    if name not in MODELS:
        raise InputError(
            f"No network is called {name!r}; choose from: {', '.join(MODELS)}, give your own as module.path:function, or "
            f"{BUNDLE} for one that python -m dci_jax.convert made."
        )
    shapes = jax.eval_shape(MODELS[name].build, jax.random.key(0))
    return assign.load(shapes, _checkpoint(name, source), MODELS[name].prefix, sha256, weights_key)


def at_hand(name: str, source: str | Path = "") -> bool:
    """Whether `load` would need nothing from a network."""
    return ":" in name or name not in MODELS or bool(source or MODELS[name].embedded)


def blank(name: str) -> Network:
    """The network called `name`, a key of `MODELS`, with weights of 0, where its shapes are all that is asked for."""
    shapes = jax.eval_shape(MODELS[name].build, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape, leaf.dtype)), shapes)  # no program for each shape


def deploy(name: str, network: Network) -> Network:
    """The form in which the network called `name` runs on a device.

    Raises:
      InputError: it has no other form than the one it was trained in.
    """
    if name not in MODELS or MODELS[name].deploy is None:
        others = ", ".join(name for name in MODELS if MODELS[name].deploy)
        raise InputError(f"{name} has no deploy form; set deploy to False, or choose from: {others}.")
    return MODELS[name].deploy(network)


def _checkpoint(name, source):
    if source in hub.SOURCES and hub.SOURCES[source].network != name:
        raise InputError(
            f"The weights {source} are those of {hub.SOURCES[source].network}, not of {name}; give "
            "the one or the other."
        )
    published = [key for key, value in hub.SOURCES.items() if value.network == name]
    if source and source not in published:
        return source
    if not source and MODELS[name].embedded:
        return resources.files("dci_jax.models") / MODELS[name].embedded
    if not published:
        raise InputError(f"No weights of {name} come with this package; give the path of a checkpoint as weights.")
    return hub.fetch(source or published[0])


def _own(name, source):
    function = import_from_string.function(name)
    try:
        network = function(source)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # of every kind: it is the user's function
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{name} failed in {where.filename}, line {where.lineno} ({type(error).__name__}: {error}); correct it."
        ) from error
    if not isinstance(network, Network):
        raise InputError(
            f"{name} returned a {type(network).__name__}; let it return a dci_jax.network.Network, such "
            "as dci_jax.sequential makes."
        )
    trial.check(network)
    return network
