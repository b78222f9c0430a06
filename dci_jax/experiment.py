"""The story of a run in four stages, each of which resumes: synthesize, attack, evaluate, report."""

import contextlib
import functools
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dci_jax import data, models, report
from dci_jax.attacks import ATTACKS
from dci_jax.blocks import Network, split_index, split_names
from dci_jax.defenses import DEFENSES
from dci_jax.errors import InputError
from dci_jax.evaluate import ANY_SPLIT, costs, evaluate, floor, lines, write
from dci_jax.inputs import Inputs, mixture
from dci_jax.losses import DISTANCES
from dci_jax.procedural import GENERATORS
from dci_jax.synthesis import synthesize

log = logging.getLogger("dci_jax")


@dataclass(frozen=True)
class Setting:
    """What a checked config names, loaded: nothing after this fails for what the user gave."""

    network: Network
    private: data.Images
    oracle: data.Images | None
    splits: tuple[str, ...]


def run(config: ConfigDict, setting: Setting, workdir: Path) -> None:
    """Audit the target and leave everything in `workdir`; the same call resumes.

    Args:
      config: as in configs/default.py.
      setting: `check(config)`.
      workdir: as claimed by `claim`.
    """
    network, private, splits = setting.network, setting.private, setting.splits
    for reason in private.skipped:
        log.warning("skipped damaged image %s", reason)
    key_synthesis, key_attack, key_defense = jax.random.split(jax.random.key(config.seed), 3)
    timed = functools.partial(timing, workdir)

    with timed("synthesize"):
        made = synthesize(network, key_synthesis, workdir / "synthesis", **config.synthesis)
    inputs = mixture(jnp.asarray(made), config.inputs.to_dict())

    rows, row = [], {"target": network.name, "seed": config.seed}
    evaluation = workdir / "evaluation"
    _save_originals(evaluation / "originals.npz", private)
    for name, guesses in floors(private.pixels, config.seed).items():
        result = floor(network, private.pixels, guesses, evaluation / f"{name}.npz", config.batch)
        rows += lines(result, private.names, split=ANY_SPLIT, attack=name, defense="none", **row)

    readers = {}
    for number, name in enumerate(attack_names(config)):
        with timed(f"attack {name}"):
            key = jax.random.fold_in(key_attack, number)
            folder = workdir / "attacks" / name
            readers[name] = arm(config, name, setting, inputs, readers, key, folder)
        with timed(f"evaluate {name}"):
            for split, reconstruct in readers[name].items():
                for kind, strength in config.defenses:
                    label = kind if kind == "none" else f"{kind} {strength:g}"
                    result = evaluate(
                        network,
                        private.pixels,
                        reconstruct,
                        split,
                        (kind, strength),
                        key_defense,
                        evaluation / name / f"{split} {label}.npz",
                        config.batch,
                    )
                    cell = dict(split=split, attack=name, defense=label, **row)
                    rows += lines(result, private.names, **cell)
                    mean = float(np.mean(result["psnr"]))
                    log.info("%s after %s, defense %s: %.2f dB", name, split, label, mean)

    write(rows, costs(network, splits), workdir)
    with timed("report"):
        report.write(workdir)
    log.info("the report is %s", workdir / "report" / "index.html")


def attack_names(config: ConfigDict) -> tuple[str, ...]:
    """The rows of the report: the attacks, and "oracle" where real images are given for it."""
    return tuple(config.attacks) + (("oracle",) if config.oracle.images else ())


def arm(
    config: ConfigDict,
    name: str,
    setting: Setting,
    inputs: Inputs,
    readers: dict[str, dict[str, Callable]],
    key: jax.Array,
    folder: Path,
) -> dict[str, Callable]:
    """Fit the attack called `name`; returns split point -> function from features to images.

    "dci+refine" is rMLE started from what DCI read back; "oracle" is an attack given real images.
    """
    network, splits = setting.network, setting.splits
    if name == "oracle":
        inputs = mixture(jnp.asarray(setting.oracle.pixels), {"bank": 1.0})
        section, attack, more = config[config.oracle.attack], ATTACKS[config.oracle.attack], {}
    elif name == "dci+refine":
        section, attack, more = config.refine, ATTACKS["rmle"], {"start": readers["dci"]}
    else:
        section, attack, more = config[name], ATTACKS[name], {}
    splits = tuple(section.get("splits", ())) or splits
    return attack(network, inputs, splits, key, folder, **settings(section), **more)


def settings(section: ConfigDict) -> dict:
    """A config section as the keyword arguments of one call."""
    return {name: value for name, value in section.items() if name != "splits"}


