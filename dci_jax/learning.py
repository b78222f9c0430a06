"""Which attacks of a config learn from inputs, and whether what their sections ask for can be done."""

import logging

from jax import device_count
from ml_collections import ConfigDict

from dci_jax.attacks import LEARNING, dci, dci_trained, gauss_newton, spread
from dci_jax.blocks import Network, split_index, split_names
from dci_jax.errors import InputError
from dci_jax.losses import DISTANCES

log = logging.getLogger("dci_jax")


def learning(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """Attacks that learn -> the rows of the report that are theirs: "dci", "dci@dead_leaves", "oracle"."""
    rows = [(name.partition("@")[0], name) for name in config.attacks]
    rows += [(config.oracle.attack, "oracle")] if config.oracle.images else []
    return {
        attack: found
        for attack in LEARNING
        if (found := tuple(name for base, name in rows if base == attack))
    }


def check_gauss_newton(config: ConfigDict) -> None:
    """Raise InputError where the section "gauss_newton" is out of range, if it runs."""
    if any(name.endswith("gauss_newton") for name in config.attacks):
        gauss_newton.check(**settings(config.gauss_newton))


def check_solved(config: ConfigDict, network: Network, splits: tuple[str, ...]) -> None:
    """Raise InputError where the section "dci" is out of range, if it runs."""
    if not {"dci", "dci_shared"} & set(learning(config)):
        return
    own = tuple(config.dci.splits)
    for name in own:
        split_index(network, name)
    dci.check(network, own or splits, **settings(config.dci))
    if "dci_shared" in learning(config):
        dci.check_shared(own or splits, config.dci.batch)
    for name in ("refine", "gauss_newton"):
        missing = set(config[name].splits or splits) - set(own or splits)
        if f"dci+{name}" in config.attacks and missing:
            raise InputError(
                f"dci+{name} is to read {', '.join(sorted(missing))} back, but dci does not; "
                f"give {name}.splits that are among dci's."
            )


def check_trained(
    config: ConfigDict, network: Network, splits: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    """Raise InputError where the section "dci_trained" is out of range, if it runs on inputs of this shape."""
    if "dci_trained" not in learning(config):
        return
    s = config.dci_trained
    if s.distance not in DISTANCES:
        raise InputError(
            f"dci_trained.distance is {s.distance!r}; choose from: {', '.join(DISTANCES)}."
        )
    if s.precision not in ("float32", "bfloat16"):
        raise InputError(f"dci_trained.precision is {s.precision!r}; give float32 or bfloat16.")
    if s.groups < 1:
        raise InputError(f"dci_trained.groups is {s.groups}; give at least 1.")
    for name, _ in s.conquer:
        split_index(network, name)
    deepest = max(split_index(network, name) for name in splits)
    if s.batch < deepest:
        raise InputError(
            f"dci_trained.batch is {s.batch}, but each of the {deepest} split points down to "
            f"{split_names(network)[deepest - 1]} needs an input of its own in every step; give at least that many."
        )
    groups = min(s.groups, deepest)
    each = spread.layout(groups).mesh.shape["data"]
    if groups > 1 and s.batch % each:
        raise InputError(
            f"dci_trained.batch is {s.batch}; with dci_trained.groups={s.groups} on {device_count()} devices "
            f"each group of inverters has {each} devices, so give a multiple of {each}."
        )
    _shared("dci_trained.batch", s.batch, deepest)
    for size in (network.input_shape, shape):
        dci_trained.phases(network.replace(input_shape=size), splits, **phase_settings(config))


def share_evenly(config: ConfigDict) -> None:
    """Warn where the devices cannot share a batch evenly: it works, but some wait for others."""
    for field, count in (
        ("synthesis.batch", config.synthesis.batch * bool(config.synthesis.batches)),
        ("dci.batch", config.dci.batch * bool({"dci", "dci_shared"} & set(learning(config)))),
        ("batch", config.batch * ("deepinversion" in config.attacks)),
    ):
        _shared(field, count, 1)


def _shared(field, count, splits):
    """Warn where `count` inputs, those of so many `splits` together, are not shared evenly."""
    devices = device_count()
    if devices > 1 and count % (splits * devices):
        log.warning(
            "%s=%d is not shared evenly by %d devices%s; a multiple of %d is faster",
            field, count, devices, f" at {splits} splits" if splits > 1 else "", splits * devices,
        )  # fmt: skip


def section_of(config: ConfigDict, attack: str) -> ConfigDict:
    """The section that an attack takes its settings from."""
    return config["dci" if attack == "dci_shared" else attack]


def settings(section: ConfigDict) -> dict:
    """A config section as the keyword arguments of one call."""
    return {name: value for name, value in section.items() if name != "splits"}


def phase_settings(config: ConfigDict) -> dict:
    """What of the section "dci_trained" its training phases depend on."""
    return {
        k: v
        for k, v in settings(config.dci_trained).items()
        if k not in ("batch", "groups", "precision")
    }
