"""What a config names, checked and loaded before any work: whatever the user can put right fails here."""

import functools
import logging
from dataclasses import dataclass, replace

import jax
from ml_collections import ConfigDict

from dci_jax import data, models, named, synthesis
from dci_jax.attacks import ATTACKS, LEARNING
from dci_jax.blocks import (
    Network,
    classes,
    feature_shapes,
    running_statistics,
    split_index,
    split_names,
)
from dci_jax.errors import InputError
from dci_jax.inputs import mixture
from dci_jax.learning import (
    check_gauss_newton,
    check_solved,
    check_trained,
    section_of,
    share_evenly,
)
from dci_jax.procedural import GENERATORS
from dci_jax.ranges import check_ranges

log = logging.getLogger("dci_jax")


# Attacks that start from what another read back.
REFINING = ("dci+refine", "dci+gauss_newton", "dci_trained+refine", "dci_trained+gauss_newton")
# Attacks that read back a code.
ON_CODES = (
    "dci",
    "dci_shared",
    "dci_trained",
    *REFINING,
    "inverse_network",
    "rmle",
    "gauss_newton",
)


@dataclass(frozen=True)
class Setting:
    """What a checked config names, loaded: nothing after this fails for what the user gave."""

    network: Network  # with its BatchNorm layers: what inputs are synthesised from
    device: Network  # the same function as it runs on the device: what is attacked
    verifier: Network | None
    private: data.Images  # of a generator: images to be inverted that it did not make
    oracle: data.Images | None
    splits: tuple[str, ...]


def check(config: ConfigDict) -> Setting:
    """Load what the config names, before any work.

    Raises:
      InputError: a sentence with the value and the cure.
    """
    check_ranges(config)
    order = list(config.attacks)
    for name in order:
        check_attack(name)
        if order.count(name) > 1:
            raise InputError(f"attacks names {name!r} twice; name it once.")
    for name in REFINING:
        start = name.partition("+")[0]
        if name in order and start not in order[: order.index(name)]:
            raise InputError(
                f"The attack {name!r} starts from {start!r}; name {start!r} before it in attacks."
            )
    if config.oracle.attack not in LEARNING:
        raise InputError(
            f"oracle.attack is {config.oracle.attack!r}, which is none that learns from images; choose from: "
            f"{', '.join(LEARNING)}."
        )
    if config.synthesis.start not in GENERATORS:
        raise InputError(
            f"synthesis.start is {config.synthesis.start!r}; choose from: {', '.join(GENERATORS)}."
        )
    if config.data.labels and not config.data.images:
        raise InputError(
            f"data.labels is {config.data.labels}, but no images are given that they could belong to; give "
            "data.images, too."
        )
    for section in ("synthesis", "inverse_network"):
        if config[section].precision not in ("float32", "bfloat16"):
            raise InputError(
                f"{section}.precision is {config[section].precision!r}; give float32 or bfloat16."
            )
    check_gauss_newton(config)
    network = models.load(config.target.name, config.target.weights, config.target.sha256)
    if network.latent:
        return check_generator(config, network)
    if len(network.input_shape) != 3:
        raise InputError(
            f"{network.name} takes inputs of shape {network.input_shape}, which are no images [H, W, C]; give "
            "Network.latent if it is a generator, or choose another target."
        )
    device = models.deploy(config.target.name, network) if config.target.deploy else network
    verifier = None
    if config.verifier.name:
        verifier = models.load(config.verifier.name, config.verifier.weights)
    for prior in filter(None, (config.refine.prior, config.rmle.prior)):
        named.function(prior)
    if "deepinversion" in config.attacks and not jax.tree.leaves(running_statistics(device)):
        raise InputError(
            f"The attack 'deepinversion' matches BatchNorm statistics, and {device.name} has none as it "
            "runs on the device; leave it out of attacks."
        )
    halves = 2**config.deep_image_prior.levels
    if "deep_image_prior" in config.attacks and device.input_shape[0] % halves:
        raise InputError(
            f"deep_image_prior.levels is {config.deep_image_prior.levels}, but {device.input_shape[0]} pixels "
            f"cannot be divided by {halves}; give fewer."
        )
    synthesis.check(network, config.synthesis.batches, config.synthesis.stages)
    splits = checked_splits(config, network)
    _, shape = mixture_of(config, network)
    if shape[0] > network.input_shape[0]:
        raise InputError(
            f"inputs.side is {shape[0]}, but {network.name} takes images of {network.input_shape[0]} "
            "pixels; give a smaller side, or 0 for the network's own."
        )
    check_trained(config, network, splits, shape)
    check_solved(config, network, splits)
    share_evenly(config)
    read = functools.partial(data.load, size=network.input_shape[0], crop=network.crop)
    if config.data.images:
        private = read(config.data.images, count=config.data.count, labels=config.data.labels)
        private = replace(private, labels=trusted_labels(config, network, private))
    else:
        size = network.input_shape[0]
        private = data.photographs(size, tiles=4 if size <= 64 else 1)
        private = private.take(range(min(config.data.count or len(private), len(private))))
    oracle = None
    if config.oracle.images:
        oracle = data.without(read(config.oracle.images, flag="--config.oracle.images"), private)
        if len(oracle) == 0:
            raise InputError(
                f"All images of {config.oracle.images} are also evaluated; give the oracle others."
            )
    return Setting(network, device, verifier, private, oracle, splits)