def floors(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What needs no features at all: the mean of the private images, and another one at random."""
    mean = np.broadcast_to(pixels.mean(0).round().astype(np.uint8), pixels.shape)
    step = np.random.default_rng(seed).integers(1, max(len(pixels), 2))
    return {"mean_image": mean, "random_image": np.roll(pixels, step, 0)}


def check(config: ConfigDict) -> Setting:
    """Load what the config names, before any work.

    Raises:
      InputError: a sentence with the value and the cure.
    """
    known = (*ATTACKS, "dci+refine")
    for name in config.attacks:
        if name not in known:
            raise InputError(f"No attack is called {name!r}; choose from: {', '.join(known)}.")
    if "dci+refine" in config.attacks and "dci" not in config.attacks:
        raise InputError(
            "The attack 'dci+refine' starts from 'dci'; name 'dci' before it in attacks."
        )
    if config.oracle.attack not in ATTACKS:
        raise InputError(
            f"oracle.attack is {config.oracle.attack!r}; choose from: {', '.join(ATTACKS)}."
        )
    for kind, _ in config.defenses:
        if kind not in DEFENSES:
            raise InputError(f"No defense is called {kind!r}; choose from: {', '.join(DEFENSES)}.")
    if config.dci.distance not in DISTANCES:
        raise InputError(
            f"dci.distance is {config.dci.distance!r}; choose from: {', '.join(DISTANCES)}."
        )
    if config.synthesis.start not in GENERATORS:
        raise InputError(
            f"synthesis.start is {config.synthesis.start!r}; choose from: {', '.join(GENERATORS)}."
        )
    for section, field in (("dci", "batch"), ("synthesis", "batch"), ("synthesis", "steps")):
        if config[section][field] < 1:
            raise InputError(f"{section}.{field} is {config[section][field]}; give at least 1.")
    network = models.load(config.target.name, config.target.weights)
    splits = tuple(config.splits) or split_names(network)
    for name in (
        *splits,
        *(name for name, _ in config.dci.conquer),
        *config.refine.splits,
        *config.rmle.splits,
        *config.inverse_network.splits,
    ):
        split_index(network, name)
    if config.dci.batch < len(network.blocks):
        raise InputError(
            f"dci.batch is {config.dci.batch}, but each of the {len(network.blocks)} split points "
            "needs an image of its own in every step; give at least that many."
        )
    fake = np.zeros((config.synthesis.batches, 0), np.uint8)
    mixture(fake, config.inputs.to_dict())
    size = network.input_shape[0]
    if config.data.images:
        private = data.load(config.data.images, size, config.data.count)
    else:
        private = data.photographs(size)
    oracle = None
    if config.oracle.images:
        oracle = data.without(
            data.load(config.oracle.images, size, flag="--config.oracle.images"), private
        )
        if len(oracle) == 0:
            raise InputError(
                f"All images of {config.oracle.images} are also evaluated; give the oracle others."
            )
    return Setting(network, private, oracle, splits)


def claim(workdir: Path, config: ConfigDict, command: str) -> None:
    """Write config.json and environment.json, or find the same config there.

    Raises:
      InputError: the workdir belongs to another config, or cannot be written.
    """
    text = json.dumps(json.loads(config.to_json_best_effort()), indent=1, sort_keys=True)
    file = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_text() != text:
            names = differences(json.loads(file.read_text()), json.loads(text))
            raise InputError(
                f"{workdir} holds a run with another config (it differs in {', '.join(names)}); "
                "give another --workdir, or the config of that run."
            )
        environment = {
            "command": command,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {platform.system()}",
            "devices": [str(device) for device in jax.devices()],
            "device_kind": jax.devices()[0].device_kind,
            **{p: version(p) for p in ("jax", "jaxlib", "flax", "optax", "numpy")},
        }
        for path, content in (
            (file, text),
            (workdir / "environment.json", json.dumps(environment, indent=1)),
        ):
            part = path.with_name(path.name + ".part")
            part.write_text(content)
            part.replace(path)
    except OSError as error:
        raise InputError(
            f"The workdir {workdir} cannot be written ({error}); give another."
        ) from error


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two nested dicts differ."""
    names = []
    for field in sorted(old.keys() | new.keys()):
        a, b = old.get(field), new.get(field)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{prefix}{field}.")
        elif a != b:
            names.append(prefix + field)
    return names


@contextlib.contextmanager
def timing(workdir: Path, stage: str) -> Iterator[None]:
    """Add a stage's wall seconds and the compiler's share of them to timing.json; resumed runs add up."""
    compiling = [0.0]

    def listen(event, seconds, **_):
        if event.startswith("/jax/core/compile"):
            compiling[0] += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.monotonic()
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        wall = time.monotonic() - start
        file = workdir / "timing.json"
        stages = json.loads(file.read_text()) if file.exists() else {}
        entry = stages.setdefault(stage, {"wall_s": 0, "compile_s": 0, "device_s": 0})
        entry["wall_s"] = round(entry["wall_s"] + wall, 2)
        entry["compile_s"] = round(entry["compile_s"] + compiling[0], 2)
        entry["device_s"] = round(entry["device_s"] + wall * jax.device_count(), 2)
        part = file.with_name("timing.json.part")
        part.write_text(json.dumps(stages, indent=1))
        part.replace(file)


def _save_originals(file: Path, images: data.Images) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, pixels=images.pixels, names=images.names, skipped=images.skipped)
    part.replace(file)
