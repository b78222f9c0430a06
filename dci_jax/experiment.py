"""The story of a run in four stages, each of which resumes: synthesize, attack, evaluate, report."""

import functools
import logging
import zlib
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax import generators, hosts, parallel, report, synthesis
from dci_jax.arm import arm
from dci_jax.evaluate import ANY_SPLIT, costs, evaluate, floor, lines, write
from dci_jax.inputs import Inputs
from dci_jax.setting import Setting, attack_names, mixture_of
from dci_jax.workdir import keep, keep_originals, present, timing

log = logging.getLogger("dci_jax")


def run(config: ConfigDict, setting: Setting, workdir: Path) -> None:
    """Audit the target and leave everything in `workdir`; the same call resumes.

    A generator has a story of its own, `generators.run`.

    Args:
      config: as in configs/default.py.
      setting: `check(config)`.
      workdir: as claimed by `claim`.
    """
    setting = on_the_mesh(setting)
    if setting.device.latent:
        return generators.run(config, setting, workdir)
    network, private, splits = setting.device, setting.private, setting.splits
    evaluation = workdir / "evaluation"
    keep_originals(evaluation / "originals.npz", private.pixels, private.names, private.skipped)
    for reason in private.skipped:
        log.warning("skipped damaged image %s", reason)
    key_synthesis, key_attack, key_defense = jax.random.split(jax.random.key(config.seed), 3)
    timed = functools.partial(timing, workdir)

    with timed("synthesize"):
        folder = present(workdir, "synthesis")
        made = synthesis.synthesize(setting.network, key_synthesis, folder, **config.synthesis)
        keep(folder / "recognised.json", lambda: recognised(setting, made, config.batch))
    inputs = Inputs(made, *mixture_of(config, network))

    rows, row = [], {"target": network.name, "seed": config.seed}
    for name, guesses in floors(private.pixels, config.seed).items():
        file = evaluation / f"{name}.npz"
        result = floor(network, private.pixels, private.labels, guesses, file, config.batch)
        rows += lines(result, private.names, split=ANY_SPLIT, attack=name, defense="none", **row)

    readers = {}
    for name in attack_names(config):
        with timed(f"attack {name}"):
            # By name, so that an attack's numbers do not depend on which others run.
            key = jax.random.fold_in(key_attack, zlib.crc32(name.encode()))
            folder = present(workdir, "attacks") / name
            readers[name] = arm(config, name, setting, inputs, readers, key, folder)
        with timed(f"evaluate {name}"):
            for split, reconstruct in readers[name].items():
                for kind, strength in config.defenses:
                    present(workdir)
                    label = kind if kind == "none" else f"{kind} {strength:g}"
                    result = evaluate(
                        network,
                        private.pixels,
                        private.labels,
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

    present(workdir)
    if hosts.leads():
        write(rows, costs(network, splits), workdir)
        with timed("report"):
            report.write(workdir)
    hosts.meet("report")
    log.info("the report is %s", workdir / "report" / "index.html")


def on_the_mesh(setting: Setting) -> Setting:
    """The same with every device holding the weights of the networks."""
    names = ("network", "device", "verifier")
    return replace(
        setting,
        **{name: parallel.put(getattr(setting, name), parallel.copied()) for name in names},
    )


def recognised(setting: Setting, images, batch: int) -> dict[str, float]:
    """Network -> share of the synthesised images that it answers with the label they were made for."""
    networks = (setting.network, *([setting.verifier] if setting.verifier else []))
    if not len(images):
        return {}
    return {n.name: synthesis.recognised(n, images, batch) for n in networks if n.head}


def floors(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What needs no features at all: the mean of the private images, and another one at random."""
    mean = np.broadcast_to(pixels.mean(0).round().astype(np.uint8), pixels.shape)
    step = np.random.default_rng(seed).integers(1, max(len(pixels), 2))
    return {"mean_image": mean, "random_image": np.roll(pixels, step, 0)}