def check_generator(config: ConfigDict, network: Network) -> Setting:
    """The rest of `check` for a generator, whose private inputs are codes and need no files.

    Raises:
      InputError: a sentence with the value and the cure.
    """
    for name in config.attacks:
        if name not in ON_CODES:
            raise InputError(
                f"The attack {name!r} cannot read back codes of {network.name}, which is a generator; choose "
                f"from: {', '.join(ON_CODES)}."
            )
    if config.oracle.images:
        raise InputError(
            f"oracle.images is {config.oracle.images}, but {network.name} takes codes, whose true prior every "
            "attack has; leave it empty."
        )
    if any(kind != "none" for kind, _ in config.defenses):
        raise InputError(
            f"defenses is {config.defenses}, but what {network.name} gives are images; name what happens to "
            "them in damages."
        )
    if config.data.count < 2:
        raise InputError(
            f"data.count is {config.data.count}; give how many codes are drawn for evaluation, at least 2."
        )
    for field, value in (
        ("target.deploy", config.target.deploy), ("verifier.name", config.verifier.name),
        ("refine.prior", config.refine.prior), ("rmle.prior", config.rmle.prior),
    ):  # fmt: skip
        if value:
            raise InputError(
                f"{field} is {value!r}, but {network.name} is a generator, for which it means nothing; leave it empty."
            )
    splits, last = checked_splits(config, network), split_names(network)[-1]
    if not any(last in (own_splits(config, row) or splits) for row in config.attacks):
        raise InputError(
            f"No attack reads back {last!r}, the image that {network.name} gives, of which the whole report is; add it "
            "to splits."
        )
    check_trained(config, network, splits, network.input_shape)
    check_solved(config, network, splits)
    share_evenly(config)
    side = feature_shapes(network)[-1][0]
    if config.data.images:
        given = data.load(config.data.images, side)
    else:
        given = data.photographs(side, tiles=1)
    return Setting(network, network, None, given, None, splits)


def checked_splits(config: ConfigDict, network: Network) -> tuple[str, ...]:
    """The split points that a run reads back, where those of each attack are among them.

    Raises:
      InputError: a name that the network does not have, one twice, or one that an attack has and the run has not.
    """
    splits = tuple(config.splits) or split_names(network)
    for name in (
        *splits,
        *(name for section in ("refine", "rmle") for name, _ in config[section].total_variation_at),
    ):
        split_index(network, name)
        if splits.count(name) > 1:
            raise InputError(f"splits names {name!r} twice; name it once.")
    rows = [name.partition("@")[0] for name in config.attacks]
    rows += [config.oracle.attack] if config.oracle.images else []
    for row in rows:
        section, own = row.partition("+")[2] or row, own_splits(config, row)
        for name in own:
            split_index(network, name)
        missing = [name for name in own if name not in splits]
        if missing:
            raise InputError(
                f"{section}.splits names {', '.join(missing)}, which is not among splits ({', '.join(splits)}); add it "
                f'there, or give --config.{section}.splits="()" for all of them.'
            )
    return splits


def own_splits(config: ConfigDict, row: str) -> tuple[str, ...]:
    """The split points that an attack's section names for it; () for all of the run's."""
    base = row.partition("@")[0]
    return tuple(section_of(config, base.partition("+")[2] or base).get("splits", ()))


def check_attack(name: str) -> None:
    """Raise InputError unless `name` is an attack, or a trained one with its source: "dci_trained@dead_leaves"."""
    known = (*ATTACKS, *REFINING)
    base, at, source = name.partition("@")
    if base not in known or (at and base not in LEARNING):
        raise InputError(f"No attack is called {name!r}; choose from: {', '.join(known)}.")
    if at and source not in GENERATORS:
        raise InputError(
            f"The attack {name!r} cannot learn from {source!r}; choose from: {', '.join(GENERATORS)}."
        )


def trusted_labels(config: ConfigDict, network: Network, private: data.Images):
    """The private images' labels as the network counts them, int [N]; None where that is not known.

    Folders are classes in alphabetical order, which is the network's order only if all are there.

    Raises:
      InputError: a label that the network does not have.
    """
    labels, count = private.labels, classes(network)
    folders = not (config.data.labels or str(config.data.images).startswith("tfds:")
                   or str(config.data.images).endswith(".npz"))  # fmt: skip
    if labels is not None and count is not None and folders and labels.max() + 1 != count:
        log.warning(
            "%d class folders for the %d classes of %s: which is which is not known, so there is no top-1; "
            "give data.labels",
            labels.max() + 1, count, network.name,
        )  # fmt: skip
        labels = None
    if labels is None or count is None:
        return None
    if labels.max() >= count:
        raise InputError(
            f"An image has the label {labels.max()}, but {network.name} has {count} classes, counted "
            "from 0; correct the labels, or give the network that they belong to."
        )
    return labels


def attack_names(config: ConfigDict) -> tuple[str, ...]:
    """The rows of the report: the attacks, and "oracle" where real images are given for it."""
    return tuple(config.attacks) + (("oracle",) if config.oracle.images else ())


def mixture_of(config: ConfigDict, network: Network) -> tuple:
    """What `config.inputs` asks for: (shares, shape of one image), see `inputs.Inputs`.

    For a generator: codes of its prior, whatever the config has there.
    """
    if network.latent:
        return ((network.latent, 1.0),), network.input_shape
    shares = config.inputs.to_dict()
    side = shares.pop("side") or network.input_shape[0]
    return mixture(shares, config.synthesis.batches), (side, side, network.input_shape[2])
