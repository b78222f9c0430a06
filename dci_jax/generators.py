"""The story of a run on a generator: draw codes, attack, read back codes and images, repair, report.

A generator's input is a latent code and its features end in an image; reading an input back is GAN
inversion. What the attacks learn from are codes of the prior, so no real image is needed.
"""

import functools
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax import directions, hosts, parallel, report_codes
from dci_jax.arm import arm
from dci_jax.attacks import dci, dci_trained
from dci_jax.blocks import Network, running_statistics
from dci_jax.evaluate import ANY_SPLIT, costs, features_at, lines, write
from dci_jax.evaluate_codes import (
    depths,
    evaluate_codes,
    evaluate_images,
    guess_codes,
    unlikeliness,
)
from dci_jax.files import replacing
from dci_jax.inputs import Inputs
from dci_jax.latents import DEVIATIONS, LATENTS
from dci_jax.setting import Setting, mixture_of
from dci_jax.workdir import keep_originals, present, timing

log = logging.getLogger("dci_jax")

# How a chain of inverters shows its estimates on the way, for attacks that make one.
UNWIND = {"dci": dci.unwind, "dci_trained": dci_trained.unwind}
REPAIRED = 100  # codes whose images are damaged, to be repaired
SPECTRA = 64  # codes whose Jacobian is looked at
DEFECTIVE = 0.05  # the share of the codes whose images count as the generator's defective ones


def run(config: ConfigDict, setting: Setting, workdir: Path) -> None:
    """Audit the generator and leave everything in `workdir`; the same call resumes.

    Args:
      config: as in configs/default.py.
      setting: `check(config)`, its networks on the mesh.
      workdir: as claimed by `claim`.
    """
    network, splits = setting.device, setting.splits
    last, evaluation = network.blocks[-1].name, workdir / "evaluation"
    key_codes, key_attack, key_damage = jax.random.split(jax.random.key(config.seed), 3)
    draw = LATENTS[network.latent]
    codes = np.array(draw(key_codes, config.data.count, network.input_shape))
    names = [f"code {i}" for i in range(len(codes))]
    inputs = Inputs((), *mixture_of(config, network))
    timed = functools.partial(timing, workdir)
    read = functools.partial(evaluate_codes, network, batch=config.batch, key=key_damage)
    row = {"target": network.name, "seed": config.seed}

    rows, none = [], ("none", 0.0)
    for name, guesses in floors(codes, config.seed).items():
        result = guess_codes(network, codes, guesses, evaluation / f"{name}.npz", config.batch)
        rows += lines(result, names, split=ANY_SPLIT, attack=name, defense="none", **row)
    keep_originals(evaluation / "originals.npz", result["sent"], names, ())

    readers = {}
    for name in config.attacks:
        with timed(f"attack {name}"):
            # By name, so that an attack's numbers do not depend on which others run.
            key = jax.random.fold_in(key_attack, zlib.crc32(name.encode()))
            folder = present(workdir, "attacks") / name
            readers[name] = arm(config, name, setting, inputs, readers, key, folder)
        with timed(f"evaluate {name}"):
            present(workdir)
            for split, reconstruct in readers[name].items():
                for damage in (none, *config.damages) if split == last else (none,):
                    kind, strength = damage
                    label = kind if kind == "none" else f"{kind} {strength:g}"
                    file = evaluation / name / f"{split} {label}.npz"
                    some = codes if damage == none else codes[:REPAIRED]
                    result = read(some, reconstruct, split, damage, file=file)
                    rows += lines(
                        result, names[: len(some)], split=split, attack=name, defense=label, **row
                    )
                    cosine, psnr = (float(np.mean(result[m])) for m in ("latent_cosine", "psnr"))
                    log.info("%s after %s, %s: cosine %.3f, %.2f dB", name, split, label, cosine, psnr)  # fmt: skip
            if last in readers[name]:
                file = evaluation / name / "given images.npz"
                evaluate_images(
                    network, setting.private.pixels, readers[name][last], file, config.batch
                )

    present(workdir)
    with timed("report"):
        chain = next((a for a in UNWIND if a in readers and last in readers[a]), None)
        if chain:
            file = evaluation / "blocks.npz"
            _keep(
                file, lambda: by_depth(network, codes[: config.batch], chain, readers[chain][last])
            )
        _keep(evaluation / "directions.npz", lambda: spectra(network, codes[:SPECTRA]))
        if jax.tree.leaves(running_statistics(network)):
            file = evaluation / "unlikeliness.npz"
            _keep(file, lambda: unlikely(network, codes, evaluation, last))
        if hosts.leads():
            np.savez(evaluation / "given.npz", pixels=setting.private.pixels)
            write(rows, costs(network, splits), workdir)
            report_codes.write(workdir)
    hosts.meet("report")
    log.info("the report is %s", workdir / "report" / "index.html")


def floors(codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What needs no features at all: the mean of the prior, and another private code at random."""
    step = np.random.default_rng(seed).integers(1, max(len(codes), 2))
    return {"mean_code": np.zeros_like(codes), "random_code": np.roll(codes, step, 0)}


def by_depth(
    network: Network, codes: np.ndarray, attack: str, reader: Callable
) -> dict[str, np.ndarray]:
    """`depths` of the first codes, read back from their images by the chain that `attack` made."""
    codes = parallel.put(codes, parallel.copied())
    images = features_at(network, len(network.blocks), codes)
    return depths(network, codes, UNWIND[attack](*reader.args, images))


def spectra(network: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Singular values and vectors of the image's Jacobian at these codes, which come along."""
    values, vectors = directions.spectrum(
        network, parallel.put(codes, parallel.copied()), len(network.blocks)
    )
    deviation = np.float32(DEVIATIONS[network.latent])
    return {"values": values, "vectors": vectors, "codes": codes, "deviation": deviation}


def unlikely(
    network: Network, codes: np.ndarray, evaluation: Path, last: str
) -> dict[str, np.ndarray]:
    """`unlikeliness` of the private codes ("before"), and of what each attack made of their images."""

    def score(codes):
        return unlikeliness(network, parallel.put(codes, parallel.copied()))

    files = {file.parent.name: file for file in evaluation.glob(f"*/{last} none.npz")}
    return {"before": score(codes)} | {
        name: score(np.load(file)["code"]) for name, file in files.items()
    }


def _keep(file, make):
    """An .npz of what `make` returns, made once."""
    if not hosts.agree(file.exists()):
        content = parallel.fetch(make())
        if hosts.leads():
            with replacing(file, "wb") as stream:
                np.savez(stream, **content)
        hosts.meet(file.name)
